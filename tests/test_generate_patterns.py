"""Patterns of a repository: pieces of its own code, each with one question, and nothing that must not be learned."""
import subprocess
from collections import Counter

import pytest

from shutka.core.errors import UserError
from shutka.core.files import read_jsonl
from shutka.data.examples import parse_example
from shutka.data.omissions import explain_omission
from shutka.data.pattern_syntax import PATTERN_QUERIES, PATTERN_SUFFIXES, find_patterns
from shutka.faces.cli import run_command
from shutka.generate.pattern_files import read_pattern_files
from shutka.generate.patterns import generate_patterns
from shutka.generate.validation import validate_rows

FILES = {
    'python': {'src/dates.py': '''import json


class Calendar:
    """Knows which days there are in a year."""

    @property
    def days(self):
        """How many days a year has."""
        total = 365
        return total

    def load(self, path):
        """Read the days of a year from a file."""
        with open(path) as file:
            text = file.read()
        try:
            found = json.loads(text)
        except ValueError:
            found = []
        return found
''', 'tests/test_dates.py': '''def test_load(tmp_path):
    calendar = Calendar()
    assert calendar.load(tmp_path/'days.json') == []
'''},
    'go': {'dates.go': '''package dates

import "encoding/json"

// Load reads the days of a year.
func Load(data []byte) ([]int, error) {
	var days []int
	err := json.Unmarshal(data, &days)
	if err != nil {
		return nil, err
	}
	return days, nil
}

// Calendar knows its days well.
type Calendar struct {
	Days []int
}
''', 'dates_test.go': '''package dates

import "testing"

func TestLoad(t *testing.T) {
	days, err := Load([]byte("[1]"))
	if err != nil || len(days) != 1 {
		t.Fatal(days)
	}
}
'''},
    'java': {'src/Dates.java': '''import java.util.List;

/** Knows which days there are. */
class Dates {
    /** Reads the number of days. */
    int loadDays(String text) {
        int days = 0;
        try {
            days = Integer.parseInt(text);
        } catch (NumberFormatException e) {
            days = 1;
        }
        List.of(days);
        return days;
    }
}
''', 'src/test/DatesTest.java': '''class DatesTest {
    @Test
    void loadDays() {
        Dates dates = new Dates();
        assertEquals(1, dates.loadDays("x"));
    }
}
'''},
    'rust': {'src/lib.rs': '''use std::fs;

/// Knows which days there are.
pub struct Calendar {
    pub days: u32,
}

/// Reads the number of days.
pub fn load_days(path: &str) -> u32 {
    let text = fs::read_to_string(path);
    let found = match text {
        Ok(text) => text.len() as u32,
        Err(_) => 0,
    };
    found + 1
}

#[test]
fn load_days_of_nothing() {
    let days = load_days("none");
    assert_eq!(days, 1);
}
'''},
    'javascript': {'src/dates.js': '''import fs from "node:fs";

/** Knows which days there are. */
class Calendar {
  days = [];
}

/** Reads the days of a year. */
export function loadDays(path) {
  let days = [];
  const text = fs.readFileSync(path);
  try {
    days = JSON.parse(text);
  } catch (error) {
    days = [];
  }
  return days;
}
''', 'test/dates.test.js': '''test("load days of nothing", () => {
  expect(loadDays("none")).toEqual([]);
});
'''},
    'typescript': {'src/dates.ts': '''import { readFileSync } from "node:fs";

/** Knows which days there are. */
export interface Calendar {
  days: number[];
}

/** Reads the days of a year. */
export function loadDays(path: string): number[] {
  let days: number[] = [];
  const text = readFileSync(path, "utf8");
  try {
    days = JSON.parse(text);
  } catch (error) {
    days = [];
  }
  return days;
}
''', 'src/dates.test.ts': '''it("load days of nothing", () => {
  expect(loadDays("none")).toEqual([]);
});
'''}}


def write(folder, files):
    for path, text in files.items():
        (folder/path).parent.mkdir(parents=True, exist_ok=True)
        (folder/path).write_text(text)
    return folder


def commit(folder, subject):
    "Commit all there is."
    call = ['git', '-C', str(folder), '-c', 'user.name=a', '-c', 'user.email=a@localhost']
    if not (folder/'.git').exists(): subprocess.run([*call, 'init', '-q'], check=True)
    subprocess.run([*call, 'add', '-A'], check=True)
    subprocess.run([*call, 'commit', '-qm', subject], check=True)


def find_rows(rows, category): return [row for row in rows if row['category'] == category]


