"Sync: functions and types of Python, Go, Java, Rust and JavaScript become memories, and nothing hostile stops it."
import os
import subprocess
import time
from pathlib import Path

import pytest

import shutka.memory.snippets as snippets_module
from shutka.core.errors import UserError
from shutka.data.documents import LARGEST_BYTES
from shutka.data.pattern_syntax import find_definitions, find_patterns
from shutka.data.sources import open_source
from shutka.memory.bank import Bank
from shutka.memory.definitions import extract_definitions, is_definition_path
from shutka.memory.descriptions import describe_snippet, split_snippet
from shutka.memory.queries import make_queries
from shutka.memory.snippets import collect_snippets

FILES = {
    'src/money.py': '''class Purse:
    "Holds coins of one currency."

    def spend(self, amount: int, of: dict = {'a': 1}) -> int:
        """Take coins out; raise `ValueError` if the purse is too light."""
        self.coins -= amount
        return self.coins


# Counts the beggars at the gate.
def beggars(gate): return len(gate.people)
''',
    'pkg/router.go': '''package mux

// Router sends each request to its handler.
type Router struct {
	routes []*Route
}

// Match finds the first route that fits a request.
func (r *Router) Match(request *Request) *Route {
	return r.routes[0]
}

// Reverse builds the address of a named route.
func Reverse(name string) string { return name }
''',
    'src/main/java/Oven.java': '''import java.util.Map;

/** Bakes bread. */
public class Oven {
    private int heat;

    /**
     * Warms the stones until they glow.
     * @param degrees how hot they get, see {@link Oven}
     */
    @Override
    public <T> Map<String, T> warm(int degrees) throws Cold {
        heat = degrees;
        return null;
    }
}
''',
    'src/lib.rs': '''/// A lantern with a wick.
#[derive(Debug)]
pub struct Lantern { oil: u32 }

impl Lantern {
    /// Lights the wick if any oil is left.
    pub fn kindle(&mut self) -> bool { self.oil > 0 }
}

#[cfg(test)]
mod tests {
    fn helper() -> u32 { 3 }
    #[test]
    fn kindles() { assert!(true); }
}
''',
    'lib/post.js': '''/**
 * Carries a letter over the mountains.
 */

pigeon.carry = function (letter) { return letter.sent(); };

class Stamp {
  /** Licks the back of it. */
  lick() { this.wet = true; }
}
'''}
QUESTIONS = {
    'take coins out of a purse that is too light': 'Purse.spend', 'coins of one currency': 'Purse',
    'count beggars at the gate': 'beggars', 'first route that fits a request': 'Router.Match',
    'address of a named route': 'Reverse', 'send each request to its handler': 'Router',
    'warm the stones until they glow': 'Oven.warm', 'bakes bread': 'Oven',
    'light the wick if oil is left': 'Lantern.kindle', 'lantern with a wick': 'Lantern',
    'carry a letter over the mountains': 'pigeon.carry', 'lick the back': 'Stamp.lick'}


def write(root, files):
    for path, content in files.items():
        path = root/path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def quiet(line): pass


def git(repo, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}
    command = ['git', '-C', repo, '-c', 'user.name=A', '-c', 'user.email=a@example.org', *arguments]
    subprocess.run(command, check=True, env=clean, capture_output=True)


def commit(repo):
    git(repo, 'init', '-q')
    git(repo, 'add', '-A')
    git(repo, 'commit', '-qm', 'x')


def names(bank): return sorted(i.metadata['name'] for i in bank.store.get(bank.store.live()))


@pytest.fixture
def bank(tmp_path):
    with Bank(tmp_path/'bank') as bank:
        yield bank
        assert bank.verify() == []


# what is remembered

@pytest.mark.parametrize('scheme', ['dir', 'git'])
def test_a_question_in_words_finds_each(bank, tmp_path, scheme):
    root = write(tmp_path/'app', FILES)
    if scheme == 'git': commit(root)
    bank.sync(f'{scheme}:{root}', progress=quiet)
    assert names(bank) == sorted([*QUESTIONS.values(), 'Stamp'])
    for question, wanted in QUESTIONS.items():
        hit = bank.search(question, 1)[0]
        assert (hit.metadata['name'], hit.metadata['source']) == (wanted, f'{scheme}:{root}'), question
        assert hit.metadata['path'] in FILES and hit.metadata['kind'] in ('function', 'type')


def find(path, name): return {about['name']: text for text, about in extract_definitions(path, FILES[path])}[name]


