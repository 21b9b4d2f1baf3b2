"""Scenes as folders, and what a vision model is measured by: retrieval, answers, confusion, decodes saved."""
import re
from collections import Counter, defaultdict
from itertools import permutations

import numpy as np
import pytest

from shutka.core.errors import UserError
from shutka.core.files import read_jsonl
from shutka.core.metrics import resample_groups
from shutka.vision.answer_scores import measure_answers, score_exact, score_token_f1
from shutka.vision.confusion_scores import (
    bootstrap_auroc,
    choose_threshold,
    describe_confusion,
    measure_auroc,
    measure_confusion,
    measure_injection,
)
from shutka.vision.manifest import VISION_FILE, open_picture, read_vision_manifest
from shutka.vision.retrieval_baselines import fit_ridge, fit_text_vectors, rank_partners
from shutka.vision.retrieval_controls import describe_controls, draw_strangers, measure_controls
from shutka.vision.scene_files import (
    CONFUSIONS,
    FRAMES_FILE,
    SCENE_GROUPS,
    read_film,
    write_film,
    write_scenes,
)
from shutka.vision.scene_questions import NO_ANSWER, RELATIONS, SceneQuestion
from shutka.vision.scenes import COLOURS, HELD_OUT_PAIRS, PLACES, SHAPES, DrawnScene, Thing
from shutka.vision.selective_decoding import (
    FilmEmbeddings,
    compare_decoding,
    count_standing,
    follow_changes,
    match_frames,
    tabulate_decoding,
    trace_decoding,
)

NAMES = [f'{colour} {shape}' for colour in COLOURS for shape in SHAPES]
HELD_NAMES = {' '.join(pair) for pair in HELD_OUT_PAIRS}


class Nth:
    "In place of a random generator: always takes the same one."
    def __init__(self, n: int): self.n = n
    def choice(self, options): return options[self.n % len(options)]


def read_caption(text: str) -> DrawnScene:
    "The scene that a caption describes."
    found = re.findall(rf"a (small|large) (\w+) (\w+) (?:at the ({'|'.join(sorted(PLACES, key=len, reverse=True))})"
                       r"|in the (middle))", text)
    return DrawnScene(tuple(Thing(PLACES.index(at or middle), shape, colour, size)
                            for size, colour, shape, at, middle in found))


def list_wordings() -> dict[str, SceneQuestion]:
    "Every question there is, by each of its wordings."
    questions = [*(SceneQuestion('colour', shape) for shape in SHAPES), *(SceneQuestion('where', a) for a in NAMES),
                 *(SceneQuestion('what', place=place) for place in range(9)),
                 *(SceneQuestion('count', a) for a in ('', *SHAPES, *COLOURS)),
                 *(SceneQuestion('exists', a) for a in NAMES),
                 *(SceneQuestion('relation', a, b, how) for a, b in permutations(NAMES, 2) for how in RELATIONS)]
    return {question.word(Nth(n)): question for question in questions for n in range(3)}


@pytest.fixture(scope='module')
def wordings(): return list_wordings()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')/'drawn'
    write_scenes(folder, 120, seed=3)
    return folder


@pytest.fixture(scope='module')
def lines(folder): return list(read_jsonl(folder/VISION_FILE))


@pytest.fixture(scope='module')
def scene_of(lines): return {line['image']: read_caption(line['text']) for line in lines if 'text' in line}


def test_every_answer_is_right(lines, scene_of, wordings):
    asked = [line for line in lines if 'question' in line]
    for line in asked:
        question = wordings[line['question']]
        assert (question.kind, question.answer(scene_of[line['image']])) == (line['kind'], line['answer']), line
    assert len({(line['image'], line['question']) for line in asked}) == len(asked)


def test_a_wrong_picture_has_another_answer(lines, scene_of, wordings):
    asked = [line for line in lines if 'wrong' in line]
    assert len(asked) > .98 * sum('question' in line for line in lines)
    group_of = {line['image']: line['group'] for line in lines}
    others = [wordings[line['question']].answer(scene_of[line['wrong']]) for line in asked]
    assert all(other != line['answer'] for other, line in zip(others, asked))
    assert all(group_of[line['wrong']] == line['group'] for line in asked)
    train = [other for other, line in zip(others, asked) if line['group'] == 'train' and line['kind'] != 'relation']
    assert train.count(NO_ANSWER) < .1 * len(train)


