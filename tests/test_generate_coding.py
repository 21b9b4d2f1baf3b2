"""Generated code: all different, in its shares, and run by what nobody here wrote."""
import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from shutka.core.errors import ShutkaError, UserError
from shutka.core.files import read_jsonl
from shutka.evaluate.decontamination import find_task_copies, read_suite_texts
from shutka.faces.cli import run_command
from shutka.generate.code_checks import (
    CODE_RUNNERS,
    CodeResult,
    check_code_rows,
    find_complaint,
    list_programs,
    open_fence,
    parse_code_rows,
)
from shutka.generate.code_families import draw_task, load_families, read_families
from shutka.generate.code_mutants import draw_mutants, list_code_changes, prove_mutant
from shutka.generate.code_rows import CODE_LANGUAGES
from shutka.generate.code_running import CodeRunner
from shutka.generate.code_tests import CODE_PRINTERS
from shutka.generate.code_tree import walk_code
from shutka.generate.coding import CODING_SHARES, generate_coding
from shutka.generate.rows import normalize_text

LANGUAGES = list(CODE_LANGUAGES)
every_language = pytest.mark.parametrize('language', LANGUAGES)
# words that may not name a variable in one of the languages, and what their code uses by name
RESERVED = set('''abstract byte catch chan char class const debugger default defer delete do double else enum export
extends final finally float func function go goto implements import in instanceof int interface let long map
native new null of package private protected public range select short static string struct super switch
synchronized this throw throws transient try type boolean typeof var void volatile while with yield len cap min max
append make copy maps slices strings strconv unicode rune str list dict set sorted abs ord chr print list_
Math Map Set Array String Number List Collections'''.split())


@pytest.fixture(scope='module')
def rows(): return {language: generate_coding(1_000, language) for language in LANGUAGES}


def find_key(row: dict) -> tuple: return row['instruction'], row['input']


@every_language
def test_a_thousand_are_all_different(rows, language):
    found = rows[language]
    assert len(found) == len({normalize_text('\0'.join(find_key(row))) for row in found}) == 1_000
    assert {row['language'] for row in found} == {language}


@every_language
def test_shares_are_kept(rows, language):
    counts = Counter(row['category'] for row in rows[language])
    assert counts == {name: 1_000 * share for name, share in CODING_SHARES.items()}


def test_two_seeds_share_little(rows):
    other = {find_key(row) for row in generate_coding(1_000, 'go', seed=1)}
    assert sum(find_key(row) in other for row in rows['go']) < 50


def test_the_same_for_the_same_seed():
    assert generate_coding(200, 'python', seed=2) == generate_coding(200, 'python', seed=2)


@every_language
def test_all_code_parses(rows, language): assert parse_code_rows(rows[language]) > 1_500


@pytest.mark.parametrize('language', ['python', 'javascript'])
def test_all_programs_hold_what_their_rows_say(rows, language):
    if language == 'javascript' and not shutil.which('node'): pytest.skip('needs Node.js')
    told = check_code_rows(rows[language])
    assert 'right programs pass' in told and ' 300 bugs show, 100 tests pass' in told


@pytest.mark.faults
@every_language
@pytest.mark.parametrize('seed', [3, 4])
def test_other_seeds_hold_what_they_say(language, seed):
    needed = {'python': sys.executable, 'javascript': 'node', 'typescript': 'npm', 'go': 'go', 'java': 'javac'}
    if not shutil.which(needed[language]): pytest.skip(f'needs {needed[language]}')
    assert 'bugs show' in check_code_rows(generate_coding(2_000, language, seed))


@pytest.mark.faults
def test_ten_thousand_rows_are_different_and_one_question_has_one_answer():
    many = generate_coding(10_000, 'python', seed=5)
    assert len({find_key(row) for row in many}) == len({(*find_key(row), row['output']) for row in many}) == 10_000


@every_language
def test_code_stands_in_fences_and_answers_do_not(rows, language):
    for row in rows[language]:
        if row['category'] == 'understanding': assert '```' not in row['output'] and row['output'] == row['expected']
        else: assert row['output'].startswith(f'```{language}\n') and row['output'].endswith('\n```')
        assert row['input'].count('```') % 2 == 0
        assert row['input'].count('```') == 0 if row['category'] == 'generation' else f'```{language}\n' in row['input']