def test_what_the_texts_look_like():
    assert find('pkg/router.go', 'Router.Match') == '''// Router.Match
/** Match finds the first route that fits a request. */
func (r *Router) Match(request *Request) *Route {
	return r.routes[0]
}'''
    assert find('src/main/java/Oven.java', 'Oven.warm') == '''// Oven.warm
/** Warms the stones until they glow. degrees how hot they get, see Oven */
@Override
public <T> Map<String, T> warm(int degrees) throws Cold {
    heat = degrees;
    return null;
}'''
    assert find('src/lib.rs', 'Lantern') == '/** A lantern with a wick. */\npub struct Lantern { oil: u32 }'
    assert find('src/money.py', 'beggars') == ('# Counts the beggars at the gate.\n'
                                               'def beggars(gate): return len(gate.people)')
    assert find('src/money.py', 'Purse.spend').startswith('# Purse.spend\ndef spend(self, amount: int')
    assert find('src/money.py', 'Purse.spend').count('Take coins out') == 1


@pytest.mark.parametrize('path', FILES)
def test_descriptions_know_name_and_doc(path):
    for text, about in extract_definitions(path, FILES[path]):
        name, doc, code = split_snippet(text)
        assert name == about['name'] and code and doc.strip() == doc
        assert bool(doc) == (name != 'Stamp')
        bare = text.split('\n', 1)[1] if text.startswith((f'// {name}\n', f'# {name}\n')) else text
        assert split_snippet(bare)[0] == name.split('.')[-1]   # without its title


def test_a_docstring_is_described_once():
    made = describe_snippet(find('src/money.py', 'Purse.spend'))
    assert made == ("purse spend. Take coins out; raise `ValueError` if the purse is too light. "
                    "def spend(self, amount: int, of: dict = {'a': 1}) -> int:")
    made = describe_snippet(find('src/money.py', 'Purse'))
    assert made.startswith('purse. Holds coins of one currency. class Purse:')


def test_questions_are_made_from_docs_of_every_language():
    texts = [text for path in FILES for text, _ in extract_definitions(path, FILES[path])]
    asked = {query.answer for query in make_queries(texts)}
    paths = [path for path in FILES for _ in extract_definitions(path, FILES[path])]
    assert {Path(paths[at]).suffix for at in asked} >= {'.py', '.go'}


@pytest.mark.parametrize('doc', ['"""Ends */ here."""', "r'''Raw.'''", '"Plain: it is."', '"""A "quoted" word."""'])
def test_docstrings_of_every_kind(doc):
    code = f'def f(a: str = ")",   # one of:\n      b=3):\n    {doc}\n    return a'
    (text, about), = extract_definitions('a.py', code + '\n')
    assert text == code and split_snippet(text)[1] == doc.strip('r"\'').rstrip('"')
    assert split_snippet(text)[2] == code.replace(f'    {doc}\n', '')


def test_a_long_class_is_remembered_without_its_methods():
    methods = ''.join(f'\n    /** Turns {i}. */\n    int turn{i}() {{ return {i}; }}\n' for i in range(60))
    found = extract_definitions('Mill.java', f'/** Grinds. */\nclass Mill {{\n    int wheel;\n{methods}}}\n')
    assert len(found) == 61
    assert found[-1] == ('/** Grinds. */\nclass Mill {\n    int wheel;', {'name': 'Mill', 'kind': 'type'})
    assert split_snippet(found[-1][0])[:2] == ('Mill', 'Grinds.')
    table = 'class Table:\n' + '    x = 1\n' * 500
    assert extract_definitions('a.py', table)[0][0].count('\n') == 79


def test_patterns_say_what_they_said():
    "An owner is new; a long function still teaches nothing."
    found = find_patterns(FILES['src/lib.rs'], 'src/lib.rs', 'rust')
    assert [(one.name, one.owner, one.is_test) for one in found.functions] == [
        ('kindle', 'Lantern', False), ('helper', '', False), ('kindles', '', True)]
    long = 'def f():\n' + '    x = 1\n' * 100
    assert not find_patterns(long, 'a.py', 'python').functions and find_definitions(long, 'a.py', 'python').functions


# what is left out

@pytest.mark.parametrize('path', [
    'tests/a.py', 'test_a.py', 'a_test.py', 'conftest.py', 'pkg/a_test.go', 'src/test/java/A.java', 'src/ATest.java',
    'src/TestA.java', 'benches/../tests/a.rs', 'src/tests.rs', 'a.test.js', 'a.spec.mjs', '__tests__/a.js', 'spec/a.js',
    'test-shrinker/A.java', 'testdata/a.go', 'vendor/x/a.go', 'third_party/a.rs', 'node_modules/x/a.js', 'dist/a.js',
    'target/debug/a.rs', '.venv/a.py', '.hidden.py', 'venv/a.py', 'a.min.js', 'vite.config.js', 'Gruntfile.js'])
