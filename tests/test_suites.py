"The suites: reference answers pass, wrong ones fail, and nothing scores that has no right to."
import json
import re
from itertools import combinations

import pytest
from judged import needs_node

from shutka.core.errors import UserError
from shutka.data.syntax import parse
from shutka.evaluate import suites
from shutka.evaluate.sandbox import Judge
from shutka.evaluate.suites import (
    SUITES,
    declared,
    pass_at_k,
    program,
    read_suite,
    run_suites,
    score,
    shuffled,
    summary,
    table,
    write_results,
)

ITEMS = [item for suite in SUITES for item in read_suite(suite)]
every_suite = pytest.mark.parametrize('suite', SUITES)


@pytest.fixture(scope='module')
def judge():
    with Judge() as judge: yield judge


def item_of(name): return next(item for item in ITEMS if item.id == name)


# ---- the files

def test_enough_items():
    sizes = {suite: len(read_suite(suite)) for suite in SUITES}
    assert sizes['syntax'] >= 40 and sizes['programming'] >= 40 and sizes['algorithmic'] >= 25, sizes


@pytest.mark.parametrize('item', ITEMS, ids=lambda item: f'{item.suite}/{item.id}')
def test_well_made(item):
    assert len(item.cases) >= (2 if item.suite == 'syntax' else 4) and len({case.call for case in item.cases}) == len(item.cases)
    assert len({case.expect for case in item.cases}) > 1                     # no constant passes
    assert len(item.wrong) >= 2 and len({*item.wrong, item.reference}) == len(item.wrong) + 1
    assert item.reference.startswith(item.signature) and item.id in declared(item.reference)
    assert program(item, item.reference.removeprefix(item.signature)).split() == item.reference.split()
    assert bool(item.uses) == (item.suite == 'syntax') and item.reference not in item.prompt
    if item.uses: assert '@ts-expect-error' in item.uses or 'const ' in item.uses
    assert not parse(item.reference.encode()).root_node.has_error


def test_ids_differ(): assert len({item.id for item in ITEMS}) == len(ITEMS)


# ---- the proof

@pytest.mark.net
@needs_node
@every_suite
def test_references_pass_and_wrong_ones_fail(suite, judge):
    for item in read_suite(suite):
        [first] = score(item, [item.reference], judge, seconds=10)['answers']
        assert first['passed'], (item.id, first['why'])
        row = score(item, [*item.wrong, ''], judge, seconds=1)
        assert row['passed'] == 0 and all(answer['why'] for answer in row['answers']), item.id
        if suite != 'syntax': assert row['parses'] == len(item.wrong) and any(answer['right'] for answer in row['answers']), item.id  # subtly wrong


@pytest.mark.net
@needs_node
@every_suite
def test_references_and_their_calls_type_check(suite, judge):
    "So that a model is asked for what the calls do."
    statement = re.compile(r'\b(const|let|class|return|throw)\b.*;|;')
    for item in read_suite(suite):
        calls = [f'void (async () => {{ {case.call} }});' if statement.search(case.call) else f'void (async () => ({case.call}));' for case in item.cases]
        assert judge.check(item.reference, '\n'.join([item.uses, *calls])) == [], item.id


@pytest.mark.net
@needs_node
def test_nothing_scores_by_chance(judge):
    "Empty answers, answers to other items and answers that say PASS."
    reference = lambda item, n: [item.reference] * n
    methods = {'empty': lambda item, n: [''] * n, 'shuffled': shuffled(reference, ITEMS), 'PASS': lambda item, n: [f'console.log("PASS"); function {item.id}() {{ return "PASS" }}'] * n}
    rows = list(run_suites(methods, ITEMS, judge, seconds=.5))
    assert [(row['method'], row['id']) for row in rows if row['passed']] == []
    assert {row['method']: sum(r['parses'] for r in rows if r['method'] == row['method']) for row in rows} == {'empty': 0, 'shuffled': len(ITEMS), 'PASS': len(ITEMS)}


@pytest.mark.net
@needs_node
def test_hostile_answers_score_nothing_and_harm_nothing(judge, tmp_path):
    item = item_of('isLeapYear')
    marked = tmp_path/'marked'
    hostile = ['for (;;);', 'let s = "x"; for (;;) s += s', 'process.exit(0)', f'require("fs").writeFileSync({json.dumps(str(marked))}, "")', 'fetch("http://127.0.0.1")', 'return isLeapYear(year)', 'return "\\ud800" as any']
    answers = [f'function isLeapYear(year: number): boolean {{ {line} }}' for line in hostile]
    row = score(item, [*answers, item.reference], judge, seconds=.5, megabytes=32)
    assert [answer['passed'] for answer in row['answers']] == [False] * len(hostile) + [True] and not marked.exists()
    assert row['answers'][0]['why'].endswith('got time: not done in 0.5 s')
    write_results(tmp_path, [{'method': 'hostile', **row}])


@pytest.mark.net
@needs_node
def test_the_compiler_is_not_silenced(judge):
    item = item_of('firstOf')
    row = score(item, [f'// @ts-nocheck\n{item.reference}', item.reference.replace('T | undefined', 'any'), item.reference], judge)
    assert [answer['passed'] for answer in row['answers']] == [False, False, True] and row['types'] == 1


@pytest.mark.net
@needs_node
def test_an_expectation_must_be_one(judge):
    item = suites.Item(suite='mine', id='f', prompt='p', signature='s', reference='r', wrong=('w',), cases=(suites.Case('f()', 'f()'),))
    with pytest.raises(UserError, match="mine/f must expect a value or an error, got 'f()'".replace('(', r'\(').replace(')', r'\)')): suites.expected(item, judge)