def test_only_confused_moments_have_no_answer(lines, scene_of, wordings, folder):
    for line in lines:
        if 'query' not in line: continue
        question, kind = wordings[line['query']], line['kind']
        right = question.answer(scene_of[line['scene']])
        if kind in ('noise', 'occlusion'):
            assert right and line['confused'] and line['image'] not in scene_of
            assert (open_picture(folder/line['image']) != open_picture(folder/line['scene'])).any()
        else:
            assert (question.answer(scene_of[line['image']]) == NO_ANSWER) == line['confused'] == (kind in CONFUSIONS)
        assert (kind in ('absent object', 'empty place')) == (right == NO_ANSWER)
        assert (line['image'] == line['scene']) == (kind in ('clean', 'absent object', 'empty place'))


def test_moments_are_balanced_and_queries_do_not_betray_them(lines, wordings):
    kinds = defaultdict(Counter)
    for line in lines:
        if 'query' in line: kinds[line['confused']][wordings[line['query']].kind] += 1
    assert kinds[True] == kinds[False]
    assert Counter(line['kind'] for line in lines if 'query' in line) == {
        'clean': 600, **dict.fromkeys(CONFUSIONS, 120)}


def test_an_occlusion_hides_what_is_asked_about(lines, scene_of, wordings, folder):
    for line in lines:
        if line.get('kind') != 'occlusion': continue
        scene, question = scene_of[line['scene']], wordings[line['query']]
        place = question.place if question.kind == 'what' else question.find(scene, question.a)[0].place
        row, column = divmod(place, 3)
        cell = open_picture(folder/line['image'])[round(row * 32 / 3):round((row + 1) * 32 / 3),
                                                  round(column * 32 / 3):round((column + 1) * 32 / 3)]
        assert (cell == 128).all()


def test_no_scene_in_two_groups(lines):
    groups, images = defaultdict(set), defaultdict(set)
    for line in lines:
        images[line['image']].add(line['group'])
        if 'text' in line: groups[line['text']].add(line['group'])
    assert len(groups) == 120 and {len(found) for found in groups.values()} == {1}
    assert {len(found) for found in images.values()} == {1}
    assert {group for found in groups.values() for group in found} == {*SCENE_GROUPS}


def test_held_out_pairs_stay_in_their_group(lines, wordings):
    for line in lines:
        if line['group'] == 'composition':
            if 'text' in line: assert any(name in line['text'] for name in HELD_NAMES)
        else:
            words = ' '.join(str(line.get(name, '')) for name in ('text', 'question', 'answer', 'query'))
            assert not any(name in words for name in HELD_NAMES), line


def test_composition_asks_about_held_out_pairs(lines, scene_of, wordings):
    asked = [line for line in lines if line['group'] == 'composition' and 'question' in line]
    assert {line['kind'] for line in asked} == {'colour', 'where', 'what', 'count', 'relation', 'exists'}
    for line in asked:
        question, scene = wordings[line['question']], scene_of[line['image']]
        if question.kind in ('where', 'exists'): assert question.a in HELD_NAMES
        if question.kind == 'what': assert line['answer'] in HELD_NAMES
        if question.kind == 'relation': assert {question.a, question.b} & HELD_NAMES
        if question.kind in ('colour', 'count'):
            assert {thing.name for thing in question.find(scene, question.a)} & HELD_NAMES


def test_kinds_and_answers_are_balanced(lines):
    train = [line for line in lines if line['group'] == 'train' and 'question' in line]
    counts = Counter(line['kind'] for line in train)
    assert min(counts.values()) >= .95 * max(counts.values())
    for kind in ('relation', 'exists'):
        answers = Counter(line['answer'] for line in train if line['kind'] == kind)
        assert abs(answers['yes'] - answers['no']) <= 1


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        write_scenes(tmp_path/name, 30, seed)
        write_film(tmp_path/name, 5, seed)
    files = {name: {str(path.relative_to(tmp_path/name)): path.read_bytes()
                    for path in sorted((tmp_path/name).rglob('*')) if path.is_file()} for name in 'abc'}
    assert files['a'] == files['b'] and files['a'] != files['c']


def test_a_manifest_of_scenes_is_one(folder, lines):
    records = list(read_vision_manifest(folder))
    assert len(records) == len(lines)
    assert {record.tool for record in records} == {'', 'look'}   # where a tool would know more