def test_what_a_path_leaves_out(path): assert not is_definition_path(path)


@pytest.mark.parametrize('path', ['src/contest.py', 'testing.py', 'latest/a.go', 'src/Attest.java', 'src/test.ts.js',
                                  'src/config.js', 'builder/a.rs'])
def test_what_a_path_does_not_leave_out(path): assert is_definition_path(path)


def test_tests_copies_and_results_stay_out(bank, tmp_path):
    f = 'def {}(): return 1\n'.format
    js = 'function {}() {{ return 1; }}\n'.format
    app = write(tmp_path/'app', {
        'a.py': f('a') + 'def test_drive(): return 2\n', 'tests/b.py': f('b'), 'vendor/c.py': f('c'), '.d/d.py': f('d'),
        'made.py': '# Code generated by x. DO NOT EDIT.\n' + f('e'), 'wide.py': f('w') + 'x = "' + 'x' * 3_000 + '"\n',
        'gpl.py': '# SPDX-License-Identifier: GPL-3.0\n' + f('gpl'),   # one may remember what one may not learn from
        'src/t.ts': 'export function t(a: number) { return a + a + 1; }\n', 'src/t.js': js('t'), 'src/u.js': js('u'),
        'out/v.js': js('v') + '//# sourceMappingURL=v.js.map\n', 'w.min.js': js('w2'), 'vite.config.mjs': js('x'),
        'y.js': '"use strict";\nObject.defineProperty(exports, "__esModule", { value: true });\n' + js('y')})
    bank.sync(f'dir:{app}', progress=quiet)
    assert names(bank) == ['a', 'gpl', 't', 'test_drive', 'u']
    commit(app)
    assert sorted(about['name'] for _, about in collect_snippets(f'git:{app}')) == names(bank)
    with pytest.raises(UserError, match='TypeScript'): open_source(f'dir:{app}/tests')   # training reads no more


def test_an_empty_source_says_what_is_read(bank, tmp_path):
    app = write(tmp_path/'app', {'a.rb': 'x', 'test_a.py': 'def f(): pass\n'})
    with pytest.raises(UserError, match='no code in TypeScript, Python, Go, Java, Rust or JavaScript.*tests aside'):
        bank.sync(f'dir:{app}', progress=quiet)


def test_secrets_are_replaced(bank, tmp_path):
    lines = []
    app = write(tmp_path/'app', {'a.py': 'def f():\n    "Key."\n    return "AKIAIOSFODNN7REALKEY"\n'})
    bank.sync(f'dir:{app}', progress=lines.append)
    text, = (i.text for i in bank.store.get(bank.store.live()))
    assert 'AKIA' not in text and 'secrets replaced' in lines[0]


# in step

def noted(monkeypatch):
    "The paths that are read from now on."
    read, original = [], snippets_module._file_snippets

    def note(source_files, path, data):
        read.append(path)
        return original(source_files, path, data)

    monkeypatch.setattr(snippets_module, '_file_snippets', note)
    return read


@pytest.mark.parametrize('scheme', ['dir', 'git'])
def test_a_second_sync_reads_one_changed_file(bank, tmp_path, monkeypatch, scheme):
    root = write(tmp_path/'app', FILES)
    if scheme == 'git': commit(root)
    bank.sync(f'{scheme}:{root}', progress=quiet)
    read = noted(monkeypatch)
    assert not bank.sync(f'{scheme}:{root}', progress=quiet) and read == []
    path = 'pkg/router.go'
    write(root, {path: FILES[path].replace('return name', 'return "/" + name')})
    if scheme == 'git': commit(root)
    changes = bank.sync(f'{scheme}:{root}', progress=quiet)
    assert read == [path]
    assert dict(changes.counts) == {'changed': 1, 'unchanged': 12}
    (root/'src/lib.rs').unlink()
    if scheme == 'git': commit(root)
    assert dict(bank.sync(f'{scheme}:{root}', progress=quiet).counts) == {'deleted': 2, 'unchanged': 11}


