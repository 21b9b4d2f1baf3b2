"Instructions: histories, files and messages as people really have them."
import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import shutka
from shutka.core.errors import UserError
from shutka.core.files import read_jsonl, write_jsonl
from shutka.data.markdown import extract_code
from shutka.data.pairs import Report, collect_pairs
from shutka.evaluate.decontamination import decontaminate, read_suite_texts
from shutka.faces import cli
from shutka.instructions.answers import make_answer_pair, make_record_pair
from shutka.instructions.collection import check_instructions, collect_instructions
from shutka.instructions.commit_pairs import clean_message
from shutka.instructions.wording import LeftOut, clean_words

ADD = 'export function add(a: number, b: number) { return a + b; }\n'
MEAN = 'export function mean(all: number[]) { return all.reduce(add, 0) / all.length; }\n'


class Repository:
    "A git repository whose commits say what a test wants."
    def __init__(self, root: Path):
        self.root, self.spec = root, f'commits:{root}'
        root.mkdir()
        self.git('init', '-q', '-b', 'main')

    def git(self, *words: str, message: bytes | None = None):
        env = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}
        env |= {'GIT_CONFIG_GLOBAL': os.devnull, 'GIT_CONFIG_NOSYSTEM': '1'}
        me = ('-c', 'user.name=A', '-c', 'user.email=a@example.org')
        command = ['git', '-C', str(self.root), *me, *words]
        return subprocess.run(command, env=env, input=message, capture_output=True, check=True).stdout.decode()

    def commit(self, message: str | bytes, files: dict[str, str | bytes | None], *words: str):
        for name, text in files.items():
            path = self.root/name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_bytes(text.encode() if isinstance(text, str) else text)
        self.git('add', '-A')
        if isinstance(message, str): message = message.encode()
        self.git(*words, 'commit', '-q', '--cleanup=verbatim', '-F', '-', message=message)

    def read(self) -> tuple[list[tuple[str, str]], Report]:
        report = Report()
        return [(p['name'], p['doc']) for p in collect_instructions(self.spec, report)], report


@pytest.fixture
def repository(tmp_path): return Repository(tmp_path/'repo')


# histories

def test_an_empty_repository(repository):
    with pytest.raises(UserError, match='has no commit'): repository.read()


def test_no_repository_and_no_folder(tmp_path):
    with pytest.raises(UserError, match='must be the folder of a git repository'):
        collect_instructions(f'commits:{tmp_path}', Report())
    with pytest.raises(UserError, match='is not a folder'):
        collect_instructions(f'commits:{tmp_path}/nowhere', Report())


def test_a_history_without_typescript(repository):
    repository.commit('Add two numbers', {'add.py': 'def add(a, b): return a + b'})
    with pytest.raises(UserError, match=r'gives no instruction \(left out: none\)'): repository.read()


def test_the_root_commit_counts(repository):
    repository.commit('Add two numbers', {'add.ts': ADD})
    assert repository.read()[0] == [('add', 'Add two numbers')]


def test_merges_say_nothing(repository):
    repository.commit('Add two numbers', {'add.ts': ADD})
    repository.git('checkout', '-q', '-b', 'side')
    repository.commit('Give the mean of a list', {'mean.ts': MEAN})
    repository.git('checkout', '-q', 'main')
    repository.commit('Say what it is about', {'readme.md': 'Sums.'})
    repository.git('merge', '-q', '--no-ff', '-m', 'Bring the mean of lists to everyone', 'side')
    found, report = repository.read()
    assert sorted(found) == [('add', 'Add two numbers'), ('mean', 'Give the mean of a list')] and report.files == 2


def test_moves_and_renames_change_nothing(repository):
    repository.commit('Add two numbers', {'add.ts': ADD + MEAN})
    repository.commit('Give sums a folder of their own', {'add.ts': None, 'src/add.ts': ADD + MEAN})
    repository.commit('Separate means from sums', {'src/add.ts': ADD, 'src/mean.ts': MEAN})
    explained = '/** The sum over the count. */\n' + MEAN.replace('{ ', '{\n  // see a book\n  ')
    repository.commit('Explain what the mean is', {'src/mean.ts': explained})
    found, report = repository.read()
    assert [name for name, _ in found] == ['add', 'mean'] and report.left_out == {'no function changed': 3}


