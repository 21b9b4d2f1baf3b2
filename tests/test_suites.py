"The suites: reference answers pass, wrong ones fail, and nothing scores that has no right to."
import json
import re
from itertools import combinations

import pytest
from judged import needs_node

from shutka.core.errors import UserError
from shutka.data.syntax import parse_code
from shutka.evaluate.sandbox import Judge
from shutka.evaluate.scores import pass_at_k, suites_table, summarize_suites, write_suites
from shutka.evaluate.suites import evaluate_expected, run_suites, score_task, shuffle_answers
from shutka.evaluate.tasks import (
    SUITES,
    Case,
    Task,
    explain_unreadable,
    extract_program,
    list_declared_names,
    read_suite,
)

TASKS = [task for suite in SUITES for task in read_suite(suite)]
every_suite = pytest.mark.parametrize('suite', SUITES)


@pytest.fixture(scope='module')
def judge():
    with Judge() as judge: yield judge


def task_of(name): return next(task for task in TASKS if task.id == name)


# ---- the files

def test_enough_tasks():
    sizes = {suite: len(read_suite(suite)) for suite in SUITES}
    assert sizes['syntax'] >= 40 and sizes['programming'] >= 40 and sizes['algorithmic'] >= 25, sizes


@pytest.mark.parametrize('task', TASKS, ids=lambda task: f'{task.suite}/{task.id}')
def test_well_made(task):
    assert len(task.cases) >= (2 if task.suite == 'syntax' else 4)
    assert len({case.call for case in task.cases}) == len(task.cases)
    assert len({case.expect for case in task.cases}) > 1                     # no constant passes
    assert len(task.wrong) >= 2 and len({*task.wrong, task.reference}) == len(task.wrong) + 1
    assert task.reference.startswith(task.signature) and task.id in list_declared_names(task.reference)
    assert extract_program(task, task.reference.removeprefix(task.signature)).split() == task.reference.split()
    assert bool(task.uses) == (task.suite == 'syntax') and task.reference not in task.prompt
    if task.uses: assert '@ts-expect-error' in task.uses or 'const ' in task.uses
    assert not parse_code(task.reference.encode()).root_node.has_error


def test_ids_differ(): assert len({task.id for task in TASKS}) == len(TASKS)


# ---- the proof

@pytest.mark.net
@needs_node
@pytest.mark.parametrize('suite', [SUITES[0], *(pytest.param(name, marks=pytest.mark.faults) for name in SUITES[1:])])
def test_references_pass_and_wrong_ones_fail(suite, judge):
    for task in read_suite(suite):
        [first] = score_task(task, [task.reference], judge, seconds=10)['answers']
        assert first['passed'], (task.id, first['why'])
        row = score_task(task, [*task.wrong, ''], judge, seconds=1)
        assert row['passed'] == 0 and all(answer['why'] for answer in row['answers']), task.id
        if suite == 'syntax': continue
        assert row['parses'] == len(task.wrong), task.id
        assert any(answer['right'] for answer in row['answers']), task.id  # subtly wrong


@pytest.mark.net
@needs_node
@every_suite
def test_references_and_their_calls_type_check(suite, judge):
    "So that a model is asked for what the calls do."
    statement = re.compile(r'\b(const|let|class|return|throw)\b.*;|;')
    for task in read_suite(suite):
        bodies = [f'{{ {case.call} }}' if statement.search(case.call) else f'({case.call})' for case in task.cases]
        calls = [f'void (async () => {body});' for body in bodies]
        assert judge.check(task.reference, '\n'.join([task.uses, *calls])) == [], task.id


@pytest.mark.net
@needs_node
@pytest.mark.parametrize('tasks', [TASKS[::4], pytest.param(TASKS, marks=pytest.mark.faults)], ids=['some', 'all'])
def test_nothing_scores_by_chance(judge, tasks):
    "Empty answers, answers to other items and answers that say PASS."
    reference = lambda task, n: [task.reference] * n
    says_pass = lambda task, n: [f'console.log("PASS"); function {task.id}() {{ return "PASS" }}'] * n
    methods = {'empty': lambda task, n: [''] * n, 'shuffled': shuffle_answers(reference, tasks), 'PASS': says_pass}
    rows = list(run_suites(methods, tasks, judge, seconds=.5))
    assert [(row['method'], row['id']) for row in rows if row['passed']] == []
    parses = {method: sum(row['parses'] for row in rows if row['method'] == method) for method in methods}
    assert parses == {'empty': 0, 'shuffled': len(tasks), 'PASS': len(tasks)}