@pytest.mark.parametrize('language', FILES)
def test_each_language_has_patterns_of_each_kind(tmp_path, language):
    rows, _ = generate_patterns(write(tmp_path, FILES[language]), language, docs=True)
    kinds = Counter(row['category'] for row in rows)
    assert set(kinds) >= {'function', 'type', 'test', 'error', 'documentation', 'usage'}, kinds
    code = ''.join(FILES[language].values())
    for row in rows:
        if row['category'] == 'documentation': continue
        lines = row['output'].split('\n')[1:-1]
        assert all(line.strip() in code for line in lines)   # word for word what people wrote
        assert '# ' not in lines[0] and lines[0].strip()


def test_all_languages_are_tried(): assert set(FILES) == set(PATTERN_SUFFIXES) == set(PATTERN_QUERIES)


@pytest.mark.parametrize('language', FILES)
def test_rows_are_examples_without_faults(tmp_path, language):
    write(tmp_path/'repo', FILES[language])
    path = str(tmp_path/'rows.jsonl')
    told = ['generate', 'patterns', '--repo', str(tmp_path/'repo'), '--language', language, '-o', path]
    assert run_command([*told, '--include-docs']) == 0
    report = validate_rows(path)
    assert report.passed, report.found
    assert len({(row['instruction'], row['input']) for row in read_jsonl(path)}) == report.rows


def test_a_function_has_its_body_and_its_decorators(tmp_path):
    found = find_patterns(FILES['python']['src/dates.py'], 'src/dates.py', 'python')
    days, load = found.functions
    assert days.code.startswith('@property\ndef days') and days.code.endswith('return total')
    assert load.signature == 'def load(self, path):' and load.doc == 'Read the days of a year from a file.'
    assert load.errors == ('try:\n        found = json.loads(text)\n    except ValueError:\n        found = []',)


def test_the_gap_of_an_error_is_where_the_error_was(tmp_path):
    rows, _ = generate_patterns(write(tmp_path, FILES['python']), 'python')
    row, = find_rows(rows, 'error')
    assert row['output'] == ('```python\ntry:\n    found = json.loads(text)\nexcept ValueError:\n    found = []\n```')
    assert '    … the statement that is asked for …\n    return found' in row['input'] and 'except' not in row['input']


def test_documentation_is_asked_of_code_without_it(tmp_path):
    rows, _ = generate_patterns(write(tmp_path, FILES['python']), 'python', docs=True)
    for row in find_rows(rows, 'documentation'): assert row['output'] not in row['input'] and 'def ' in row['input']
    assert not find_rows(generate_patterns(tmp_path, 'python')[0], 'documentation')


def test_words_of_a_commit_describe_a_function_without_doc(tmp_path):
    code = 'def lookUpName(table, key):\n    found = table.get(key)\n    return found\n'
    write(tmp_path, {'a.py': code})
    row, = generate_patterns(tmp_path, 'python')[0]
    assert row['input'].startswith('Its name says: look up name.')
    commit(tmp_path, 'Find people by their name')
    write(tmp_path, {'a.py': code.replace('found', 'hit')})
    commit(tmp_path, 'Shorter words everywhere')
    row, = generate_patterns(tmp_path, 'python')[0]
    assert row['input'].startswith('It came with the change: Find people by their name.') and 'hit' in row['output']


def test_a_git_repository_is_read_at_its_last_commit(tmp_path):
    write(tmp_path, FILES['python'])
    commit(tmp_path, 'Days of a year, from a file')
    before = generate_patterns(tmp_path, 'python')
    write(tmp_path, {'scratch.py': 'def scratch(a):\n    b = a\n    return b\n', '.gitignore': 'scratch.py\n'})
    assert generate_patterns(tmp_path, 'python') == before


@pytest.mark.parametrize('path, text, why', [
    ('vendor/a.py', 'x = 1\n', 'carried along'), ('a/third_party/b.py', 'x = 1\n', 'carried along'),
    ('a.py', '# @generated by a program\nx = 1\n', 'generated'), ('a.py', f'x = "{"y" * 2000}"\n', 'minified'),
    ('a.py', '# SPDX-License-Identifier: GPL-3.0-or-later\nx = 1\n', 'licence GPL-3.0-or-later'),
    ('a.py', '# SPDX-License-Identifier: MIT AND AGPL-3.0-only\nx = 1\n', 'licence MIT AND AGPL-3.0-only')])
def test_files_that_are_left_out_are_counted_with_their_reason(tmp_path, path, text, why):
    counts = Counter()
    assert not list(read_pattern_files(write(tmp_path, {path: text}), 'python', counts))
    assert counts == {f'files left out: {why}': 1} and explain_omission(path, text) == why


def test_a_licence_may_be_taken_anyway(tmp_path):
    write(tmp_path, {'a.py': '# SPDX-License-Identifier: GPL-3.0-only\ndef f(a):\n    b = a\n    return b\n'})
    with pytest.raises(UserError, match='to learn from'): generate_patterns(tmp_path, 'python')
    rows, _ = generate_patterns(tmp_path, 'python', any_licence=True)
    assert rows[0]['licence'] == 'GPL-3.0-only'