def test_moved_and_changed(repository):
    repository.commit('Add two numbers', {'add.ts': ADD})
    repository.commit('Let sums begin with one', {'add.ts': None, 'sum.ts': ADD.replace('a + b', '1 + a + b')})
    assert repository.read()[0][0] == ('add', 'Let sums begin with one')


def test_the_outermost_function_stands_for_those_inside(repository):
    text = '''class Sums {
  all(xs: number[]) {
    const one = (a: number, b: number) => a + b + 0;
    return xs.reduce(one, 0);
  }
  none() { return this.all([]); }
}
'''
    repository.commit('Sum a list up', {'a.ts': text})
    repository.commit('Start with a one instead', {'a.ts': text.replace('b + 0', 'b + 1')})
    assert repository.read()[0] == [('Sums.all', 'Start with a one instead'), ('Sums.all', 'Sum a list up'),
                                    ('Sums.none', 'Sum a list up')]


def test_too_much_at_once(repository):
    repository.commit('Four functions for sums', {'a.ts': ''.join(ADD.replace('add', f'add{i}') for i in range(4))})
    repository.commit('Sums in many files', {f'{i}.ts': ADD for i in range(21)})
    repository.commit('Add two numbers', {'b.ts': ADD})
    assert repository.read()[1].left_out == {'too many functions': 1, 'too many files': 1}


def test_files_that_are_no_code_of_ours(repository):
    repository.commit('Add two numbers', {
        'add.ts': ADD, 'add.test.ts': MEAN, 'types.d.ts': 'export declare const a: 1',
        'node_modules/x/index.ts': MEAN, 'dist/a.ts': MEAN, 'add.js': 'let a = 1'})
    found, report = repository.read()
    assert found == [('add', 'Add two numbers')] and report.left_out == {}


def test_binary_broken_and_strange_files(repository):
    repository.commit('Add two numbers', {'add.ts': ADD})
    repository.commit('Show a film about numbers', {'film.ts': bytes(range(256)), 'mean.ts': MEAN})
    repository.commit('Leave this half done', {'broken.ts': 'function ( {', 'mean.ts': MEAN + ADD})
    repository.commit('Link a file to another one', {'broken.ts': None, 'film.ts': None})
    os.symlink('add.ts', repository.root/'link.ts')
    repository.commit('Link a file to another one', {'wéird "name"\n.ts': MEAN})
    found, report = repository.read()
    assert found == [('mean', 'Link a file to another one'), ('add', 'Add two numbers')]
    assert report.left_out == {'unreadable': 2, 'broken': 1}
    assert all(line.startswith(f'{repository.spec}@') for line in report.skipped)


def test_messages_in_other_encodings(repository):
    latin = ['-c', 'i18n.commitEncoding=ISO-8859-1']
    repository.commit('Füge zwei Zahlen zusammen'.encode('latin-1'), {'a.ts': ADD}, *latin)
    repository.commit('Drei Zahlen', {'b.ts': MEAN})
    # written by hand, since git commit itself would mend the message
    command = ['git', '-C', repository.root, 'cat-file', 'commit', 'HEAD']
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    raw = raw.replace(b'Drei Zahlen', 'Füge drei Zahlen zusammen'.encode('latin-1'))
    made = repository.git('hash-object', '-t', 'commit', '-w', '--stdin', message=raw)
    repository.git('reset', '-q', '--hard', made.strip())
    found, report = repository.read()
    # the message that says nothing of its encoding is read as Latin-1, since it is not UTF-8
    assert found == [('mean', 'Füge drei Zahlen zusammen'), ('add', 'Füge zwei Zahlen zusammen')]
    assert not report.left_out


def test_windows_line_ends(repository):
    message = 'Add two numbers\r\n\r\nThey may be negative.\r\n\r\nSigned-off-by: A <a@example.org>\r\n'
    repository.commit(message, {'add.ts': ADD.replace('{ ', '{\r\n')})
    repository.commit('Only the ends of lines', {'add.ts': ADD.replace('{ ', '{\n')})
    found, report = repository.read()
    assert found == [('add', 'Add two numbers They may be negative.')] and report.left_out == {'no function changed': 1}


