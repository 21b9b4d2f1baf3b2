"Which declarations of a file become pairs, and whose doc comment each of them gets, as the TypeScript compiler says."
import pytest

from shutka.data.pairs import clean_doc, extract_pairs
from shutka.data.records import Document, assemble_code

MARKED = {
    'a decorator': 'class A {\n  /** Own. */\n  @bound draw() { return this.a.b }\n}',
    'decorators on lines of their own':
        'class A {\n  /** Own. */\n  @bound\n  @log({ level: 1 /* low */ })\n'
        '  protected draw() { return this.a.b }\n}',
    'a comment in a decorator':
        'class A {\n  /** Own. */\n  @made({\n    /** Of the key. */\n    key: 1,\n  })\n'
        '  draw() { return this.a.b }\n}',
    'a decorated field': 'class A {\n  /** Own. */\n  @bound draw = () => this.a.b.c\n}',
    'a decorated class': '/** Own. */\n@made()\nexport class A { draw() { return this } }',
    'a rule of a linter': '/** Own. */\n// eslint-disable-next-line\nexport function draw() { return a.b.c }',
    'two other comments': '/** Own. */\n/* istanbul ignore next */\n// one more\nconst draw = () => a.b.c',
    'an empty line': '/** Own. */\n\nfunction draw() { return a.b.c }',
    'the same line': 'class A { /** Own. */ draw() { return this.a.b } }',
    'export default': '/** Own. */\nexport default function draw() { return a.b.c }'}


def read(text: str, language: str = 'typescript') -> list[dict]:
    return extract_pairs(Document(kind='document', text=text, path='a.ts', package='p', source='s', language=language))


@pytest.mark.parametrize('between', MARKED)
def test_own_doc_comment(between):
    assert 'Own.' in [pair['doc'] for pair in read(MARKED[between])]
    assert 'Of the key.' not in [pair['doc'] for pair in read(MARKED[between])]


FOREIGN = {
    'behind code on its line': 'let a = 1   /** Foreign. */\nfunction draw() { return a.b.c }',
    'behind a member': 'class A {\n  b = 1; /** Foreign. */\n  draw() { return this.a.b }\n}',
    'before other code': '/** Foreign. */\nlet a = 1\nfunction draw() { return a.b.c }',
    'the first name of several': '/** Foreign. */\nexport const a = 1, draw = () => a.b.c',
    'an interface with the same name':
        'interface A {\n  /** Foreign. */\n  draw(): void\n}\nfunction draw() { return a.b.c }',
    'a method of another class':
        'class A {\n  /** Foreign. */\n  draw(a: B): void;\n  draw(a) { a() }\n}\n'
        'class B { draw() { return this.a.b } }',
    'a static method':
        'class A {\n  static draw() { return this.a.b }\n  /** Foreign. */\n  draw(a: B): void;\n  draw(a) { a() }\n}',
    'no doc comment': '/**/ /* Foreign. */ // Foreign.\nfunction draw() { return a.b.c }'}


@pytest.mark.parametrize('place', FOREIGN)
def test_no_foreign_doc_comment(place):
    drawn = [pair for pair in read(FOREIGN[place]) if pair['name'].endswith('draw')]
    assert drawn and drawn[-1]['doc'] == ''


def test_overloads_hand_on_their_comment():
    pairs = read('class A {\n  /** By one. */\n  of(a: B): C;\n  /** By two. */\n  of(a: B, b: B): C;\n'
                 '  of(...all) { return all.length }\n}\n'
                 '/** As words. */\nexport function say(a: string): B;\nexport function say(a) { return a.b.c }')
    assert [(p['name'], p['doc']) for p in pairs[1:]] == [('A.of', 'By one.'), ('say', 'As words.')]