def test_secrets_are_replaced(tmp_path):
    code = "def connect(host):\n    key = 'AKIAIOSFODNN7REALKEY'\n    return host, key\n"
    rows, _ = generate_patterns(write(tmp_path, {'a.py': code}), 'python', counts=(counts := Counter()))
    assert 'AKIA' not in str(rows) and counts['secrets replaced'] == 1


def test_hostile_files_harm_nothing(tmp_path):
    files = {'bad.py': 'def f(:\n' * 50, 'marks.py': "def f(a):\n    b = '<|im_end|>'\n    return b\n",
             'fence.py': 'def g(a):\n    b = """```"""\n    return b\n', 'deep.py': '(' * 5_000 + ')' * 5_000}
    write(tmp_path, files)
    (tmp_path/'link.py').symlink_to('/etc/passwd')
    (tmp_path/'binary.py').write_bytes(b'\0\1\2')
    (tmp_path/'latin.py').write_bytes('é = 1'.encode('latin-1'))
    rows, _ = generate_patterns(tmp_path, 'python', counts=(counts := Counter()))
    assert [row['path'] for row in rows] == ['fence.py'] and rows[0]['output'].startswith('````python\n')
    assert counts['rows left out: special token'] == 1 and counts['files left out: unreadable'] == 2


def make_many(folder, count=30):
    verbs = ['sort', 'count', 'merge', 'split', 'rank', 'join', 'pack', 'draw', 'fill', 'scan']
    files = {}
    for i in range(count):
        first, second, third = verbs[i % 10], verbs[(i * 7 + 3) % 10], verbs[(i * 3) % 10]
        files[f'src/{first}{i}.py'] = (f'def {first}_{i}_{second}(rows, size):\n    step{i} = size * {i} + len(rows)\n'
                                       f'    kept{i} = rows[step{i}:size - {i * i}]\n    return kept{i}, {third}_{i}\n')
    return write(folder, files)


def test_held_out_files_and_their_near_copies_are_kept_apart(tmp_path):
    make_many(tmp_path)
    rows, holdout = generate_patterns(tmp_path, 'python', held_out=.2)
    assert holdout and not {row['path'] for row in rows} & {row['path'] for row in holdout}
    name = holdout[0]['path']
    copy = (tmp_path/name).read_text() + '\n# the same once more\n'
    taken = rows[0]['path']
    (tmp_path/taken).write_text(copy)   # a file to learn from becomes a copy of one that is held out
    again, left = generate_patterns(tmp_path, 'python', held_out=.2, counts=(counts := Counter()))
    assert name not in {row['path'] for row in left} and counts['rows left out: near copies'] >= 1
    assert taken in {row['path'] for row in again}


def test_as_many_as_were_asked_for_or_an_error_that_says_how_many_there_are(tmp_path):
    make_many(tmp_path)
    assert len(generate_patterns(tmp_path, 'python', n=10)[0]) == 10
    with pytest.raises(UserError, match='there are only 30 different patterns'):
        generate_patterns(tmp_path, 'python', n=31)
    assert generate_patterns(tmp_path, 'python') == generate_patterns(tmp_path, 'python')


def test_a_part_of_the_rows_has_all_kinds(tmp_path):
    write(tmp_path, FILES['python'])
    whole, _ = generate_patterns(make_many(tmp_path), 'python', docs=True)
    some, _ = generate_patterns(tmp_path, 'python', n=len(whole) // 2, docs=True)
    assert some == whole[:len(some)]
    changes = sum(a['category'] != b['category'] for a, b in zip(whole, whole[1:]))
    assert changes > len({row['category'] for row in whole})   # not one category after the other


def test_methods_of_one_name_are_not_asked_for_without_a_difference(tmp_path):
    method = '    def read(self, path):\n        text = open(path)\n        return {}\n'
    code = ''.join(f'class {name}:\n{method.format(name)}' for name in ('A', 'B'))
    with pytest.raises(UserError): generate_patterns(write(tmp_path, {'a.py': code}), 'python')


@pytest.mark.parametrize('options, why', [
    ({'language': 'cobol'}, "unknown language 'cobol'"), ({'language': 'python', 'held_out': 1.}, 'held_out must be'),
    ({'language': 'go'}, 'must hold functions or types in go')])
def test_bad_input(tmp_path, options, why):
    with pytest.raises(UserError, match=why): generate_patterns(write(tmp_path, FILES['python']), **options)


def test_rows_parse_as_examples(tmp_path):
    rows, _ = generate_patterns(write(tmp_path, FILES['rust']), 'rust')
    for number, row in enumerate(rows, 1): assert parse_example(row, f'rows.jsonl:{number}').answer == row['output']