def test_a_users_settings_do_not_matter(repository):
    repository.commit('Add two numbers', {'src/add.ts': ADD})
    settings = {'log.showSignature': 'true', 'diff.renames': 'copies', 'color.ui': 'always', 'log.showRoot': 'false',
                'core.abbrev': '4', 'format.pretty': 'oneline', 'diff.noprefix': 'true', 'log.decorate': 'full',
                'diff.relative': 'true', 'log.date': 'relative'}
    for name, value in settings.items(): repository.git('config', name, value)
    assert repository.read()[0] == [('add', 'Add two numbers')]


def test_an_older_commit_and_a_bare_clone(repository, tmp_path):
    repository.commit('Add two numbers', {'add.ts': ADD})
    repository.commit('Give the mean of a list', {'mean.ts': MEAN})
    repository.git('clone', '-q', '--bare', '.', str(tmp_path/'bare.git'))
    pairs = list(collect_instructions(f'commits:{tmp_path}/bare.git@main~1', Report()))
    assert [(p['name'], p['package'], p['path']) for p in pairs] == [('add', 'bare', 'add.ts')]
    assert pairs[0]['source'] == f"commits:{tmp_path}/bare.git@{repository.git('rev-parse', 'HEAD~1').strip()}"


@pytest.mark.parametrize('lost', ['HEAD~1:add.ts', 'HEAD~1^{tree}', 'HEAD~1'])
def test_a_repository_with_something_lost(repository, lost):
    for i in range(3):
        repository.commit(f'Add two numbers and {"one " * i}more', {'add.ts': ADD.replace('a + b', f'a + b + {i}')})
    name = repository.git('rev-parse', lost).strip()
    path = repository.root/'.git'/'objects'/name[:2]/name[2:]
    path.chmod(0o600)
    path.unlink()
    with pytest.raises(UserError, match='is the clone complete'): repository.read()


def test_a_commit_without_a_message(repository):
    repository.commit('Add two numbers', {'add.ts': ADD})
    (repository.root/'add.ts').write_text(MEAN)
    repository.git('commit', '-qa', '--allow-empty-message', '-m', '')
    repository.git('commit', '-q', '--allow-empty', '-m', 'Nothing at all happens here')
    assert repository.read()[0] == [('add', 'Add two numbers')]


def test_stopping_early_leaves_no_process(repository):
    for i in range(20): repository.commit('Add two numbers', {'add.ts': ADD.replace('a + b', f'a + b + {i}')})
    source = collect_instructions(repository.spec, Report())
    assert next(source)['name'] == 'add'
    source.close()
    command = ['ps', '--no-headers', '--ppid', str(os.getpid()), '-o', 'comm']
    assert subprocess.run(command, text=True, capture_output=True).stdout.count('git') == 0


# messages

@pytest.mark.parametrize('message', [
    'Merge pull request #7 from a/b\n\nA parser of dates', 'Merged in parser', 'Revert "A parser of dates"',
    'This reverts commit 1234567.', 'WIP', 'wip parser of dates', 'docs: a page on dates',
    'chore(deps): bump zod from 3 to 4', 'Bump zod from 3.1.0 to 3.2.0', 'Release 1.2.0', 'v1.2.0', '1.2.0',
    'fixup! A parser of dates', 'fix lint', 'Fix lint errors in tests', 'update README.md', 'ci: run twice',
    'style!: blanks', 'Fix #12', 'Initial commit', 'typo', '...', '', '\n\n', 'fix(#12)',
    'Address review comments', 'fix build', 'test: sums of dates', 'Update yarn.lock'])
def test_messages_that_say_nothing(message):
    with pytest.raises(LeftOut, match='message says nothing'): clean_message(message)


@pytest.mark.parametrize('message, words', [
    ('Fix memory leak', 'Fix memory leak'),
    ('fix(cache): evict the oldest entry first (#12)', 'evict the oldest entry first'),
    (':bug: fix: evict the oldest entry', 'evict the oldest entry'),
    ('Closes #12: evict the oldest entry', 'evict the oldest entry'),
    ('Release locks when a writer dies', None),
    ('Parse dates\n\nCo-authored-by: B <b@example.org>\nChange-Id: I1\n(cherry picked from commit 12)', None),
    ('Parse dates quickly\n\nhttps://example.org/12\n', 'Parse dates quickly'),
    ('Test whether a path is absolute', 'Test whether a path is absolute'),
    ('日期 解析 函数', '日期 解析 函数')])
