"""Rulings for judges: cases worked by hand from the rules, properties of the simulator, and the rows that come out."""
import json
import re
from collections import Counter
from random import Random

import pytest

from shutka.core.errors import ShutkaError, UserError
from shutka.core.files import read_jsonl, write_jsonl
from shutka.faces.cli import run_command
from shutka.generate.concept_facts import count_bottom, may_cast_now
from shutka.generate.format_facts import PENALTIES, find_penalty
from shutka.generate.judge_cards import JUDGE_CARDS, JUDGE_RULES, JudgeCard, compute_mana_value, list_colours
from shutka.generate.judge_combat import Attack, assign_damage, fight_combat, find_attack_fault, find_block_fault
from shutka.generate.judge_events import AmountEffect, list_amounts, put_triggers, replace_draws
from shutka.generate.judge_layers import Characteristics, LayerEffect, apply_layers
from shutka.generate.judge_scenes import Scene, is_plain
from shutka.generate.judge_stack import StackObject, cast_spell, find_target_fault, resolve_stack
from shutka.generate.judge_table import Permanent, Seat, Table, perform_state_actions, put_into_zone
from shutka.generate.mtg import MTG_FAMILIES, generate_mtg, get_mtg_shares
from shutka.generate.play_facts import total_cost
from shutka.generate.rows import normalize_text
from shutka.generate.stack_scenes import build_stack

SPELLS = {card.name: card for card in JUDGE_CARDS['spells']}
TRIGGERS = {card.name: card for card in JUDGE_CARDS['triggers']}


def make_creature(seat: Seat, power: int, toughness: int, *keywords: str, name: str = 'A', cost: str = '{G}',
                  **fields) -> Permanent:
    card = JudgeCard(name=name, kind='creature', cost=cost, power=power, toughness=toughness, keywords=keywords)
    return Permanent(card=card, controller=seat, **fields)


def set_table(lives: tuple[int, int] = (20, 20)) -> tuple[Table, Seat, Seat]:
    a, b = (Seat(name=name, life=life) for name, life in zip(('Mira', 'Tobias'), lives))
    return Table(seats=[a, b]), a, b


def add(table: Table, *permanents: Permanent) -> Permanent:
    table.permanents += permanents
    return permanents[0]


# ---- combat, worked by hand: attacker, blockers, who lives (attacker first), life of attacker's and defender's player

COMBAT = [
    ((2, 2), [(2, 2)], [0, 0], (20, 20)),                                        # equal creatures trade
    ((3, 3), [(2, 2)], [1, 0], (20, 20)),
    ((2, 2), [(0, 4)], [1, 1], (20, 20)),
    ((0, 3), [(0, 3)], [1, 1], (20, 20)),                                        # 510.1a: no damage at all
    ((5, 5), [], [1], (20, 15)),
    ((3, 1, 'first strike'), [(4, 3)], [1, 0], (20, 20)),                        # dead before it strikes
    ((3, 1, 'first strike'), [(4, 4)], [0, 1], (20, 20)),                        # 3 is not enough
    ((3, 1, 'first strike'), [(3, 1, 'first strike')], [0, 0], (20, 20)),        # both in the first step
    ((2, 2), [(2, 2, 'first strike')], [0, 1], (20, 20)),
    ((2, 2, 'double strike'), [(3, 4)], [0, 0], (20, 20)),                       # 2 + 2 kill it, but 3 came back
    ((2, 2, 'double strike'), [(3, 2)], [1, 0], (20, 20)),
    ((2, 2), [(1, 4, 'double strike')], [0, 1], (20, 20)),                       # 1 + 1 kill the attacker
    ((3, 3, 'double strike', 'lifelink'), [], [1], (26, 14)),                    # twice 3 each way
    ((2, 2, 'double strike', 'trample'), [(1, 1)], [1, 0], (20, 17)),            # 1 + 1, then 2 with no blocker
    ((2, 2, 'double strike'), [(1, 1)], [1, 0], (20, 20)),                       # stays blocked without trample
    ((5, 5, 'trample'), [(2, 2)], [1, 0], (20, 17)),
    ((5, 5, 'trample'), [(2, 2), (3, 3)], [0, 0, 0], (20, 20)),                  # 2 + 3 and nothing left
    ((5, 5, 'trample', 'deathtouch'), [(2, 2), (3, 3)], [0, 0, 0], (20, 17)),    # 1 + 1 and 3 to the player
    ((3, 3, 'trample', 'deathtouch'), [(6, 6)], [0, 0], (20, 18)),
    ((4, 4, 'trample', 'deathtouch'), [(1, 1, 'indestructible')], [1, 1], (20, 17)),
    ((2, 2, 'trample'), [(2, 5)], [0, 1], (20, 20)),
    ((1, 1, 'deathtouch'), [(9, 9)], [0, 0], (20, 20)),
    ((1, 1, 'deathtouch'), [(4, 4, 'indestructible')], [0, 1], (20, 20)),
    ((1, 1, 'first strike', 'deathtouch'), [(6, 6)], [1, 0], (20, 20)),
    ((0, 4, 'deathtouch'), [(1, 1)], [1, 1], (20, 20)),                          # no damage, no deathtouch
    ((2, 2, 'indestructible'), [(5, 5)], [1, 1], (20, 20)),
    ((4, 4, 'lifelink'), [(2, 2)], [1, 0], (24, 20)),
          # all damage counts, not only what kills
    ((2, 2), [(3, 3, 'lifelink')], [0, 1], (20, 23)),
    ((6, 6, 'trample', 'lifelink'), [(2, 2)], [1, 0], (26, 16)),
    ((3, 3, 'infect'), [(4, 4)], [0, 1], (20, 20)),                              # three -1/-1 counters: a 1/1 is left
    ((4, 4, 'infect'), [(4, 4)], [0, 0], (20, 20)),
    ((3, 3), [(2, 2, 'wither')], [1, 0], (20, 20)),                              # a 1/1 is left
    ((2, 2, 'wither'), [], [1], (20, 18)),                                       # wither is nothing to players
    ((5, 5), [(1, 2, 'protection from green')], [1, 1], (20, 20)),               # prevented
    ((5, 5, 'trample'), [(1, 2, 'protection from green')], [1, 1], (20, 17)),    # lethal is assigned all the same
    ((3, 3, 'menace'), [(2, 2), (2, 2)], [0, 0, 1], (20, 20)),                   # 2 and then 1
    ((7, 7), [(3, 3), (3, 3)], [1, 0, 0], (20, 20)),                             # 3 and then 4
    ((2, 5, 'deathtouch'), [(1, 4), (1, 4)], [1, 0, 0], (20, 20)),               # one each
    ((6, 6), [(2, 2), (2, 2), (2, 2)], [0, 0, 0, 0], (20, 20)),
]