def test_a_film_says_what_is_seen(tmp_path):
    facts = write_film(tmp_path, 30, seed=1)
    film = read_film(tmp_path)
    assert facts['events'] == sum(frame.is_event for frame in film) > 1
    assert [a.text != b.text for a, b in zip(film, film[1:])] == [frame.is_event for frame in film[1:]]
    assert all(len(read_caption(frame.text).things) >= 1 for frame in film)
    (tmp_path/FRAMES_FILE).write_text('{"image": "../x.png", "text": "a", "is_event": true, '
                                     '"question": "b", "answer": "1"}')
    with pytest.raises(UserError, match='must lie below'): read_film(tmp_path)


def test_ties_count_against_the_model_only():
    same = np.ones((10, 4))
    assert (rank_partners(same, same).argmax(1) == 9).all()
    assert np.allclose(rank_partners(same, same, against=False), .1)


def test_equal_vectors_tie_whatever_their_place():
    x = np.random.default_rng(0).normal(size=(301, 7)).astype(np.float32)
    x[1::2] = x[0]
    assert (rank_partners(x, x)[1].argmax() == rank_partners(x, x)[0].argmax() == 150)


def test_zero_rows_never_hit():
    x = np.random.default_rng(0).normal(size=(6, 3))
    blank = x.copy()
    blank[2] = 0
    for pair in ((x, blank), (blank, x), (blank, blank)):
        for against in (True, False): assert rank_partners(*pair, against=against)[2].argmax() == 5
    vectors = fit_text_vectors(['a red cat', 'a blue dog', 'a green hen'])
    texts = vectors.embed(['xyzzy', 'red', 'dog'])
    assert not texts[0].any() and rank_partners(texts, texts)[:, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize('rows, columns', [(30, 8), (8, 30), (12, 12)])
def test_ridge_is_the_closed_form(rows, columns):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(rows, columns)) * 5 + 3, rng.normal(size=(rows, 4))
    x[:, 0] = 2   # a column that says nothing
    found = fit_ridge(x, y, x, y, [3.])
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    weight = np.linalg.solve(z.T @ z + 3 * np.eye(columns), z.T @ (y - y.mean(0)))
    assert np.allclose(found.predict(x), z @ weight + y.mean(0))


def test_ridge_uses_only_training_statistics():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    ridge = fit_ridge(x[:20], y[:20], x[20:], y[20:], [1.])
    assert np.allclose(ridge.mean, x[:20].mean(0)) and np.allclose(ridge.scale, x[:20].std(0))
    assert np.allclose(ridge.predict(x[20:21]), ridge.predict(x[20:])[:1])


def test_text_vectors_are_a_truncated_svd():
    texts = [' '.join(np.random.default_rng(i).choice(list('abcdefghijklmnop'), 5)) for i in range(40)]
    vectors = fit_text_vectors(texts, 6)
    x = vectors.weigh(texts)
    best = np.linalg.svd(x, full_matrices=False)
    assert np.allclose(x @ vectors.basis @ vectors.basis.T, (best.U[:, :6] * best.S[:6]) @ best.Vh[:6])


@pytest.mark.parametrize('seed', range(20))
def test_strangers_are_strangers(seed):
    keys = np.random.default_rng(seed).integers(0, 4, 30).tolist() + [0, 1, 2, 3]
    if max(Counter(keys).values()) * 2 > len(keys): return
    strangers = draw_strangers(keys, seed)
    assert sorted(strangers) == list(range(34)) and all(keys[i] != key for key, i in zip(keys, strangers))