def test_what_stays_of_a_message(message, words):
    if words: assert clean_message(message) == words
    else:
        with pytest.raises(LeftOut): clean_message(message)


def test_an_endless_message():
    with pytest.raises(LeftOut, match='too many words'): clean_message('Parse dates ' * 101)
    for part in ('-', '(', 'a-', ' #', '\n', '`', '{@', '<', '[', '* ', ': '):  # in no time
        for times in (1_000, 100_000):
            with pytest.raises(LeftOut): clean_message('Parse ' + part * times)


# answers

@pytest.mark.parametrize('answer, code', [
    ('```ts\nlet a\n```', 'let a\n'), ('~~~\nlet a\n~~~', 'let a\n'),
    ('````md\n```\n````\n```TypeScript title="a"\nlet a\n```', 'let a\n'),
    ('  ```js\n  let a\n  ```', '  let a\n'), ('```\nb\n```\n```tsx\nlet a\n```', 'let a\n'),
    ('```c++\nint a;\n```', ''), ('```\r\nlet a\r\n```\r\n', 'let a\n'), ('`let a`', '`let a`'), ('', ''),
    ('```', '```'), ('`' * 100_000, '`' * 100_000), ('```ts\n```', '')])
def test_fences(answer, code): assert extract_code(answer) == code


@pytest.mark.parametrize('code, name', [
    (ADD, 'add'), ('import { a } from "b"\nconst f = (x: number) => x + a + 1', 'f'),
    ('const V = () => <b>{one}{two}{three}</b>', 'V'), ('type A = { one: 1, two: 2 }', 'A'),
    ('interface O { one: 1, two: 2 }\nclass C { run(o: O) { return o.one + o.two; } }', 'C'),
    ('push(item) { this.items.push(item); }', 'List.push'),
    ('async function (a) { return await a.b(); }', 'push'), ('(a, b) => { return a + b + 1; }', 'push'),
    ('\ufeff' + ADD, 'add'), ('#!/usr/bin/env node\n' + ADD, 'add')])
def test_the_first_declaration(code, name):
    assert make_answer_pair('Do what I want.', code, 'List.push', 'a.jsonl:1')['name'] == name


@pytest.mark.parametrize('code, why', [
    ('def add(a, b):\n    return a + b', 'broken'), ('add(1, 2)', 'no declaration'), ('', 'no code'),
    ('  \n', 'no code'), ('```py\na\n```', 'no code'), ('const one = () => 1', 'no declaration'),
    ('function ( {', 'broken'), ('\0', 'broken'), ('function f() { return "\ud800"; }', None)])
def test_answers_without_one(code, why):
    if why is None:
        code += '\nfunction g(a) { return a + 1; }'
        assert make_answer_pair('Do what I want.', code, '', 'a.jsonl:1')['name'] in ('f', 'g')
        return
    with pytest.raises(LeftOut, match=why): make_answer_pair('Do what I want.', code, '', 'a.jsonl:1')


# records

@pytest.mark.parametrize('record', [
    {'instruction': 'Add two numbers.', 'input': '', 'output': ADD},
    {'prompt': 'Add two numbers.', 'completion': ADD}, {'question': 'Add two numbers.', 'response': ADD},
    {'docstring': 'Add two numbers.', 'code': ADD},
    {'func_documentation_string': 'Add two numbers.', 'func_code_string': ADD},
    {'doc': 'Add two numbers.', 'solution': ADD}, {'words': 'Add two numbers.', 'code': ADD, 'id': 7},
    {'instruction': '', 'prompt': 'Add two numbers.', 'output': None, 'code': ADD},
    {'instruction': 'Add', 'input': 'two numbers.', 'output': ADD, 'kind': 'sum'}])