def test_a_bank_that_knew_only_typescript_reads_only_what_is_new(bank, tmp_path, monkeypatch):
    root = write(tmp_path/'app', FILES | {'src/a.ts': 'export function a(b: number) { return b + b + 1; }\n'})
    commit(root)
    with monkeypatch.context() as earlier:
        earlier.setattr(snippets_module, '_choose_all_files', snippets_module._choose_files)
        bank.sync(f'git:{root}', progress=quiet)
    assert names(bank) == ['a']
    read = noted(monkeypatch)
    changes = bank.sync(f'git:{root}', progress=quiet)
    assert sorted(read) == sorted(FILES) and dict(changes.counts) == {'added': 13, 'unchanged': 1}


def test_a_package_is_read_as_before():
    "Of a package JavaScript is no source."
    assert snippets_module._choose_files(['index.js', 'a.py', 'index.d.ts']) == ['index.d.ts']


# hostile sources

HOSTILE = {
    'big.py': b'x = 1\n' * (LARGEST_BYTES // 6 + 1), 'binary.go': b'\xff\x00\x01' * 100, 'nul.rs': b'fn f() {}\0',
    'broken.java': 'class A { void f( }', 'long.js': 'x;' * 600_000, 'a\nb.py': 'def newline(): return 1\n',
    'broken\nname.py': 'def f(:\n', 'utf16.py': 'def wide(): return 1\n'.encode('utf-16'), 'empty.go': '',
    'deep.js': '(\n' * 30_000 + '1' + ')\n' * 30_000}


@pytest.mark.parametrize('scheme', ['dir', 'git'])
def test_hostile_files_stop_nothing(bank, tmp_path, scheme):
    root, lines = write(tmp_path/'app', HOSTILE | {'good.py': 'def good(): return 1\n'}), []
    if scheme == 'git': commit(root)
    else:
        os.mkfifo(root/'pipe.py')
        (root/'link.py').symlink_to('/etc/passwd')
        with open(root/'sparse.py', 'wb') as f: f.truncate(6_000_000_000)
        with open(os.fsencode(root) + b'/\xff.py', 'wb') as f: f.write(b'def f(): pass\n')
    bank.sync(f'{scheme}:{root}', progress=lines.append)
    assert names(bank) == ['good', 'newline', 'wide']
    left_out = {line.split(':')[0].removeprefix('left out ') for line in lines[:-1]}
    assert left_out >= {'big.py', 'binary.go', 'nul.rs', 'broken.java', 'broken\nname.py'}
    assert not left_out & {'good.py', 'utf16.py', 'pipe.py', 'link.py'}


N = 300_000
DEEP = {
    'classes.java': 'class A {\n' * (N // 12) + '}\n' * (N // 12),
    'functions.js': 'function f() {\n' * (N // 18) + '}\n' * (N // 18),
    'brackets.py': 'x = ' + '(\n' * (N // 4) + '1' + ')\n' * (N // 4),
    'modules.rs': 'mod a {\n' * (N // 10) + '}\n' * (N // 10),
    'comments.go': 'package a\n' + '// a\n' * (N // 5) + 'func F() { G() }\n',
    'many.py': 'def f(): g()\n' * (N // 13),
    'names.js': 'let a = 1,\n' + 'b = function () { c(); },\n' * (N // 26) + 'd = 2;\n',
    'attributes.rs': '#[a]\n' * (N // 5) + 'fn f() { g(); }\n',
    'types.go': 'package a\ntype (\n' + '\tA struct{}\n' * (N // 12) + ')\n',
    'doc.java': '/**' + '\n * {@a ' * (N // 8) + '*/\nclass A { }\n'}


@pytest.mark.parametrize('path', DEEP)
def test_deep_and_wide_files_take_seconds(path):
    "A minute and more before; what a file gives is not larger than a few dozen times itself."
    began = time.process_time()
    try: found = extract_definitions(path, DEEP[path])
    except SyntaxError: found = []
    for text, _ in found[:500]: describe_snippet(text)
    assert time.process_time() - began < 8
    assert sum(len(text) for text, _ in found) < 60 * len(DEEP[path])


@pytest.mark.parametrize('text', [
    '@' * 50_000, '@a' * 20_000, '# a.b\n' * 20_000, '@a(' * 20_000, 'pub ' * 20_000, 'func (' * 10_000, 'a.' * 20_000,
    'a ' * 20_000 + '(', 'async def ' * 10_000, 'class A(' * 10_000, '@a //\n' * 10_000, 'extern "' * 10_000])
def test_descriptions_take_linear_time(text):
    began = time.process_time()
    describe_snippet(text)
    assert time.process_time() - began < 2