@pytest.mark.parametrize('attacker, blockers, alive, lives', COMBAT)
def test_combat(attacker, blockers, alive, lives):
    table, a, b = set_table()
    first = make_creature(a, *attacker)
    others = [make_creature(b, *blocker, name=f'B{i}') for i, blocker in enumerate(blockers)]
    add(table, first, *others)
    fight_combat(table, [Attack(attacker=first, defender=b, blockers=others)])
    assert [int(p.in_play) for p in table.permanents] == alive
    assert (a.life, b.life) == lives


def test_infect_gives_poison_and_takes_no_life():
    table, a, b = set_table()
    attacker = add(table, make_creature(a, 3, 3, 'infect'))
    fight_combat(table, [Attack(attacker=attacker, defender=b)])
    assert (b.life, b.poison, b.lost) == (20, 3, False)


def test_damage_marked_before_counts_for_trample():
    table, a, b = set_table()
    attacker, blocker = make_creature(a, 5, 5, 'trample'), make_creature(b, 4, 4, damage=2)
    assert [n for _, n in assign_damage(Attack(attacker=attacker, defender=b, blockers=[blocker]))] == [2, 3]


@pytest.mark.parametrize('keywords, life', [((), 20), (('trample',), 15)])
def test_a_blocked_creature_stays_blocked_when_its_blocker_is_gone(keywords, life):
    table, a, b = set_table()
    attacker, blocker = make_creature(a, 5, 5, *keywords), make_creature(b, 2, 2)
    add(table, attacker, blocker)
    put_into_zone(table, blocker, 'exile', 'It is exiled')
    fight_combat(table, [Attack(attacker=attacker, defender=b, blockers=[blocker])])
    assert b.life == life


@pytest.mark.parametrize('keywords, life, lost', [((), 1, False), (('first strike',), -1, True)])
def test_lifelink_saves_a_player_only_in_the_same_step(keywords, life, lost):
    "At 2 life: 3 damage and 2 life gained at once leave 1; first strike kills before the gain."
    table, a, b = set_table((20, 2))
    big, small, healer = make_creature(a, 3, 3, *keywords), make_creature(a, 2, 2), make_creature(b, 2, 2, 'lifelink')
    add(table, big, small, healer)
    fight_combat(table, [Attack(attacker=big, defender=b), Attack(attacker=small, defender=b, blockers=[healer])])
    assert (b.life, b.lost) == (life, lost)


@pytest.mark.parametrize('attacker, blockers, rule', [
    (('flying',), [()], '702.9b'), (('flying',), [('reach',)], None), (('flying',), [('flying',)], None),
        ((), [('flying',)], None),
    (('flying',), [('flying',), ()], '702.9b'), (('menace',), [()], '702.111b'), (('menace',), [(), ()], None),
    (('flying', 'menace'), [('flying',)], '702.111b'), (('protection from green',), [()], '702.16f'),
    (('protection from red',), [()], None), ((), [('defender',)], None)])
def test_blocks(attacker, blockers, rule):
    _, a, b = set_table()
    fault = find_block_fault(make_creature(a, 2, 2, *attacker), [make_creature(b, 2, 2, *blocker)
            for blocker in blockers])
    assert (fault and fault[1]) == rule


@pytest.mark.parametrize('keywords, is_new, is_tapped, rule', [
    ((), False, False, None), ((), True, False, '302.6'), (('haste',), True, False, None),
        (('defender',), False, False, '702.3b'),
    (('defender', 'haste'), True, False, '702.3b'), ((), False, True, '508.1a'),
        (('vigilance',), True, False, '302.6')])
