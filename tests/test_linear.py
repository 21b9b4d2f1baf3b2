"Text from outside costs time in proportion to its length, whatever it is made of."
import time

import pytest

from shutka.core.errors import UserError
from shutka.data import syntax
from shutka.data.lockfile import read_lockfile
from shutka.data.markdown import extract_code
from shutka.data.pairs import clean_doc, explain_skip, extract_pairs
from shutka.data.records import Document
from shutka.text.tokenizer import BUNDLED_ENCODING, encode_text, open_encoding

LONGEST_RATIO = 3.5  # of the times for twice the text: 2 is linear, 4 is quadratic


def measure(work, text: str) -> float:
    "CPU seconds, the lesser of two."
    times = []
    for _ in range(2):
        start = time.process_time()
        work(text)
        times.append(time.process_time() - start)
    return min(times)


def check_linear(work, make, fewest: int = 12_500, most: int = 100_000):
    "Double a text until it takes long enough to measure, then compare the two last times."
    size = fewest
    while measure(work, make(size)) < .01:
        size *= 2
        if size >= most: return   # so many in an instant
    once, twice = make(size), make(2 * size)
    ratios = []
    for _ in range(4):   # other programs can make a measurement longer, and seldom all four
        ratios.append(measure(work, twice) / measure(work, once))
        if ratios[-1] < LONGEST_RATIO: return
    raise AssertionError(f'twice {size:,} characters take {min(ratios):.1f} times as long')


