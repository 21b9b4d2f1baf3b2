"An answer is judged by the tests of the repository alone, in a copy that is what the commit was."
import os
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from shutka.assistant.own_tests import check_command, check_tests, copy_commit, judge_by_tests, put_answer, run_tests
from shutka.assistant.questions import CodeQuestion, ask_about, list_functions
from shutka.assistant.state import State
from shutka.core.errors import UserError
from shutka.data.documents import LARGEST_BYTES, decode_text
from shutka.data.git import run_git
from shutka.data.secrets import redact_secrets
from shutka.history.example import import_stream, write_stream_commit

CODE = 'def double(number):\n    doubled = 2 * number\n    return doubled\n'
CHECK = 'from numbers_of import double\nassert double(4) == 8\n'
RUN = f'{sys.executable} check.py'
RIGHT, WRONG = '\n    return number + number', '\n    return number + 1'


def commit_files(repo: Path, files: dict[str, str | bytes], message: str = 'Files') -> State:
    "A repository with one commit more, as a state that learns it."
    if not repo.exists():
        repo.mkdir()
        run_git(repo, 'init', '-q', '-b', 'main')
    for path, content in files.items():
        (repo/path).parent.mkdir(parents=True, exist_ok=True)
        (repo/path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return commit_all(repo, message)

def commit_all(repo: Path, message: str = 'All') -> State:
    "Commit what is in the folder."
    run_git(repo, 'add', '-fA')
    run_git(repo, '-c', 'user.name=Ada', '-c', 'user.email=ada@localhost', 'commit', '-q', '-m', message)
    commit = run_git(repo, 'rev-parse', 'HEAD').strip()
    return State(repo, commit, commit)

def copy(state: State, folder: Path) -> Path:
    folder.mkdir()
    copy_commit(state, state.base, folder)
    return folder

def ask(data: bytes, path: str = 'numbers_of.py') -> list[CodeQuestion]:
    "The questions about the bodies of a file, made as those of an assistant are."
    text = redact_secrets(decode_text(data), Counter())
    return [question for function in list_functions(text, path, 'python')
            for question in ask_about(text, path, 'python', function, 'file') if question.kind == 'body']


# --- the command ------------------------------------------------------------------------------------

@pytest.mark.parametrize('command', ['pytest "', "it's", '', ' ', '\t', '""', 'no-such-program', '/no/such/program',
                                     'A=1 true', 'true\0', 'true \0'])
def test_a_command_that_cannot_run_is_refused_by_name(command, tmp_path):
    with pytest.raises(UserError) as caught: check_command(command)
    assert 'test_command must' in str(caught.value) and repr(command) in str(caught.value)
    with pytest.raises(UserError): run_tests(command, tmp_path)
    with pytest.raises(UserError): check_tests(command, State(tmp_path, 'a', 'a'))

def test_a_program_of_the_repository_is_looked_for_when_it_runs(tmp_path):
    assert check_command('./t.sh -q') == ['./t.sh', '-q'] and check_command('tools/t') == ['tools/t']
    assert check_command(f'{sys.executable} -c pass')[0] == sys.executable
    with pytest.raises(UserError, match='must be a program that runs'): run_tests('./t.sh', tmp_path)

def test_a_folder_without_git_has_no_commit_to_copy(tmp_path):
    with pytest.raises(UserError, match='needs a git repository'): check_tests('true', State(tmp_path))

def test_tests_must_pass_on_the_base_and_on_the_head(tmp_path):
    good = commit_files(tmp_path/'repo', {'numbers_of.py': CODE, 'check.py': CHECK})
    bad = commit_files(tmp_path/'repo', {'check.py': 'assert False\n'})
    check_tests(RUN, good)
    for base, head in ((good.base, bad.base), (bad.base, good.base)):
        with pytest.raises(UserError, match=f'must pass on {bad.base[:12]}'):
            check_tests(RUN, State(good.repo, base, head))

def test_an_answer_that_never_ends_fails_in_seconds(tmp_path):
    state = commit_files(tmp_path/'repo', {'numbers_of.py': CODE, 'check.py': CHECK})
    (question,), begun = ask(CODE.encode()), time.monotonic()
    rows = judge_by_tests(RUN, state, [question], {'base': ['\n    while True: pass']})
    assert (rows[0]['tested'], rows[0]['passed']) == (1, 0) and time.monotonic() - begun < 60


# --- the copy ---------------------------------------------------------------------------------------

def test_a_copy_has_large_files_modes_and_build_folders(tmp_path):
    (tmp_path/'repo').mkdir()
    run_git(tmp_path/'repo', 'init', '-q')
    (tmp_path/'repo'/'t.sh').write_text('#!/bin/sh\ntest -f dist/a.js && test -f build/b && test -s large\n')
    (tmp_path/'repo'/'t.sh').chmod(0o755)
    state = commit_files(tmp_path/'repo', {'dist/a.js': 'a', 'build/b': 'b', 'large': bytes(LARGEST_BYTES + 1),
                                           '.gitattributes': '* export-ignore\n'})
    folder = copy(state, tmp_path/'copy')
    assert (folder/'large').stat().st_size == LARGEST_BYTES + 1 and not os.access(folder/'large', os.X_OK)
    assert run_tests('./t.sh', folder)
    check_tests('./t.sh', state)

def test_a_link_that_leaves_the_copy_is_left_out(tmp_path):
    state = commit_files(tmp_path/'repo', {'a/inside.txt': 'here'})
    links = {'good': 'a/inside.txt', 'a/up': '../a', 'absolute': '/etc/passwd', 'a/above': '../../secret',
             'chain': 'absolute', 'round': 'round', 'all': '..'}
    for path, to in links.items(): (state.repo/path).symlink_to(to)
    (tmp_path/'secret').write_text('secret')
    folder = copy(commit_all(state.repo), tmp_path/'copy')
    assert (folder/'good').read_text() == 'here' and (folder/'a'/'up').is_symlink()
    assert not any(os.path.lexists(folder/path) for path in ('absolute', 'a/above', 'all'))
    for at, folders, files in os.walk(folder):
        assert all(Path(os.path.realpath(Path(at, one))).is_relative_to(folder) for one in folders + files)

@pytest.mark.parametrize('path', ['.git', '..', '.GIT'])
def test_no_path_of_a_commit_reaches_git_or_leaves_the_copy(path, tmp_path):
    state = commit_files(tmp_path/'repo', {'hook': '#!/bin/sh\n'})
    blob = run_git(state.repo, 'rev-parse', 'HEAD:hook').strip()
    (tmp_path/'tree').write_bytes(b'100755 hook\0' + bytes.fromhex(blob))
    inner = run_git(state.repo, 'hash-object', '-t', 'tree', '-w', str(tmp_path/'tree')).strip()
    (tmp_path/'tree').write_bytes(b'40000 ' + path.encode() + b'\0' + bytes.fromhex(inner))
    tree = run_git(state.repo, 'hash-object', '-t', 'tree', '-w', '--literally', str(tmp_path/'tree')).strip()
    with pytest.raises(UserError, match='git cannot read'): copy(State(state.repo, tree, tree), tmp_path/'copy')
    assert not any((tmp_path/'copy').iterdir()) and not (tmp_path/'hook').exists()

def test_a_hostile_repository_runs_nothing_while_it_is_copied(tmp_path):
    state = commit_files(tmp_path/'repo', {'a.txt': 'text\n', '.gitattributes': '*.txt filter=bad\n'})
    for name in ('filter.bad.smudge', 'filter.bad.process', 'core.fsmonitor'):
        run_git(state.repo, 'config', name, f'touch {tmp_path}/ran')
    for hook in ('post-checkout', 'post-index-change'):
        (state.repo/'.git'/'hooks'/hook).write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\n')
        (state.repo/'.git'/'hooks'/hook).chmod(0o755)
    index = (state.repo/'.git'/'index').read_bytes()
    assert (copy(state, tmp_path/'copy')/'a.txt').read_text() == 'text\n'
    assert not (tmp_path/'ran').exists() and (state.repo/'.git'/'index').read_bytes() == index


# --- answers ----------------------------------------------------------------------------------------

def test_what_an_answer_does_to_other_files_is_forgotten(tmp_path):
    code = 'import os\n' + CODE + '\ndef triple(number):\n    tripled = 3 * number\n    return tripled\n'
    check = CHECK + 'from numbers_of import triple\nassert triple(4) == 12\n'
    state = commit_files(tmp_path/'repo', {'numbers_of.py': code, 'check.py': check})
    questions = ask(code.encode())
    assert [one.name for one in questions] == ['double', 'triple']
    removing = "\n    os.remove('check.py')\n    return 2 * number"
    emptying = "\n    open('check.py', 'w').close()\n    return 2 * number"
    found = judge_by_tests(RUN, state, questions, {
        'base': [removing, '\n    return 4'], 'memory': [RIGHT, '\n    return 3 * number'],
        'both': [emptying, '\n    return 4']})
    assert [(row['passed'], row['tested']) for row in found] == [(1, 2), (2, 2), (1, 2)]

@pytest.mark.parametrize('encode', [
    lambda text: text.encode('utf-16'), lambda text: b'\xfe\xff' + text.encode('utf-16-be'),
    lambda text: text.encode('utf-8-sig'), lambda text: text.replace('\n', '\r\n').encode(),
    lambda text: text.replace('\n', '\r\n').encode('utf-16'), lambda text: text.replace('\n', '\r\n', 1).encode()],
    ids=['utf-16', 'utf-16-be', 'utf-8-sig', 'crlf', 'utf-16-crlf', 'mixed'])
def test_encoding_and_line_ends_stay_as_they_were(encode):
    text = '# größer\n' + CODE + '\n\nlast = "größer"\n'
    data = encode(text)
    question, = ask(data)
    assert put_answer(question, data, question.expected) == data
    assert put_answer(question, data, RIGHT) == (encode(text.replace(question.expected, RIGHT)))

def test_answers_are_tested_in_files_of_any_encoding(tmp_path):
    data = CODE.replace('\n', '\r\n').encode('utf-16')
    check = CHECK.replace('from numbers_of import double',
                          "text = open('numbers_of.py', newline='', encoding='utf-16').read()\n"
                          "assert text.count('\\n') == text.count('\\r\\n')\nexec(text)")
    state = commit_files(tmp_path/'repo', {'numbers_of.py': data, 'check.py': check})
    row, = judge_by_tests(RUN, state, ask(data), {'base': [RIGHT]})
    assert (row['passed'], row['tested'], row['not_found']) == (1, 1, 0)

def test_questions_without_a_place_are_counted_and_do_no_harm(tmp_path):
    state = commit_files(tmp_path/'repo', {'numbers_of.py': CODE, 'check.py': CHECK, 'latin.py': b'# gr\xf6\xdfer\n'})
    question, = ask(CODE.encode())
    others = [*ask(CODE.encode(), 'latin.py'), *ask(CODE.encode(), 'missing.py'),
              *ask(CODE.replace('double', 'other').encode())]
    steps = []
    rows = judge_by_tests(RUN, state, [*others, question], {'base': [WRONG] * 4, 'both': [RIGHT] * 4}, steps.append)
    assert [(row['passed'], row['tested'], row['not_found']) for row in rows] == [(0, 1, 3), (1, 1, 3)]
    assert sum(steps) == 8

def test_the_twin_in_another_class_is_left_alone(tmp_path):
    body = '    def read(self):\n        found = self.value\n        return found\n'
    code = f'class A:\n    value = 1\n\n{body}\nclass B:\n    value = 2\n\n{body}'
    check = 'from numbers_of import A, B\nassert B().read() == 2\n'
    state = commit_files(tmp_path/'repo', {'numbers_of.py': code, 'check.py': check})
    first, second = ask(code.encode())
    row, = judge_by_tests(RUN, state, [second], {'base': ['\n        return 2']})
    assert (row['passed'], row['tested']) == (1, 1)
    row, = judge_by_tests(RUN, state, [first], {'base': ['\n        return 2']})
    assert (row['passed'], row['tested'], row['not_found']) == (0, 0, 0)
    assert put_answer(second, code.encode(), '\n        return 3').decode() == code[:code.rindex('\n        found')] + (
        '\n        return 3\n')

def test_a_place_that_occurs_twice_is_none_even_where_the_two_overlap():
    line = 'def f(): return "twenty letters and more"\n'
    question = CodeQuestion('body', 'file', 'a.py', 'python', 'f', '', 'def f():', line + 'def f():', '', line[8:-1])
    assert put_answer(question, (line * 3).encode(), ' return 1') is None
    assert put_answer(question, (line * 2).encode(), ' return 1').decode() == line + 'def f(): return 1\n'

def test_a_secret_above_a_function_hides_no_place():
    data = ('# write to ada.lovelace@mail-of-ada.org\n' + CODE).encode()
    question, = ask(data)
    assert 'REDACTED_' in question.before
    assert put_answer(question, data, RIGHT) == data.replace(question.expected.encode(), RIGHT.encode())

def test_the_answer_to_a_commit_is_tested_at_the_head(tmp_path):
    base = commit_files(tmp_path/'repo', {'numbers_of.py': '', 'check.py': ''})
    head = commit_files(tmp_path/'repo', {'numbers_of.py': CODE, 'check.py': CHECK})
    text = CODE
    function, = list_functions(text, 'numbers_of.py', 'python')
    questions = [one for one in ask_about(text, 'numbers_of.py', 'python', function, 'commit') if one.kind == 'body']
    row, = judge_by_tests(RUN, State(head.repo, base.base, head.head), questions, {'base': [RIGHT]})
    assert (row['passed'], row['tested']) == (1, 1)


def test_it_is_said_how_failing_tests_end(tmp_path):
    repo = import_stream(tmp_path/'repo', write_stream_commit('main', 'Ada', '+0000', 0, 'One', {
        'check.py': 'print("first", "x" * 9_000)\nraise ValueError("no database")\n'}))
    state = State(repo, 'main', 'main')
    with pytest.raises(UserError, match=r'it ends with: .*ValueError: no database'):
        check_tests(f'{sys.executable} check.py', state)