def test_attacks(keywords, is_new, is_tapped, rule):
    fault = find_attack_fault(make_creature(set_table()[1], 2, 2, *keywords), is_new, is_tapped)
    assert (fault and fault[1]) == rule


# ---- the stack

def test_a_pump_in_response_saves():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 2, 2))
    cast_spell(table, SPELLS['Scald Dart'], a, (creature,))          # 3 damage
    cast_spell(table, SPELLS['Hardbark Surge'], b, (creature,))      # +3/+3 first
    resolve_stack(table)
    assert creature.in_play and (creature.toughness, creature.damage) == (5, 3)


def test_damage_in_response_to_a_pump_kills_and_the_pump_does_nothing():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 2, 2))
    pump = cast_spell(table, SPELLS['Hardbark Surge'], b, (creature,))
    cast_spell(table, SPELLS['Scald Dart'], a, (creature,))
    order = resolve_stack(table)
    assert not creature.in_play and order[-1] is pump and 'does not resolve' in table.steps[-1].text


@pytest.mark.parametrize('counters, life', [(0, 17), (1, 20), (2, 17), (3, 20), (4, 17)])
def test_each_counterspell_undoes_the_one_before(counters, life):
    table, a, b = set_table()
    names = ['Quiet Refusal', 'Unspoken Word', 'Flat Denial', 'Quiet Refusal']
    spell, seats = cast_spell(table, SPELLS['Scald Dart'], a, (b,)), [b, a]
    for i in range(counters): spell = cast_spell(table, SPELLS[names[i]], seats[i % 2], (spell,))
    resolve_stack(table)
    assert b.life == life


def test_two_counterspells_for_one_spell_the_second_to_resolve_has_no_target():
    table, a, b = set_table()
    dart = cast_spell(table, SPELLS['Scald Dart'], a, (b,))
    slow = cast_spell(table, SPELLS['Flat Denial'], b, (dart,))      # would draw a card
    cast_spell(table, SPELLS['Quiet Refusal'], b, (dart,))
    assert resolve_stack(table)[-1] is slow and (b.life, b.drawn) == (20, 0)


def test_a_target_sacrificed_in_response_takes_the_whole_spell_along():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 2, 2))
    cast_spell(table, SPELLS['Grave Levy'], a, (creature,))          # destroy, and gain 2
    cast_spell(table, SPELLS['Last Bargain'], b, sacrificed=creature)
    assert creature.zone == 'graveyard'                              # a cost is paid at once
    resolve_stack(table)
    assert (a.life, b.drawn) == (20, 2)


@pytest.mark.parametrize('gone, damage', [(1, [None, 3]), (2, [None, None])])
def test_some_or_all_of_two_targets_gone(gone, damage):
    table, a, b = set_table()
    creatures = [make_creature(b, 4, 4, name=f'B{i}') for i in range(2)]
    add(table, *creatures)
    cast_spell(table, SPELLS['Forkwise Blaze'], a, tuple(creatures))
    for creature, name in zip(creatures[:gone], ('Swift Eviction', 'Pale Oubliette')):
        cast_spell(table, SPELLS[name], b, (creature,))
    resolve_stack(table)
    assert [p.damage if p.in_play else None for p in creatures] == damage


def test_hexproof_in_response_stops_opponents_only():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 2, 2))
    cast_spell(table, SPELLS['Snuff Short'], a, (creature,))
    cast_spell(table, SPELLS['Oaken Brace'], b, (creature,))         # +1/+1 by its own controller
    cast_spell(table, SPELLS['Slipglass Veil'], b, (creature,))      # hexproof
    resolve_stack(table)
    assert creature.in_play and creature.power == 3


def test_indestructible_in_response_to_destruction():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 2, 2))
    cast_spell(table, SPELLS['Grave Levy'], a, (creature,))
    cast_spell(table, SPELLS['Ivory Mantle'], b, (creature,))
    resolve_stack(table)
    assert creature.in_play and a.life == 22                         # it resolves, it only destroys nothing


def test_toughness_zero_kills_what_is_indestructible():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 3, 3, 'indestructible'))
    cast_spell(table, SPELLS['Marrow Chill'], a, (creature,))
    resolve_stack(table)
    assert not creature.in_play


def test_who_dies_first_has_lost():
    table, a, b = set_table((3, 3))
    cast_spell(table, SPELLS['Scald Dart'], a, (b,))
    cast_spell(table, SPELLS['Glowing Rebuke'], b, (a,))
    assert len(resolve_stack(table)) == 1 and (a.lost, b.lost, b.life) == (True, False, 3) and len(table.stack) == 1


def test_life_gained_in_response():
    table, a, b = set_table((20, 3))
    cast_spell(table, SPELLS['Scald Dart'], a, (b,))
    cast_spell(table, SPELLS['Spring of Ease'], b)
    resolve_stack(table)
    assert (b.life, b.lost) == (4, False)


def test_drain_takes_and_gives():
    table, a, b = set_table()
    cast_spell(table, SPELLS['Bitter Tithe'], a, (b,))
    resolve_stack(table)
    assert (a.life, b.life) == (23, 17)