def repeat(unit: str, before: str = '', behind: str = ''):
    "A text of some size: a unit again and again, between two others."
    return lambda size: before + unit * (size // len(unit)) + behind


IN_COMMENTS = {
    'line ends behind an open link': repeat('\n', '{@a '), 'blanks behind an open link': repeat(' ', '{@a '),
    'bars in an open link': repeat('| ', '{@a b'), 'open links': repeat('{@a '),
    'names of open links': repeat('{@' + 'a' * 9),
    'open captions': repeat('<caption>'), 'captions with one end': repeat('<caption>', behind='</caption>'),
    'open brackets': repeat('['), 'open labels': repeat('![a'), 'open targets': repeat('[]('), 'labels': repeat('[]'),
    'parentheses behind a label': repeat('(', '[a]('),
    'empty lines': repeat('\n'), 'empty lines with blanks': repeat('\n  '),
    'stars': repeat('*', 'a'), 'stars before the end': repeat('*', 'a', 'b'), 'lines with stars': repeat('\n * '),
    'hashes': repeat('#'), 'rules': repeat('---\n'), 'a long rule': repeat('-'), 'fences': repeat('```'),
    'angles': repeat('<'), 'addresses': repeat('http://'),
    'tags': repeat('\n@param '), 'open types': repeat('\n@param {a'),
    'blanks of a tag': repeat(' ', '\n@param', 'a'), 'at signs': repeat('@'), 'words': repeat('a '),
    'one word': repeat('a')}


@pytest.mark.parametrize('name', IN_COMMENTS)
def test_clean_doc(name):
    make = IN_COMMENTS[name]
    check_linear(clean_doc, lambda size: f'/**{make(size)}\n*/')


IN_CODE = {
    'comments behind commas': repeat(',/*', behind='*/'),
    'blank lines': repeat('\n', 'let a = <'), 'blank lines with blanks': repeat('\n \t', 'a'),
    'words and line ends': repeat('a\n'), 'angles': repeat('<\n'),
    'blanks behind a word': repeat(' ', 'a'), 'type in parentheses': repeat('(type '), 'using': repeat('using '),
    'open imports': repeat('import("'), 'imports': repeat('import("a") '), 'escapes': repeat('\\'),
    'in and out': repeat('<in out '), 'a long name': repeat('a', '<in '), 'global': repeat('\n global'),
    'for': repeat('for await (using '), 'static': repeat('static '), 'names of types': repeat('(any'),
    'accessor': repeat('accessor '), 'at signs': repeat('@a '), 'abstract': repeat('export default abstract ')}


def fill_gaps(text: str):
    "What is done to a file before it is read again; the parser itself has its own ways with broken code."
    code = text.encode()
    filled = syntax._fill_gaps(code, code, 'tsx')
    for pattern in (syntax._CLEAR_END, syntax._ANY_END): syntax._end_signatures(filled, code, pattern)


@pytest.mark.parametrize('name', IN_CODE)
def test_gaps_of_the_grammar(name):
    check_linear(fill_gaps, IN_CODE[name])


FILES = {
    'functions': repeat('/** Adds. */\nexport function add(a) { return a + a }\n'),
    'comments': repeat('// a\n', behind='const f = () => a.b.c'),
    'comments in a body': repeat('// a\nconst f = () => a.b.c\n', 'function f() {\n', '}'),
    'functions behind one comment': repeat('let f = () => a.b.c\n', '/** One. */\n'),
    'names of one statement': repeat('f = () => a.b.c, ', 'let ', 'a = 1'),
    'members': repeat('/** Adds. */ @bound add(a) { return a + a }\n', 'class A {\n', '}'),
    'decorators': repeat('@bound ', 'class A {\n/** Adds. */ ', 'add(a) { return a + a } }'),
    'overloads': repeat('/** Adds. */\nfunction add(a): b\n', behind='function add(a) { return a + a }'),
    'functions in each other': lambda size: 'f = () => {' * (size // 12) + 'a.b.c' + '}' * (size // 12),
    'calls': repeat('const a = b(c => c.d)\n'), 'calls in each other': repeat('const f = g(() => {')}


@pytest.mark.parametrize('name', FILES)
def test_extract_pairs(name):
    def work(text):
        document = Document(kind='document', text=text, path='a.ts', package='p', source='s', language='typescript')
        try: extract_pairs(document)
        except SyntaxError: pass   # some are meant to be broken

    check_linear(work, FILES[name], most=100_000)


@pytest.mark.parametrize('make', [
    repeat('\n//', 'a', '\n <'), repeat(',/*'), repeat(',/**/', 'let a = <')])
def test_broken_code_is_given_up(make, monkeypatch):
    "A megabyte of these would hold a core for minutes or hours."
    monkeypatch.setattr(syntax, '_MOST_SECONDS', .5)
    start = time.process_time()
    with pytest.raises(SyntaxError, match='more than 0.5 seconds'):
        syntax.query_code(make(1_000_000).encode(), '(comment) @c')
    assert time.process_time() - start < 5


@pytest.mark.parametrize('make', [repeat('/*', 'a '), repeat('using '), repeat('(any'), repeat('\n', 'a /*')])
def test_broken_code(make):
    "A tree with hundreds of thousands of nodes in a row."
    start = time.process_time()
    with pytest.raises(SyntaxError, match='line 1 does not parse'):
        syntax.query_code(make(1_000_000).encode(), '(comment) @c')
    assert time.process_time() - start < 15   # two, when nothing else runs


@pytest.mark.parametrize('make', [
    repeat('a', '```'), repeat(' ', '```'), repeat('a ', '``` '), repeat('```'), repeat('```\n'), repeat('`'),
    repeat('~~~a\n'), repeat(' ', '\n'), repeat('\n ```'), repeat('\n'), repeat('\n', '```ts\n')])
def test_extract_code(make):
    check_linear(extract_code, make)


@pytest.mark.parametrize('make', [repeat('a/'), repeat('.d.'), repeat('a.'), repeat('test'), repeat('-spec')])
def test_paths(make):
    check_linear(lambda path: explain_skip(path, ''), make)


@pytest.mark.parametrize('make', [
    repeat('a:\n', '# yarn lockfile v1\n'), repeat('a:', '# yarn lockfile v1\n'),
    repeat('\n ', '# yarn lockfile v1\na:')])
def test_lockfiles(make, tmp_path):
    path = tmp_path/'yarn.lock'

    def work(text):
        path.write_text(text)
        try: read_lockfile(path)
        except ValueError: pass   # none of them is a lockfile

    check_linear(work, make, most=100_000)


@pytest.mark.parametrize('text', [' ' * 1_000_000, '\t' * 1_000_000, 'let a = 1' + 'A' * 1_000_000])
def test_a_text_that_cannot_be_split(text):
    "tiktoken panics, which `except Exception` lets through; a sentence says what is wrong."
    with pytest.raises(UserError, match='1,000,0.. characters cannot be split'):
        encode_text(open_encoding(BUNDLED_ENCODING), text)