FOUND = {   # code -> name and body
    'export default () => a.b.c': ('default', 'a.b.c'),
    'export default async (of) => { await of.b }': ('default', '{ await of.b }'),
    'export default function () { return a.b }': ('default', '{ return a.b }'),
    'export default async function* () { yield a.b }': ('default', '{ yield a.b }'),
    'export default memo(() => a.b)': ('default', 'memo(() => a.b)'),
    'const walk = function* () { yield a.b }': ('walk', '{ yield a.b }'),
    'export const walk = async function* <T>(of: T) { yield of.b }': ('walk', '{ yield of.b }'),
    'Foo.bar = function () { return a.b }': ('Foo.bar', '{ return a.b }'),
    'Foo.prototype.bar = async a => a.b.c': ('Foo.prototype.bar', 'a.b.c'),
    'exports.bar = function* () { yield a.b }': ('bar', '{ yield a.b }'),
    '(Foo as any).bar = () => a.b.c': ('bar', 'a.b.c'),
    'const f = (() => a.b) as F': ('f', '(() => a.b) as F'),
    'const f = (async () => a.b)': ('f', '(async () => a.b)'),
    'const f = { g: (a => a.b.c) satisfies G }': ('g', '(a => a.b.c) satisfies G'),
    'const f = dual(2, (a, b) => a + b)': ('f', 'dual(2, (a, b) => a + b)'),
    'const f = React.useCallback(() => a.b, [])': ('f', 'React.useCallback(() => a.b, [])'),
    'const f: (a: A) => B = make(a => a.b)': ('f', 'make(a => a.b)'),
    'const f: { <T>(a: T): B; c: D } = make(a => a.b)': ('f', 'make(a => a.b)'),
    'class A { f: (a: A) => B = make(a => a.b) }': ('A.f', 'make(a => a.b)')}


@pytest.mark.parametrize('code', FOUND)
def test_functions_that_are_found(code):
    pair = read('/** Own. */\n' + code)[-1]
    assert (pair['name'], pair['body']) == FOUND[code] and pair['form'] in ('function', 'arrow')
    assert pair['doc'] == ('' if pair['name'] in ('g', 'A.f') else 'Own.')


@pytest.mark.parametrize('code', [
    *(code for code in FOUND if ' { g: ' not in code and 'class A' not in code),
    'type Shape<T> = { area: T; name: string }', 'interface Shape { area: number; name: string }',
    'function walk(a: A) { return a.b }'])
def test_signature_and_body_make_the_code_again(code):
    assert ' '.join(assemble_code(read(code)[-1]).split()) == ' '.join(code.split())


@pytest.mark.parametrize('code', [
    'const names = rows.map(r => r.name)', 'const total = sum(rows.filter(row => row.paid))',
    'const timer = setTimeout(() => a.b.c, 100)', 'const made = (() => { return a.b.c })()',
    'const table = { a: () => 1 } as const', 'const found: Row[] = find(row => row.a.b)',
    'const isMap = makeTest("Map", Map) as (a: any) => a is Map', 'export default rows.map(row => row.name)',
    'class A { names = rows.map(row => row.name) }'])
def test_values_are_no_functions(code):
    assert [p for p in read(code) if p['form'] == 'arrow' and p['name'] != 'a'] == []


def test_class_without_a_name():
    made, draw = read('/** Own. */\nexport default class { draw() { return this.a.b } }')
    assert (made['form'], made['name'], made['doc'], draw['name']) == ('class', 'default', 'Own.', 'draw')


def test_deep_nesting_is_bounded():
    "A thousand functions inside each other would be a million lines of text."
    pairs = read('const f = () => {\n' * 1_000 + 'a.b.c' + '\n}' * 1_000)
    assert len(pairs) == 50 and sum(len(pair['body']) for pair in pairs) < 50 * 25_000


@pytest.mark.parametrize('comment, words', [
    ('/**/', ''), ('/***/', ''), ('/** **/', ''), ('/*** A. ***/', 'A.'), ('/** a/b */', 'a/b'),
    ('/** {@link A.b} and {@linkcode C | the C} or {@link\n * D its\n * name}. */', 'A.b and the C or its name.'),
    ('/** {@link A } {@inheritDoc} */', 'A {@inheritDoc}'),
    ('/**\n * One.\n *\n * ## Example\n *\n * | a | b |\n * |---|---|\n * Two.\n */', 'One. | a | b | Two.'),
    ('/** A <caption>B\n * C</caption> d <caption>e. */', 'A d e.'),
    ('/** A [b](c) ![d](e) [f] (g) [h](i. */', 'A b d [f] (g) [h](i.'),
    ('/**\n * A.\n *\n *\n *   @param {B} b - its c\n *\n * @see d\n */', 'A. b its c')])
def test_prose_of_a_comment(comment, words):
    assert clean_doc(comment) == words