def test_a_wave_hits_everybody_but_what_is_protected():
    table, a, b = set_table()
    add(table, make_creature(a, 2, 2), make_creature(b, 3, 3), make_creature(b, 1, 1, 'protection from red'),
        make_creature(b, 1, 1, 'hexproof'))
    cast_spell(table, SPELLS['Kilnburst Wave'], a)                   # red, 2 to each creature, no targets
    resolve_stack(table)
    assert [p.in_play for p in table.permanents] == [False, True, True, False]


def test_counters_of_both_kinds_go_in_pairs():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 2, 2))
    cast_spell(table, SPELLS['Rotbrand'], a, (creature,))            # one -1/-1
    cast_spell(table, SPELLS['Rising Loam'], b, (creature,))         # two +1/+1 first
    resolve_stack(table)
    assert (creature.plus, creature.minus, creature.power) == (1, 0, 3)


def test_a_spell_whose_only_target_is_bounced_draws_no_card():
    table, a, b = set_table()
    creature = add(table, make_creature(b, 2, 2))
    cast_spell(table, SPELLS['Undertow Tug'], a, (creature,))
    cast_spell(table, SPELLS['Swift Eviction'], b, (creature,))
    resolve_stack(table)
    assert (creature.zone, a.drawn) == ('hand', 0)


def test_drawing_from_an_empty_library_loses():
    table, a, b = set_table()
    a.library = 1
    cast_spell(table, SPELLS['Lowtide Reading'], a)
    resolve_stack(table)
    assert a.lost and a.drawn == 1


def test_a_stolen_creature_goes_to_its_owner():
    table, a, b = set_table()
    creature = add(table, make_creature(a, 2, 2, owner=b))
    cast_spell(table, SPELLS['Swift Eviction'], a, (creature,))
    resolve_stack(table)
    assert "Tobias's hand" in table.steps[-1].text


@pytest.mark.parametrize('spell, targets, caster, message', [
    ('Bitter Tithe', 'player', 1, 'is a sorcery'), ('Scald Dart', 'hexproof', 0, 'has hexproof'),
        ('Scald Dart', 'shroud', 1, 'has shroud'),
    ('Scald Dart', 'protected', 1, 'protection from red'), ('Forkwise Blaze', 'twice', 0, 'different targets'),
        ('Scald Dart', 'none', 0, '1 targets, got 0'),
    ('Spring of Ease', 'player', 0, '0 targets, got 1')])
def test_what_may_not_be_cast(spell, targets, caster, message):
    table, a, b = set_table()
    creatures = {'hexproof': make_creature(b, 2, 2, 'hexproof'), 'shroud': make_creature(b, 2, 2, 'shroud'),
                 'protected': make_creature(b, 2, 2, 'protection from red'), 'plain': make_creature(b, 2, 2)}
    add(table, *creatures.values())
    chosen = {'player': (a,), 'none': (), 'twice': (creatures['plain'],) * 2}.get(targets) or (creatures[targets],
            ) if targets != 'none' else ()
    with pytest.raises(ShutkaError, match=message): cast_spell(table, SPELLS[spell], table.seats[caster], chosen)


# ---- state-based actions

def test_the_legend_rule_looks_at_one_player_and_one_name():
    table, a, b = set_table()
    one, two = JUDGE_CARDS['legends'][:2]
    add(table, *(Permanent(card=card, controller=seat) for card, seat in ((one, a), (one, a), (one, b), (two, a))))
    table.kept = [table.permanents[1]]
    perform_state_actions(table)
    assert [p.in_play for p in table.permanents] == [False, True, True, True]


@pytest.mark.parametrize('fields, stays', [
    (dict(damage=3), False), (dict(damage=2), True), (dict(damage=9, gained={'indestructible'}), True),
        (dict(minus=3), False),
    (dict(minus=3, gained={'indestructible'}), False), (dict(minus=3, plus=1), True), (dict(extra_toughness=-3), False),
    (dict(damage=2, extra_toughness=-1), False), (dict(damage=1, touched=True), False), (dict(damage=4, plus=2), True),
    (dict(damage=1, touched=True, gained={'indestructible'}), True)])
def test_a_three_three(fields, stays):
    table, a, _ = set_table()
    creature = add(table, make_creature(a, 3, 3, **fields))
    perform_state_actions(table)
    assert creature.in_play == stays


@pytest.mark.parametrize('fields, lost', [
    (dict(life=0), True), (dict(life=-3), True), (dict(life=1), False), (dict(poison=10), True),
        (dict(poison=9), False), (dict(missed=True), True),
    (dict(library=0), False)])
def test_a_player(fields, lost):
    seat = Seat(name='Mira', **fields)
    perform_state_actions(Table(seats=[seat, Seat(name='Tobias')]))
    assert seat.lost == lost


def test_both_at_once_is_a_draw():
    table, *_ = set_table((0, -2))
    perform_state_actions(table)
    assert all(seat.lost for seat in table.seats) and '104.4a' in table.list_rules()


def test_a_bonus_that_ends_leaves_the_damage():
    table, a, _ = set_table()
    creature = add(table, make_creature(a, 2, 2, damage=3, extra_toughness=2))
    assert not perform_state_actions(table)
    creature.extra_toughness = 0
    perform_state_actions(table)
    assert not creature.in_play