@every_language
def test_questions_are_sentences(rows, language):
    for row in rows[language]:
        words = re.sub(r'```.*?```|`[^`]*`|"[^"]*"', 'x', row['input'], flags=re.S).replace(' ...', '')
        assert not re.search(r'  |\{\w|\b(KEEP1?|MAP|SEP|K|Kth|None)\b|,[,.]|\.\.', words), row['input']
        assert row['instruction'][0].isupper() and row['instruction'][-1] == '.'


def test_a_bug_differs_from_the_answer_and_its_case_is_quoted(rows):
    for row in rows['go']:
        if row['category'] != 'bug_fixing': continue
        call, want, got = row['failing']
        assert want != got and all(f'`{text}`' in row['input'] for text in (call, want, got))
        assert row['buggy'] in row['input'] and row['buggy'] != open_fence(row['output'])


# ---- families

def test_there_are_many_families(rows):
    families = load_families()
    assert len(families) >= 250 and len({family.name for family in families}) == len(families)
    for found in rows.values(): assert len({row['family'] for row in found}) == len(families)


def test_families_say_different_things():
    families = load_families()
    wordings = [wording for family in families for wording in family.wordings]
    assert len(wordings) == len(set(wordings)) and all(len(family.wordings) >= 2 for family in families)
    assert all(wording[0].isupper() and wording[-1] == '.' for wording in wordings)
    assert len({family.tree for family in families}) == len(families)


def test_no_variable_has_a_name_that_a_language_reserves():
    for family in load_families():
        names = {param for param, _ in family.tree.value[1]}
        for node in walk_code(family.tree):
            if node.kind in ('declare', 'each', 'range'): names.add(node.value)
            if node.kind == 'enumerate': names |= set(node.value)
        assert not names & RESERVED, family.name


@pytest.mark.parametrize('seed', range(2))
def test_every_family_can_be_drawn_and_leaves_its_arguments_alone(seed):
    for family in load_families():
        task = draw_task(family, Random(seed))
        before = json.dumps(task.cases)
        assert len(task.cases) >= 3
        for args, value in task.cases: assert CodeRunner(task.tree).run(args) == value
        assert json.dumps(task.cases) == before, family.name


def test_most_families_have_cases_that_differ():
    same = [family.name for family in load_families()
            if len({repr(value) for _, value in draw_task(family, Random(9)).cases}) == 1]
    assert len(same) <= 3


def test_mutants_end_and_are_wrong():
    found = 0
    for family in load_families():
        task = draw_task(family, Random(2))
        for change in list_code_changes(task.tree)[:6]:
            mutant = prove_mutant(task, change)
            if mutant is None: continue
            found += 1
            results = [CodeRunner(mutant.tree).run(args) for args, _ in task.cases]
            assert results[mutant.case] == mutant.got != task.cases[mutant.case][1]
    assert found > 400


def test_python_code_is_what_the_family_says():
    "Some families against what anybody would write."
    families = {family.name: family for family in load_families()}
    for name, function in (('reverse_text', lambda text: text[::-1]), ('factorial', math.factorial),
                           ('transpose', lambda grid: [list(row) for row in zip(*grid)]),
                           ('sorted_union', lambda a, b: sorted({*a, *b})),
                           ('whole_square_root', math.isqrt),
                           ('bubble_sort', sorted), ('insertion_sort', sorted),
                           ('reverse_words', lambda t: ' '.join(t.split()[::-1])),
                           ('gcd', math.gcd), ('lcm', math.lcm),
                           ('binomial', math.comb), ('flatten', lambda grid: sum(grid, []))):
        for args, value in draw_task(families[name], Random(6)).cases: assert function(*args) == value


@pytest.mark.parametrize('text, message', [
    ('=== broken', 'must have a name'), ('nothing', 'must have a name'),
    ('=== f easy\nReturn n.\ngiven m = 0..3\ndef f(n: int) -> int:\n    return n', 'must have the parameters'),
    ('=== f easy\nReturn n.\ndef f(n: int) -> int:\n    return n ** 2', 'does not know'),
    ('=== f easy\nReturn n.\ndef f(n: int) -> int:\n    return m', 'an unknown variable')])
def test_a_bad_family_is_refused(text, message):
    with pytest.raises(ShutkaError, match=message): read_families(text)