# ---- arithmetic

@pytest.mark.parametrize('n, c', [(1, 0), (1, 1), (5, 0), (5, 2), (6, 3), (7, 7)])
def test_pass_at_k_counts_subsets(n, c):
    for k in range(1, n + 1):
        sets = list(combinations(range(n), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(min(chosen) < c for chosen in sets) / len(sets))


@pytest.mark.parametrize('n, c, k', [(0, 0, 1), (3, 1, 0), (3, 1, 4), (3, 4, 1), (3, -1, 1)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(UserError, match='pass@k needs'): pass_at_k(n, c, k)


def test_summary():
    row = dict(method='m', suite='syntax', id='a', n=2, passed=1, parses=2, types=1, cases=3, answers=[])
    [got] = summary([row, row | dict(id='b', passed=0)], k=2)
    assert (got['items'], got['pass@1'], got['pass@2'], got['parses'], got['types']) == (2, .25, .5, 1, .5) and got['low'] < .25 < got['high']
    assert '| m | 100.0 | 50.0 | 25.0 |' in table([row, row | dict(id='b', passed=0)], k=2)


# ---- what is refused, and what answers may look like

GIVEN = dict(id='one', prompt='Give 1.', signature='const one = () =>', reference=['const one = () => 1'], wrong=[['const one = () => 2']], cases=[dict(call='one()', expect='1')])


@pytest.mark.parametrize('change, told', [
    (dict(cases=[]), "'cases' of item 'one' of mine must be a list and not empty"), (dict(cases=[dict(call='one()')]), 'a call and an expect'),
    (dict(cases=[dict(call='one()', expect=' ')]), 'a call and an expect'), (dict(cases=[dict(call='', expect='1')]), 'a call and an expect'),
    (dict(cases=[dict(call='1', expect='1')]), 'a case of item .* must call it'), (dict(reference='const one'), 'must be a list'), (dict(prompt=''), 'not empty'),
    (dict(wrong=[[1]]), 'lines of code'), (dict(refrence=[]), "did you mean 'reference'"), (dict(id=None), 'must be a str'),
])
def test_refused(tmp_path, change, told):
    (tmp_path/'mine.json').write_text(json.dumps({'suite': 'mine', 'items': [GIVEN | change]}))
    with pytest.raises(UserError, match=told): read_suite(tmp_path/'mine.json')


def test_files_refused(tmp_path):
    with pytest.raises(UserError, match='does not exist'): read_suite(tmp_path/'none.json')
    with pytest.raises(UserError, match="did you mean 'algorithmic'"): read_suite('algorithms')
    for text, told in (('[]', 'must have'), ('{"suite": "a", "items": []}', 'must have'), (json.dumps({'suite': 'a', 'items': [GIVEN, GIVEN]}), 'different ids')):
        (tmp_path/'mine.json').write_text(text)
        with pytest.raises(UserError, match=told): read_suite(tmp_path/'mine.json')
    (tmp_path/'mine.json').write_text(json.dumps({'suite': 'a', 'items': [GIVEN]}))
    assert read_suite(tmp_path/'mine.json')[0].cases[0].call == 'one()'


def test_a_method_must_answer():
    with pytest.raises(UserError, match='lazy must give 3 answers to programming/isLeapYear, got 1'):
        list(run_suites({'lazy': lambda item, n: ['']}, [item_of('isLeapYear')], judge=None, n=3))


@pytest.mark.parametrize('answer', [
    '{0}', 'Here it is:\n\n```typescript\n{0}\n```\nEnjoy.', '```\n{0}', '{1}', '```ts\n{1}\n```',
    'First\n```sh\nnpm i slugify\n```\nthen\n```ts\n{0}\n```', '```ts title="a.ts"\n{0}\n```', '~~~ts\n{0}\n~~~', '```json\n{"a": 1}\n```\n\n```\n{1}\n```',
    'Sure: ```ts\n{0}\n```', '```ts\n{0}```\nEnjoy.', '```java\n{0}\n```', '```ts\r\n{0}\r\n```',
])
def test_answers_in_every_dress(answer):
    item = item_of('slugify')
    rest = item.reference.removeprefix(item.signature)
    assert program(item, answer.replace('{0}', item.reference).replace('{1}', rest)).split() == item.reference.split()


@pytest.mark.parametrize('dress', ['{}', 'Here:\n```ts\n{}\n```'])
def test_an_example_in_a_comment_is_not_the_answer(dress):
    item = item_of('slugify')
    commented = f'/** Like this:\n * ```ts\n * slugify("A b")\n * ```\n */\n{item.reference}\n'
    assert program(item, dress.format(commented)).strip() == commented.strip()


def test_no_suite_is_its_own_control():
    reference = lambda item, n: [item.reference] * n
    with pytest.raises(UserError, match='answers to other items need two items or more of each suite, algorithmic has 1'):
        shuffled(reference, [*read_suite('programming'), read_suite('algorithmic')[0]])


def test_long_and_broken_answers():
    item = item_of('slugify')
    for answer in ('', '`' * 10_000, '(' * 100_000, ' // ,\n' * 100_000, '\ud800', '\0'): assert isinstance(program(item, answer), str)


@pytest.mark.parametrize('code, reason', [(' \n', 'there is no code'), ('x' * 20_001, 'it has more than 20000 characters'), ('function (', 'it does not parse'), ('const a = 1', '')])
def test_unreadable(code, reason): assert suites.unreadable(code) == reason