def test_controls_are_at_chance_whatever_the_model_knows():
    rng = np.random.default_rng(3)
    texts = rng.normal(size=(200, 12))
    rows = measure_controls(texts, texts, rng.normal(size=12), groups=np.arange(200) // 4)
    of = {(row['direction'], row['method']): row for row in rows}
    for direction in ('picture to text', 'text to picture'):
        chance = of[direction, 'chance']['mrr']
        assert of[direction, 'model']['mrr'] == 1 == of[direction, 'model']['r@1_low']
        for name in ('wrong picture', 'blank picture', 'shuffled text'):
            assert abs(of[direction, name]['mrr'] - chance) < .03 and of[direction, name]['lead_low'] > .9
    assert of['text to picture', 'blank picture']['mrr'] == pytest.approx(chance)
    with pytest.raises(ValueError, match='blank the shape'): measure_controls(texts, texts, texts)


def test_given_controls_replace_those_made():
    rng = np.random.default_rng(4)
    texts = rng.normal(size=(50, 12))
    rows = measure_controls(texts, texts, texts[0], controls={'wrong picture': texts})
    assert next(row for row in rows if row['method'] == 'wrong picture')['mrr'] == 1
    assert 'on a level with wrong picture' in describe_controls(rows)[0]


@pytest.mark.parametrize('said, right, exact, f1', [
    ('The red circle.', 'red circle', 1, 1), ('red', 'blue', 0, 0), ('a red circle', 'a blue circle', 0, .5),
    ('', '', 1, 1), ('', 'red', 0, 0), ('?', '!', 0, 0), ('the', 'a', 0, 0), ('red-circle', 'redcircle', 1, 1),
    ('at the top left', 'top  left', 0, 4 / 5), ('theatre', 'atre', 0, 0)])
def test_words_are_compared_as_squad_does(said, right, exact, f1):
    assert score_exact(said, right) == score_exact(right, said) == exact
    assert score_token_f1(said, right) == pytest.approx(f1) == score_token_f1(right, said)


def test_the_frequent_answer_comes_from_training_only():
    rows = measure_answers(['count'] * 3 + ['where'], ['2', '2', '2', 'top'], ['2'] * 4, [('count', '1')])
    assert [(row['kind'], row['accuracy'], row['frequent']) for row in rows] == [
        ('count', 1, 0), ('where', 0, 0), ('all', .75, 0)]
    assert rows[0]['low'] < 1 == rows[0]['high']
    with pytest.raises(ValueError, match='said must have an answer'): measure_answers(['count'], ['2'], [], [])


def test_answers_of_scenes_are_guessed_as_often_as_chance_has_it(lines):
    "The files themselves: who knows only the questions is right about yes and no in half of the cases."
    asked = {group: [(line['kind'], line['answer']) for line in lines if line['group'] == group and 'question' in line]
             for group in ('train', 'holdout')}
    kinds, right = zip(*asked['holdout'])
    of = {row['kind']: row for row in measure_answers(kinds, right, right, asked['train'])}
    assert abs(of['exists']['frequent'] - .5) < .1 and abs(of['relation']['frequent'] - .5) < .1
    assert of['all']['accuracy'] == 1 and of['all']['frequent'] < .45


@pytest.mark.parametrize('seed', range(10))
def test_auroc_is_that_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, confused = rng.integers(0, 6, 60), rng.random(60) < .3
    pairs = scores[confused][:, None] - scores[~confused]
    assert measure_auroc(scores, confused) == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean(), abs=1e-12)
    assert measure_auroc(-scores, confused) == pytest.approx(1 - measure_auroc(scores, confused), abs=1e-12)


def test_auroc_of_resampled_rows_is_that_of_rows_written_out():
    rng = np.random.default_rng(0)
    scores, confused, scenes = rng.normal(size=40).round(1), np.arange(40) % 3 == 0, np.arange(40) // 4
    times = resample_groups(scenes, 50, seed=1)
    each = [measure_auroc(np.repeat(scores, row), np.repeat(confused, row)) for row in times]
    assert bootstrap_auroc(scores, confused, scenes, 50, seed=1) == pytest.approx(np.quantile(each, [.025, .975]))


def test_resampling_keeps_groups_together():
    groups = ['a', 'b', 'a', 'c', 'b', 'a']
    times = resample_groups(groups, 300)
    assert (times[:, 0] == times[:, 2]).all() and (times[:, 1] == times[:, 4]).all()
    assert (times[:, [0, 1, 3]].sum(1) == 3).all() and times[:, 3].std() > .5


@pytest.mark.parametrize('seed', range(10))
def test_no_threshold_has_a_larger_j(seed):
    rng = np.random.default_rng(seed)
    scores, confused = rng.integers(0, 9, 50).astype(float), rng.random(50) < .4
    chosen = choose_threshold(scores, confused)
    each = [(scores[confused] > at).mean() - (scores[~confused] > at).mean() for at in np.arange(-1, 10, .5)]
    assert chosen['j'] == pytest.approx(max(each), abs=1e-12)
    alarms = scores > chosen['threshold']
    assert (alarms[confused].mean(), 1 - alarms[~confused].mean()) == pytest.approx(
        (chosen['sensitivity'], chosen['specificity']))