@pytest.mark.net
@needs_node
def test_hostile_answers_score_nothing_and_harm_nothing(judge, tmp_path):
    task = task_of('isLeapYear')
    marked = tmp_path/'marked'
    hostile = ['for (;;);', 'let s = "x"; for (;;) s += s', 'process.exit(0)',
               f'require("fs").writeFileSync({json.dumps(str(marked))}, "")', 'fetch("http://127.0.0.1")',
               'return isLeapYear(year)', 'return "\\ud800" as any']
    answers = [f'function isLeapYear(year: number): boolean {{ {line} }}' for line in hostile]
    row = score_task(task, [*answers, task.reference], judge, seconds=.5, megabytes=32)
    assert [answer['passed'] for answer in row['answers']] == [False] * len(hostile) + [True] and not marked.exists()
    assert row['answers'][0]['why'].endswith('got time: not done in 0.5 s')
    write_suites(tmp_path, [{'method': 'hostile', **row}])


@pytest.mark.net
@needs_node
def test_the_compiler_is_not_silenced(judge):
    task = task_of('firstOf')
    loose = task.reference.replace('T | undefined', 'any')
    silent = [f'// {word}\n{code}' for word in ('@ts-nocheck', '@TS-NOCHECK') for code in (task.reference, loose)]
    row = score_task(task, [*silent, loose, task.reference], judge)
    assert [answer['passed'] for answer in row['answers']] == [False] * 5 + [True] and row['types'] == 1


@pytest.mark.net
@needs_node
@pytest.mark.parametrize('answer', [
    '(n: number) => { let a: any = n; for (let i = 0; i < 200; i++) a = [a]; return a }', '() => "x".repeat(200_000)',
    '() => new Proxy({}, { ownKeys() { throw new RangeError() } })', '() => ({ get a() { throw new RangeError() } })'])
def test_a_value_that_cannot_be_written_down_is_no_error_that_was_wanted(judge, answer):
    case = Case('f(1)', 'throw new RangeError()')
    task = Task(suite='mine', id='f', prompt='p', signature='s', reference='const f = () => { throw RangeError() }',
                wrong=('const f = () => 1',), cases=(case,))
    row = score_task(task, [f'const f: any = {answer}', 'const f = (n: number): any => { throw new RangeError() }'],
                     judge)
    assert [answer['passed'] for answer in row['answers']] == [False, True]


@pytest.mark.net
@needs_node
def test_an_expectation_must_be_one(judge):
    task = Task(suite='mine', id='f', prompt='p', signature='s', reference='r', wrong=('w',),
                cases=(Case('f()', 'f()'),))
    told = re.escape("mine/f must expect a value or an error, got 'f()'")
    with pytest.raises(UserError, match=told): evaluate_expected(task, judge)


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
    [got] = summarize_suites([row, row | dict(id='b', passed=0)], k=2)
    assert [got[key] for key in ('items', 'pass@1', 'pass@2', 'parses', 'types')] == [2, .25, .5, 1, .5]
    assert got['low'] < .25 < got['high']
    table = suites_table([row | dict(answers=[dict(right=3), dict(right=2)]), row | dict(id='b', passed=0)], k=2)
    assert '| m | 100.0 | 50.0 | 41.7 (5 of 12) | 1 | 25.0 |' in table


# ---- what is refused, and what answers may look like

GIVEN = dict(id='one', prompt='Give 1.', signature='const one = () =>', reference=['const one = () => 1'],
             wrong=[['const one = () => 2']], cases=[dict(call='one()', expect='1')])