# ---- checks

@every_language
def test_a_row_that_claims_too_much_is_found(rows, language):
    row = next(row for row in rows[language] if row['category'] == 'bug_fixing')
    right, wrong = list_programs([row])
    assert (right.what, wrong.what) == ('reference', 'bug')
    assert wrong.calls[-1] == [row['failing'][0], row['failing'][2]]
    fine = CodeResult([True] * len(right.calls))
    assert find_complaint(right, fine) == '' and 'does not return' in find_complaint(right, CodeResult([False]))
    assert 'does not show' in find_complaint(wrong, CodeResult([True] * len(wrong.calls)))


def test_broken_code_is_refused(rows):
    row = next(row for row in rows['python'] if row['category'] == 'generation')
    with pytest.raises(ShutkaError, match='tree-sitter'): check_code_rows([row | {'output': '```python\ndef f(:\n```'}])
    with pytest.raises(ShutkaError, match='must hold what it says'):
        check_code_rows([row | {'tests': [[row['tests'][0][0], '"something else"']]}])


@pytest.mark.parametrize('language', ['javascript', 'go', 'java'])
def test_a_missing_engine_is_named(rows, language, monkeypatch):
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    programs = list_programs(rows[language][:1])
    with pytest.raises(UserError, match='not installed|Node.js'): CODE_RUNNERS[language](programs)


def test_pytest_agrees_about_python_tests(rows, tmp_path):
    "A test as people would run it: it passes with the function, and fails with a mutant."
    row = next(row for row in rows['python'] if row['category'] == 'tests')
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '--import-mode=importlib', '-o',
               'addopts=', '.']
    for name, code in (('right', row['code']), ('wrong', row['mutants'][0])):
        folder = tmp_path/name
        folder.mkdir()
        (folder/'solution.py').write_text(code)
        (folder/'test_it.py').write_text(open_fence(row['output']))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={'PYTHONPATH': '.', 'PATH': ''})
        assert (done.returncode == 0) is (name == 'right'), done.stdout


@pytest.mark.skipif(not shutil.which('gofmt'), reason='needs gofmt')
def test_gofmt_has_nothing_to_change(rows, tmp_path):
    for i, program in enumerate(list_programs(rows['go'])):
        if program.what != 'reference': continue
        (tmp_path/f'{i}.go').write_text(program.code + '\n')
        if program.test: (tmp_path/f'{i}_test.go').write_text(program.test + '\n')
    assert subprocess.run(['gofmt', '-l', str(tmp_path)], capture_output=True, text=True).stdout == ''


def test_the_command(tmp_path, capsys):
    path = tmp_path/'code.jsonl'
    command = ['generate', 'coding', '--language', 'python', '-o', str(path), '--num-examples', '60', '--seed', '4']
    assert run_command([*command, '--check']) == 0
    said = capsys.readouterr().out
    assert '60 rows, all different' in said and 'run by Python' in said and 'bugs show' in said
    assert list(read_jsonl(path)) == json.loads(json.dumps(generate_coding(60, 'python', 4)))
    assert run_command(command) == 2 and 'exists already' in capsys.readouterr().err


def test_an_unknown_language_is_refused():
    with pytest.raises(UserError, match='language'): generate_coding(5, 'cobol')
    assert list(CODE_PRINTERS) == LANGUAGES


def test_the_rows_can_be_learned_from(rows, tmp_path):
    from shutka.core.files import write_jsonl
    from shutka.data.examples import read_examples
    write_jsonl(tmp_path/'rows.jsonl', rows['java'][:50])
    assert len(read_examples(tmp_path/'rows.jsonl')) == 50


def test_few_tasks_have_no_bug():
    tasks = [draw_task(family, Random(1)) for family in load_families()]
    without = [task.family.name for task in tasks if not draw_mutants(task, 1, Random(1))]
    assert len(without) <= 5


@pytest.mark.parametrize('language', CODE_LANGUAGES)
def test_nothing_that_the_suites_ask_is_taught(language):
    rows = generate_coding(1_000, language, seed=7)
    texts = (f"{row['instruction']}\n{row['input']}\n{row['output']}" for row in rows)
    asked = find_task_copies(texts, read_suite_texts())
    assert {row['family'] for row, is_asked in zip(rows, asked) if is_asked} == set()