def test_a_token_and_a_planeswalker():
    table, a, _ = set_table()
    token = add(table, Permanent(card=JudgeCard(name='T', kind='creature', power=1, toughness=1, token=True),
                                 controller=a))
    walker = add(table, Permanent(card=JUDGE_CARDS['planeswalkers'][0], controller=a, loyalty=0))
    put_into_zone(table, token, 'hand', 'It leaves')
    perform_state_actions(table)
    assert token.zone == 'nowhere' and walker.zone == 'graveyard'


# ---- layers, worked by hand: printed, effects in the order of time, result

def at(layer: str, power: int = 0, toughness: int = 0, **more) -> LayerEffect:
    return LayerEffect(layer=layer, name=layer, power=power, toughness=toughness, **more)


@pytest.mark.parametrize('printed, effects, size', [
    ((1, 4), [at('7d')], (4, 1)),
    ((1, 4), [at('7c', 1, 1), at('7d')], (5, 2)),
    ((1, 4), [at('7d'), at('7c', 3, 0)], (4, 4)),                                # first 4/4, then switched
    ((2, 3), [at('7d'), at('7d')], (2, 3)),
    ((5, 5), [at('7c', 2, 2), at('7b', 0, 1)], (2, 3)),                          # set first, although it came later
    ((2, 2), [at('7b', 3, 3), at('7b', 1, 1)], (1, 1)),                          # the later one
    ((2, 2), [at('7b', 1, 1), at('7b', 3, 3), at('7c', 1, 0)], (4, 3)),
    ((0, 0), [at('7b', 1, 1), at('7a', 4, 4)], (1, 1)),                          # 7a before 7b
    ((0, 0), [at('7a', 3, 3), at('7c', 1, 1)], (4, 4)),
    ((3, 3), [at('7d'), at('7c', -2, 0)], (3, 1)),
    ((3, 5), [at('7c', 1, 1), at('7c', 2, 0), at('7d'), at('7b', 1, 1)], (2, 4)),
    ((2, 2), [at('7c', 1, 1, needs='green'), at('5', makes='green')], (3, 3)),
    ((2, 2), [at('7c', 1, 1, needs='flying'), at('6', removes_all=True)], (2, 2)),
    ((2, 2), [at('7c', 1, 1, needs='flying'), at('6', makes='flying')], (3, 3))])
def test_layers(printed, effects, size):
    found, _ = apply_layers(Characteristics(power=printed[0], toughness=printed[1], keywords={'flying'}
            if 'removes' in str(effects) and any(
        e.removes_all for e in effects) else set()), effects)
    assert (found.power, found.toughness) == size


# ---- replacement, prevention, triggers

DOUBLE, PLUS, LESS, HALF = (AmountEffect(*row) for row in (('D', 'damage', 'double', 2), ('P', 'damage', 'add', 1),
        ('L', 'damage', 'less', 2),
                                                          ('H', 'damage', 'halve', 2)))