@pytest.mark.parametrize('change, told', [
    (dict(cases=[]), "'cases' of item 'one' of mine must be a list and not empty"),
    (dict(cases=[dict(call='one()')]), 'a call and an expect'),
    (dict(cases=[dict(call='one()', expect=' ')]), 'a call and an expect'),
    (dict(cases=[dict(call='', expect='1')]), 'a call and an expect'),
    (dict(cases=[dict(call='1', expect='1')]), 'a case of item .* must call it'),
    (dict(reference='const one'), 'must be a list'), (dict(prompt=''), 'not empty'),
    (dict(wrong=[[1]]), 'lines of code'), (dict(refrence=[]), "did you mean 'reference'"),
    (dict(id=None), 'must be a str'),
])
def test_refused(tmp_path, change, told):
    (tmp_path/'mine.json').write_text(json.dumps({'suite': 'mine', 'items': [GIVEN | change]}))
    with pytest.raises(UserError, match=told): read_suite(tmp_path/'mine.json')


def test_files_refused(tmp_path):
    with pytest.raises(UserError, match='does not exist'): read_suite(tmp_path/'none.json')
    with pytest.raises(UserError, match="did you mean 'algorithmic'"): read_suite('algorithms')
    twice = json.dumps({'suite': 'a', 'items': [GIVEN, GIVEN]})
    for text, told in (('[]', 'must have'), ('{"suite": "a", "items": []}', 'must have'), (twice, 'different ids')):
        (tmp_path/'mine.json').write_text(text)
        with pytest.raises(UserError, match=told): read_suite(tmp_path/'mine.json')
    (tmp_path/'mine.json').write_text(json.dumps({'suite': 'a', 'items': [GIVEN]}))
    assert read_suite(tmp_path/'mine.json')[0].cases[0].call == 'one()'


def test_a_method_must_answer():
    with pytest.raises(UserError, match='lazy must give 3 answers to programming/isLeapYear, got 1'):
        list(run_suites({'lazy': lambda task, n: ['']}, [task_of('isLeapYear')], judge=None, n=3))


@pytest.mark.parametrize('answer', [
    '{0}', 'Here it is:\n\n```typescript\n{0}\n```\nEnjoy.', '```\n{0}', '{1}', '```ts\n{1}\n```',
    'First\n```sh\nnpm i slugify\n```\nthen\n```ts\n{0}\n```', '```ts title="a.ts"\n{0}\n```', '~~~ts\n{0}\n~~~',
    '```json\n{"a": 1}\n```\n\n```\n{1}\n```',
    'Sure: ```ts\n{0}\n```', '```ts\n{0}```\nEnjoy.', '```java\n{0}\n```', '```ts\r\n{0}\r\n```',
])
def test_answers_in_every_dress(answer):
    task = task_of('slugify')
    rest = task.reference.removeprefix(task.signature)
    answer = answer.replace('{0}', task.reference).replace('{1}', rest)
    assert extract_program(task, answer).split() == task.reference.split()


@pytest.mark.parametrize('dress', ['{}', 'Here:\n```ts\n{}\n```'])
def test_an_example_in_a_comment_is_not_the_answer(dress):
    task = task_of('slugify')
    commented = f'/** Like this:\n * ```ts\n * slugify("A b")\n * ```\n */\n{task.reference}\n'
    assert extract_program(task, dress.format(commented)).strip() == commented.strip()


def test_no_suite_is_its_own_control():
    reference = lambda task, n: [task.reference] * n
    tasks = [*read_suite('programming'), read_suite('algorithmic')[0]]
    told = 'answers to other items need two items or more of each suite, algorithmic has 1'
    with pytest.raises(UserError, match=told): shuffle_answers(reference, tasks)


def test_long_and_broken_answers():
    task = task_of('slugify')
    for answer in ('', '`' * 10_000, '(' * 100_000, ' // ,\n' * 100_000, '\ud800', '\0'):
        assert isinstance(extract_program(task, answer), str)


@pytest.mark.parametrize('code, reason', [
    (' \n', 'there is no code'), ('x' * 20_001, 'it has more than 20000 characters'),
    ('function (', 'it does not parse'), ('const a = 1', ''),
])
def test_unreadable(code, reason): assert explain_unreadable(code) == reason