def test_layouts(record, tmp_path):
    write_jsonl(tmp_path/'a.jsonl', [record])
    [pair] = collect_instructions(f'jsonl:{tmp_path}/a.jsonl', Report())
    assert (pair['doc'], pair['name'], pair['path'], pair['package']) == ('Add two numbers.', 'add', 'a.jsonl:1', 'a')
    if record.get('kind') == 'pair': assert list(collect_pairs(f'jsonl:{tmp_path}/a.jsonl', Report())) == [pair]


@pytest.mark.parametrize('text, error', [
    ('', 'holds no record'), ('\n\n', 'holds no record'), ('[{"prompt": "a", "code": "b"}]', 'is an array'),
    ('[\n {"prompt": "a"}\n]', 'is an array'), ('\ufeff [', 'is an array'),
    ('7\n', 'must be a JSON object, got int'), ('{"prompt": "a", "code": "b"', r'a\.jsonl:1: not valid JSON'),
    ('\n\n{"text": "a"}', r'a\.jsonl:3: a record must have one of the fields instruction, .*; this one has text'),
    ('{"prompt": "a"}', r'a\.jsonl:1: .* output, .*; this one has prompt'), ('{}', 'this one has none'),
    ('{"prompt": ["a"], "code": "b"}', r"'prompt' must be a text, got list"),
    ('{"prompt": "a", "code": {"b": 1}}', "'code' must be a text, got dict")])
def test_files_that_are_refused_at_once(text, error, tmp_path):
    (tmp_path/'a.jsonl').write_text(text, encoding='utf-8')
    with pytest.raises(UserError, match=error): collect_instructions(f'jsonl:{tmp_path}/a.jsonl', Report())


@pytest.mark.parametrize('line, error', [
    (b'{"text": 1}', r':2: a record must have'), (b'[]', ':2: each line must be a JSON object, got list'),
    (b'{"prompt": "\xff"}', ':2: not valid JSON'), (b'{', ':2: not valid JSON')])
def test_lines_that_are_refused_later(line, error, tmp_path):
    (tmp_path/'a.jsonl').write_bytes(json.dumps({'prompt': 'Add two numbers.', 'code': ADD}).encode() + b'\r\n' + line)
    with pytest.raises(UserError, match=error): list(collect_instructions(f'jsonl:{tmp_path}/a.jsonl', Report()))


def test_what_is_skipped_is_told(tmp_path):
    good = {'prompt': 'Add two numbers.', 'code': ADD, 'language': 'TypeScript'}
    changes = [{}, {'prompt': 'Add'}, {'code': 'def add(): pass'}, {'language': 'php'}, {'prompt': None},
               {'code': None}, {}]
    write_jsonl(tmp_path/'a.jsonl', [good | change for change in changes])
    report = Report()
    assert len(list(collect_instructions(f'jsonl:{tmp_path}/a.jsonl', report))) == 2
    assert report.left_out == {'too few words': 2, 'broken': 1, 'another language': 1, 'no code': 1}
    assert report.skipped == [f'{tmp_path}/a.jsonl:3: broken', f'{tmp_path}/a.jsonl:6: no code']


def test_what_was_collected_can_be_read_again(repository, tmp_path):
    repository.commit('Add two numbers', {'add.ts': ADD})
    pairs = list(collect_instructions(repository.spec, Report()))
    write_jsonl(tmp_path/'pairs.jsonl', pairs)
    assert list(collect_instructions(f'jsonl:{tmp_path}/pairs.jsonl', Report())) == pairs


# sources

def test_specs(tmp_path):
    assert check_instructions('commits:../repo@v1') == ('commits', '../repo@v1')
    errors = {'commits:': 'unknown kind|must say where', 'comits:x': "did you mean 'commits'",
              'x': 'a source begins with', 'jsonl:': 'must say where', 'jsonl:nowhere.jsonl': 'does not exist'}
    for spec, error in errors.items():
        with pytest.raises(UserError, match=error): collect_instructions(spec, Report())
    with pytest.raises(UserError, match='does not exist'):
        collect_instructions(f'bundled:typescript,dir:{tmp_path}/nowhere', Report())


def test_documented_declarations_of_a_source():
    report, lines = Report(), []
    pairs = list(collect_instructions('bundled:typescript', report, lines.append))
    assert len(pairs) == report.documented - report.left_out['too few words'] - report.left_out['too many words'] > 100
    assert all(3 <= len(p['doc'].split()) <= 200 for p in pairs)
    assert lines == [f'bundled:typescript: {len(pairs):,} instructions']