@pytest.mark.parametrize('n, effects, results', [
    (3, [DOUBLE, PLUS], [7, 8]), (2, [DOUBLE, LESS], [2, 0]), (5, [HALF, DOUBLE], [4, 5 * 2 // 2]),
        (1, [LESS, PLUS], [0, 0]),
    (1, [DOUBLE, AmountEffect('E', 'damage', 'double', 2)], [4, 4]), (1, [HALF, PLUS], [0, 1]),
        (4, [LESS, HALF], [1, 0])])
def test_orders_of_replacement(n, effects, results):
    assert [amounts[-1] for amounts in list_amounts(n, effects).values()] == results


@pytest.mark.parametrize('n, effects, found', [
    (1, [], (1, 0)), (1, ['double'], (2, 0)), (3, ['double', 'double'], (12, 0)), (2, ['gain'], (0, 4)),
        (1, ['double', 'gain'], (0, 4)),
    (1, ['gain', 'double'], (0, 2))])
def test_draws(n, effects, found):
    assert replace_draws(n, effects, 2) == found


def test_triggers_go_on_the_stack_in_turn_order():
    seats = [Seat(name=name) for name in 'ABC']
    cards = list(TRIGGERS.values())
    table = Table(seats=seats)
    put_triggers(table, [(seats[2], cards[0]), (seats[0], cards[1]), (seats[1], cards[2]), (seats[0], cards[3])])
    order = [(ability.controller.name, ability.card.name) for ability in resolve_stack(table)]
    assert order == [('C', cards[0].name), ('B', cards[2].name), ('A', cards[3].name), ('A', cards[1].name)]


def test_the_trigger_of_the_other_player_resolves_first_and_may_end_the_game():
    table, a, b = set_table((1, 1))
    put_triggers(table, [(a, TRIGGERS['Ledger of Debts']), (b, TRIGGERS['Bellows of Kiln Row'])])
    resolve_stack(table)
    assert (a.lost, b.lost) == (True, False)


# ---- small rules and the table of penalties

@pytest.mark.parametrize('cost, x, value, colours', [
    ('{3}{W}{W}', 0, 5, ['white']), ('{X}{R}', 4, 5, ['red']), ('{X}{R}', 0, 1, ['red']),
        ('{X}{X}{G}', 3, 7, ['green']), ('{W/U}', 0, 1, ['white', 'blue']),
    ('{2/B}{2/B}', 0, 4, ['black']), ('{1}{G/P}', 0, 2, ['green']), ('{4}', 0, 4, []), ('', 0, 0, [])])
def test_mana_value_and_colours(cost, x, value, colours):
    assert (compute_mana_value(cost, x), list_colours(cost)) == (value, colours)


@pytest.mark.parametrize('mulligans, players, cards', [(0, 2, 0), (1, 2, 1), (3, 2, 3), (0, 4, 0), (1, 4, 0),
        (3, 3, 2)])
def test_mulligans(mulligans, players, cards): assert count_bottom(mulligans, players) == cards


@pytest.mark.parametrize('case, allowed', [
    (('instant', 'end step', False, False), True), (('sorcery', 'second main phase', True, True), True),
        (('sorcery', 'first main phase', False, True), False),
    (('creature', 'first main phase', True, False), False), (('creature', 'draw step', False, False, True), True),
        (('artifact', 'upkeep step', True, True), False)])
def test_timing(case, allowed): assert may_cast_now(*case) == allowed


def test_reductions_leave_coloured_mana():
    assert [total_cost(*case) for case in ((2, 2, 0, 5), (2, 1, 3, 1), (0, 1, 0, 1))] == [(0, 2), (4, 1), (0, 1)]


@pytest.mark.parametrize('name, level, before, penalty', [
    ('Game Rule Violation', 'Competitive', 0, 'Warning'), ('Game Rule Violation', 'Professional', 1, 'Warning'),
        ('Game Rule Violation', 'Competitive', 2, 'Game Loss'),
    ('Slow Play', 'Competitive', 1, 'Game Loss'), ('Missed Trigger', 'Competitive', 0, 'No penalty'),
        ('Outside Assistance', 'Professional', 0, 'Match Loss'),
    ('Failure to Maintain Game State', 'Competitive', 2, 'Warning'), ('Game Rule Violation', 'Regular', 2,
        'No penalty'),
    ('Unsporting Conduct: Cheating', 'Regular', 0, 'Disqualification'), ('Tardiness', 'Competitive', 0, 'Game Loss')])
def test_penalties(name, level, before, penalty):
    infraction = next(p for p in PENALTIES if p['name'] == name)
    assert find_penalty(infraction, level, before) == penalty


# ---- properties

def draw_fight(seed: int) -> tuple[Table, list[Attack]]:
    scene = Scene(Random(seed))
    table = Table(seats=[Seat(name='Mira', life=100), Seat(name='Tobias', life=100)])
    attacks = []
    for _ in range(scene.number(1, 3)):
        attacker = scene.creature(table.seats[0], lambda card: is_plain(card) and 'lifelink' not in card.keywords)
        blockers = [scene.creature(table.seats[1], lambda card: is_plain(card) and 'lifelink' not in card.keywords)
                    for _ in range(scene.number(0, 2))]
        if blockers and find_block_fault(attacker, blockers): blockers = []
        attacks.append(Attack(attacker=attacker, defender=table.seats[1], blockers=blockers))
        table.permanents += [attacker, *blockers]
    return table, attacks


def test_life_lost_is_damage_dealt():
    for seed in range(300):
        table, attacks = draw_fight(seed)
        fight_combat(table, attacks)
        dealt = sum(int(n) for step in table.steps for n in re.findall(r'deals (\d+) damage to Tobias,', step.text))
        assert table.seats[1].life == 100 - dealt and table.seats[0].life == 100


def test_nothing_is_left_that_should_be_gone():
    for seed in range(300):
        table, attacks = draw_fight(seed)
        fight_combat(table, attacks)
        for creature in table.creatures:
            assert creature.toughness > 0 and (creature.damage < creature.toughness
                                               or 'indestructible' in creature.keywords)


def test_what_was_cast_last_resolves_first():
    for seed in range(200):
        table, spells, _ = build_stack(Scene(Random(seed)), 2 + seed % 5)
        places = [spells.index(spell) for spell in resolve_stack(table)]
        assert places == sorted(places, reverse=True) and len(places) >= 1


def test_life_totals_in_the_steps_follow_each_other():
    for seed in range(200):
        table, _, _ = build_stack(Scene(Random(seed)), 2 + seed % 5)
        lives = {seat.name: seat.life for seat in table.seats}
        resolve_stack(table)
        for step in table.steps:
            for name in lives:
                found = re.search(rf'{name} (?:gains \d+ life|loses \d+ life|, who goes)?.*?from (-?\d+) to (-?\d+) '
                                  r'life', step.text)
                if found and len(re.findall('from', step.text)) == 1:
                    assert int(found[1]) == lives[name]
                    lives[name] = int(found[2])


# ---- the rows

@pytest.fixture(scope='module')
def rows(): return generate_mtg(3_000, seed=0, include_advanced=True)


@pytest.mark.parametrize('n, advanced', [(1_000, False), (1_000, True), (3_000, False), (3_000, True)])
def test_as_many_as_were_asked_for_in_their_shares(n, advanced):
    found, other = generate_mtg(n, 0, advanced), {row['input'] for row in generate_mtg(n, 1, advanced)}
    assert len(found) == len({row['input'] for row in found}) == len({normalize_text(row['input'])
            for row in found}) == n
    assert sum(row['input'] in other for row in found) < .05 * n
    counts = Counter(row['category'] for row in found)
    assert all(abs(counts[name] / n - share) < .01 for name, share in get_mtg_shares(advanced).items())
    assert counts.keys() == get_mtg_shares(advanced).keys()


def test_the_same_for_the_same_seed(rows):
    assert generate_mtg(3_000, seed=0, include_advanced=True) == rows


def test_one_question_has_one_answer_in_all_seeds():
    answers = {}
    for seed in range(8):
        for row in generate_mtg(3_000, seed, True):
            assert answers.setdefault(normalize_text(row['input']), row['output']) == row['output'], row['input']


def test_wordings_share_their_answer(rows):
    groups = Counter((row['category'], row['output']) for row in rows)
    assert sum(count >= 3 for count in groups.values()) > .9 * len(groups)


def test_every_family_and_every_section_of_the_rules(rows):
    assert {row['family'] for row in rows} == {family.__name__ for families in MTG_FAMILIES.values()
            for family in families}
    sections = {rule[0] for row in rows for rule in row['rules'] if rule[0].isdigit()}
    assert sections == set('123456789')


def test_the_rules_that_are_cited_stand_in_the_answer(rows):
    for row in rows:
        assert row['rules'] and row['difficulty'] in ('easy', 'medium', 'hard')
        for rule in row['rules']:
            if rule[0].isdigit(): assert rule in JUDGE_RULES and f'({rule})' in row['output']


def test_sentences_are_whole(rows):
    for row in rows:
        text = f"{row['input']} {row['output']}"
        assert row['input'][0].isupper() or row['input'].startswith('{'), row['input']
        assert row['input'][-1] in '.?' and row['output'].endswith('.'), text
        assert not re.search(r'  |None|\.\.|\{[a-z_]+\}| ,|[.?!] [a-z]|<|\bits\'', text), text


def test_stacks_have_two_to_six_spells(rows):
    sizes = Counter(len(re.findall(r'\} (?:instant|sorcery): ', row['input'])) for row in rows
                    if row['category'] in ('stack_interaction', 'complex_stack'))
    assert sizes.keys() == {2, 3, 4, 5, 6}


def test_answers_follow_from_the_words_of_the_question(rows):
    "Some families, computed anew from what the question says."
    seen = Counter()
    for row in rows:
        text, answer, family = row['input'], row['output'], row['family']
        if family == 'trample_over':
            power = int(re.search(r'has (\d+) power', answer)[1])
            needs = [int(n) for n in re.findall(r'\(a -?\d+/(\d+) ', text)][1:]
            touch = 'trample and deathtouch' in text
            assert 'strike' not in ' '.join(re.findall(r'\([^)]*\)', text)[1:]), text   # it would hit first
            assert int(answer.split('.')[0]) == max(0, power - sum(min(1, n) if touch else n for n in needs)), text
        elif family == 'use_shield':
            life, shield = (int(n) for n in re.search(r'is at (\d+) life.*next (\d+) damage', text).groups())
            hits = sum(int(n) for n in re.findall(r'(\d+) damage', text.split('Then ')[1]))
            assert f'is at {life - max(0, hits - shield)} life' in answer
        elif family == 'pay_commander_tax':
            base = int(re.search(r'mana cost \{(\d)\}', text)[1])
            words = re.search(r'(once|twice|three times|four times) from the command zone', text)
            times = {'once': 1, 'twice': 2, 'three times': 3, 'four times': 4}[words[1]] if words else 0
            assert f'It costs {{{base + 2 * times}}}' in answer
        elif family == 'share_poison':
            one, two = (int(n) for n in re.search(r'given (\d+) poison.*?, (\d+)\.', text).groups())
            assert answer.startswith('Yes.') == (one + two >= 15)
        elif family == 'hit_player' and 'strike' not in text and 'lifelink' not in text:
            life = [int(n) for n in re.findall(r'is at (\d+) life', text)][1]
            powers = [int(n) for n in re.findall(r'\(a (\d+)/', text)]
            assert f'at {life - sum(powers)}.' in answer
        else: continue
        seen[family] += 1
    assert len(seen) == 5 and min(seen.values()) >= 6, seen


def test_too_many_is_said():
    with pytest.raises(UserError, match='1 or more'): generate_mtg(0)


@pytest.mark.faults
def test_thirty_thousand_rows_of_each_kind():
    for advanced in (False, True):
        many = generate_mtg(30_000, 5, advanced)
        assert len({normalize_text(row['input']) for row in many}) == 30_000


def test_cards_have_names_of_their_own():
    names = [card.name for kind in ('creatures', 'legends', 'spells', 'triggers', 'anthems', 'planeswalkers')
             for card in JUDGE_CARDS[kind]]
    names += [row[0] for row in JUDGE_CARDS['amounts']]
    assert len(names) == len(set(names)) == 160


def test_the_command(tmp_path, capsys):
    path = tmp_path/'mtg.jsonl'
    command = ['generate', 'mtg', '-o', str(path), '--num-examples', '60', '--seed', '4', '--include-advanced']
    assert run_command(command) == 0
    assert '60 rows, all different' in capsys.readouterr().out
    assert list(read_jsonl(path)) == json.loads(json.dumps(generate_mtg(60, 4, True)))
    assert run_command(command) == 2 and 'exists already' in capsys.readouterr().err


def test_the_rows_can_be_learned_from(rows, tmp_path):
    from shutka.data.examples import read_examples
    write_jsonl(tmp_path/'rows.jsonl', rows[:50])
    assert len(read_examples(tmp_path/'rows.jsonl')) == 50


# ---- the same questions for another rules engine

def make_facts(creatures: list[tuple[str, Permanent]], **more) -> dict:
    "A state of python-mtg, which knows a game as relations."
    facts = {'current_step': {('combat_damage',)}, 'active_player': {('Mira',)}, 'is_player': {('Mira',), ('Tobias',)},
             'life': {('Mira', 20), ('Tobias', 20)},
             'on_battlefield': {(name,) for name, _ in creatures}, 'printed_control': {(p.controller.name, name)
            for name, p in creatures},
             'printed_type': {(name, 'creature') for name, _ in creatures},
             'printed_power': {(name, p.card.power) for name, p in creatures},
             'printed_toughness': {(name, p.card.toughness) for name, p in creatures},
             'printed_keyword': {(name, keyword.replace(' ', '_')) for name, p in creatures for keyword in p.keywords},
             'protection_from': {(name, keyword.split()[-1]) for name, p in creatures for keyword in p.keywords
                                 if keyword.startswith('protection')}}
    return facts | more


@pytest.mark.faults
def test_another_rules_engine_agrees():
    """python-mtg on blocks, deaths in combat, layer 7 and targets, as far as it models them.

    Its combat has one damage step and no trampling over, its blocks and damage know no protection, and it keeps an
    indestructible creature without toughness (against 704.5f): such cases are left out.
    """
    driver = pytest.importorskip('mtg.driver')
    random, compared = Random(0), Counter()
    cards = [card for card in JUDGE_CARDS['creatures'] if is_plain(card)]
    for _ in range(400):
        a, b = Seat(name='Mira'), Seat(name='Tobias')
        x, y = (Permanent(card=card, controller=seat) for card, seat in zip(random.sample(cards, 2), (a, b)))
        every = x.keywords | y.keywords
        if any(keyword.startswith('protection') for keyword in every): continue
        found = driver.run(make_facts([('x', x), ('y', y)], attacks={('x', 'Tobias')}, blocks={('y', 'x')}),
                           ['illegal_block', 'dies'])
        assert bool(found['illegal_block']) == bool(find_block_fault(x, [y])), (x.card, y.card)
        compared['block'] += 1
        if found['illegal_block'] or {'first strike', 'double strike', 'defender'} & every: continue
        fight_combat(Table(seats=[a, b], permanents=[x, y]), [Attack(attacker=x, defender=b, blockers=[y])])
        assert {name for name, in found['dies']} == {name for name, p in (('x', x), ('y', y))
                if not p.in_play}, (x.card, y.card)
        compared['death'] += 1
    for _ in range(400):
        x = Permanent(card=random.choice(cards), controller=Seat(name='Mira'), plus=random.randint(0, 3))
        sets = [(random.randint(0, 6), random.randint(1, 6)) for _ in range(random.randint(0, 2))]
        switches, bonus = random.randint(0, 2), (random.randint(0, 4), random.randint(0, 4))
        effects = [at('7d')] * switches + [at('7c', x.plus, x.plus), at('7c', *bonus)] + [at('7b', *size)
                for size in sets]
        mine, _ = apply_layers(Characteristics(power=x.card.power, toughness=x.card.toughness), effects)
        found = driver.run(make_facts(
            [('x', x)], counter={('x', 'p1p1', x.plus)} if x.plus else set(), mod_power={('x', bonus[0])},
                                      mod_toughness={('x', bonus[1])},
            eff_set_power={(f'e{i}', 'x', p, i) for i, (p, _) in enumerate(sets)},
                                      eff_set_toughness={(f'e{i}', 'x', t, i) for i, (_, t) in enumerate(sets)},
            eff_switch_pt={(f's{i}', 'x') for i in range(switches)}), ['power', 'eff_toughness'])
        assert ({int(n) for _, n in found['power']}, {int(n) for _, n in found['eff_toughness']}) == ({mine.power},
                {mine.toughness}), effects
        compared['layers'] += 1
    for _ in range(200):
        a = Seat(name='Mira')
        x = Permanent(card=random.choice([card for card in cards if {'shroud'} & set(card.keywords)
                                          or 'protection' in str(card.keywords)]), controller=a)
        card = random.choice([card for card in SPELLS.values() if card.effect['do'] == 'destroy'
                              or card.effect.get('at') == 'creature'])
        spell = StackObject(card=card, controller=a, targets=[x])
        found = driver.run(make_facts([('x', x)], on_stack={('s', 1)}, targets={('s', 'x')},
                                      spell_color={('s', c) for c in card.colours}), ['fizzles', 'stack_top'])
        assert bool(found['fizzles']) == bool(find_target_fault(Table(seats=[a], permanents=[x]), spell, x)), (x.card,
                card)
        compared['target'] += 1
    assert compared['death'] > 100 and compared['layers'] == 400 and compared['target'] == 200