def test_a_threshold_where_scores_say_nothing():
    chosen = choose_threshold([1, 1, 1], np.array([True, False, True]))
    assert chosen['j'] == 0 and chosen['threshold'] < 1


def test_confusion_refuses_what_does_not_fit():
    scores, kinds = {'monitor': np.arange(4.)}, ['clean', 'clean', 'noise', 'noise']
    rows = measure_confusion(scores, kinds, 'abab')
    assert [row['auroc'] for row in rows if row['method'] == 'monitor'] == [1, 1]
    for bad in ((scores, kinds, 'ab'), ({}, kinds, 'abab'), (scores, ['clean'] * 4, 'abab'),
                ({'monitor': np.array([1, 2, np.nan, 3])}, kinds, 'abab')):
        with pytest.raises(ValueError): measure_confusion(*bad)


def test_a_wrong_injection_is_seen():
    rng = np.random.default_rng(0)
    target, before = rng.normal(size=(2, 80, 6))
    confused = np.arange(80) % 2 == 0
    rows = measure_injection(before, before, target, target, confused)
    assert all((row['gain'], row['random']) == pytest.approx((0, 1)) and row['over_random_high'] < 0 for row in rows)


@pytest.mark.parametrize('seed', range(5))
def test_decoding_looks_at_the_last_decode(seed):
    x = np.cumsum(np.random.default_rng(seed).normal(size=(50, 4)) * .2, 0) + 1
    distances, decoded = follow_changes(x, .1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    last = 0
    for i in range(1, 50):
        assert distances[i] == pytest.approx(1 - unit[i] @ unit[last], abs=1e-12)
        assert (i in decoded) == (distances[i] > .1)
        if i in decoded: last = i


def test_both_ways_agree_where_they_must():
    rng = np.random.default_rng(0)
    films = [FilmEmbeddings(rng.normal(size=(t, 3)), rng.random((t, t)) < .5) for t in (1, 7, 20)]
    rows = trace_decoding(films, [-1, 2.1], [1, 100])
    full, once = ([row for row in rows if row['setting'] in pair] for pair in ((-1, 1), (2.1, 100)))
    assert full[0]['decodes'] == full[1]['decodes'] == 1 and full[0]['accuracy'] == full[1]['accuracy']
    assert once[0]['decodes'] == once[1]['decodes'] == pytest.approx(3 / 28)
    assert full[0]['accuracy'] == pytest.approx(sum(film.right.diagonal().sum() for film in films) / 28)


def test_what_is_never_reached_has_no_number():
    film = FilmEmbeddings(np.ones((10, 2)), np.eye(10, dtype=bool))   # all alike: nothing is ever decoded again
    rows = trace_decoding([film], [.5], [1, 2])
    found = compare_decoding(rows, (.05, .9))
    assert found[0]['decodes_saved_at_equal_accuracy'] is not None
    assert found[1]['selective'] is found[1]['decodes_saved_at_equal_accuracy'] is found[1]['low'] is None
    assert any('not reached' in line for line in tabulate_decoding(found))


def test_the_lead_of_a_monitor_is_paired():
    "Two methods that err on the same moments differ surely, although their intervals overlap."
    rng = np.random.default_rng(0)
    hard = rng.normal(size=400) * 2
    kinds, labels = np.array(['clean', 'noise'] * 200), np.arange(400) % 2
    rows = measure_confusion({'monitor': hard + 1.2 * labels, 'entropy': hard + .9 * labels}, kinds, range(400))
    assert rows[0]['low'] < rows[1]['high'] and rows[1]['lead_low'] > 0
    assert 'is above entropy' in describe_confusion(rows)[0]


def test_words_stand_until_the_next_decode():
    right = match_frames(['a', 'b', 'c', 'd'], ['A red cat', 'b', 'b', 'c'])
    assert right.tolist() == [[False] * 4, [False, True, True, False], [False, False, False, True], [False] * 4]
    assert [count_standing(some, right) for some in ([0], [0, 1], [0, 1, 2], [0, 1, 3])] == [0, 2, 2, 2]