def test_a_source_without_comments(tmp_path):
    (tmp_path/'add.ts').write_text(ADD)
    with pytest.raises(UserError, match='gives no instruction'): list(collect_instructions(f'dir:{tmp_path}', Report()))


def test_cleaning_is_that_of_doc_comments():
    text = 'Adds **two** <b>numbers</b>.\r\n\r\n@param a - the first\r\n@internal no'
    assert clean_words(text) == 'Adds two numbers. a the first'
    assert clean_words('') == ''
    assert clean_words('/** Starts */') == 'Starts' == clean_words('<!-- please\nfill in -->Starts')


# what the suites ask

FOLDER = Path(shutka.__file__).parent/'evaluate'/'suites'
SUITES = [item for name in ('syntax', 'programming', 'algorithmic')
          for item in json.loads((FOLDER/f'{name}.json').read_text(encoding='utf-8'))['items']]


def pair(doc: str, code: str) -> dict:
    return make_answer_pair('Do what I want.', ADD, '', 'a.jsonl:1') | {'doc': doc, 'signature': '', 'body': code}


def test_every_answer_and_every_task_is_left_out():
    texts = read_suite_texts()
    assert len(texts) == 2 * len(SUITES)
    answers = [pair('Do what I want.', '\n'.join(item['reference'])) for item in SUITES]
    assert decontaminate(answers, texts) == ([], len(SUITES))
    asked = [pair(f"Write a function in TypeScript. {item['prompt'].lower()}", ADD) for item in SUITES]
    assert decontaminate(asked, texts) == ([], len(SUITES))


def test_near_copies_are_left_out_nearly_always():
    "Another name; a line changed; white space; amid other code."
    renamed = [pair('Do what I want.', '\n'.join(item['reference']).replace(item['id'], 'other')) for item in SUITES]
    before, after = 'const before = 1; ' * 5, 'return this.others.map(one => one.name).join()' * 5
    longer = [p | {'body': before + p['body'].replace('\n', '\n\n\t') + after} for p in renamed]
    for copies in (renamed, longer): assert decontaminate(copies, read_suite_texts())[1] >= .95 * len(SUITES)


def test_the_innocent_stay():
    pairs = list(collect_pairs('bundled:typescript', Report()))
    kept, left_out = decontaminate(pairs, read_suite_texts())
    assert len(kept) + left_out == len(pairs) and left_out < .01 * len(pairs)
    assert decontaminate(pairs[:9], []) == (pairs[:9], 0)
    assert decontaminate([], read_suite_texts()) == ([], 0)
    assert decontaminate(pairs[:9], ['', '...']) == (pairs[:9], 0)


# the command

def test_command(repository, tmp_path, capsys):
    repository.commit('Add two numbers', {'add.ts': ADD})
    repository.commit('fix lint', {'add.ts': MEAN})
    assert cli.run_command(['data', 'instructions', repository.spec, '-o', f'{tmp_path}/pairs.jsonl']) == 0
    out, err = capsys.readouterr()
    assert out.startswith('2 files') and 'left out: 1 message says nothing' in out and '1 instructions' in err
    assert Counter(p['name'] for p in read_jsonl(tmp_path/'pairs.jsonl')) == {'add': 1}
    assert cli.run_command(['data', 'instructions', repository.spec, '-o', f'{tmp_path}/pairs.jsonl']) == 2
    assert cli.run_command(['data', 'instructions', repository.spec, '-o', f'{tmp_path}/pairs.jsonl', '--force']) == 0
    assert cli.run_command(['data', 'instructions', 'commits:nowhere', '-o', f'{tmp_path}/more.jsonl']) == 2
    err = capsys.readouterr().err
    assert 'exists already' in err and 'is not a folder' in err and not (tmp_path/'more.jsonl').exists()


def test_records_of_other_languages_are_left_out():
    record = {'docstring': 'Adds two numbers.', 'code': 'function add($a) { return $a + 1; }', 'language': 'php'}
    with pytest.raises(LeftOut, match='another language'): make_record_pair(record, 'a.jsonl:1')
