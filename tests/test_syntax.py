"What the grammar does not know is read all the same, and every position still points into the original text."
import pytest

from shutka.data.pairs import extract_pairs
from shutka.data.records import Document
from shutka.data.syntax import parse_code

GAPS = {
    'variance marks': 'interface Box<in out T, /* made */ out E extends T = never> { put(item: T): E }',
    'no semicolon before <': 'interface A {\n  <T>(of: T): B<T>\n  <T, U>(of: T): U\n}',
    'no semicolon before (': 'type A = {\n  x: string\n  (of: string): string\n}',
    'an empty line and a comment between':
        'declare const f: {\n  <T>(of: T): T\n\n  /** Or\n   * both. */\n  <T, U>(of: T): U\n}',
    'a comment at the end of the line': 'interface A {\n  <T>(of: T): B<T>  // one\n  // two\n  <T, U>(of: T): U\n}',
    'a comment where nothing ends':
        'interface Box<in T> {\n  make<F>(func: F): // whatever it returns\n  (\n    ...all: T[]\n  ) => F;\n}',
    'global in a module':
        'declare module "a" {\n    global {\n        interface B { c: string }\n        var d: B;\n    }\n}',
    'escapes in a template that is a type': 'type A<T extends string> = `Missing \\`Self\\`, use ${T}\\n`',
    'type as a name in a condition':
        'type A<type> =\n  | (type extends string ? type : never)\n  | ( type extends 1 ? 2 : 3 )',
    'type as a name in an export': 'declare const type: string;\nexport {\n  type as interface\n}',
    'using as a name':
        'declare class A {\n  using(using: string, using2: B["using"]): this;\n  join(a: A, using?: B): this;\n}',
    'with escapes elsewhere':
        'type A = `\\n`\nconst b = /[\\]/]\\//.test("\\"\\\\") && `${b}\\`\\\\`, c = \'it\\\'s\\\n\';',
    'line ends of Windows': 'interface A<in T> {\r\n  <T>(of: T): B<T>\r\n  <T, U>(of: T): U\r\n}\r\n'}


def document(text: str) -> Document:
    return Document(kind='document', text=text, path='a.ts', package='p', source='s', language='typescript')


@pytest.mark.parametrize('gap', GAPS)
def test_gaps_of_the_grammar(gap):
    code = GAPS[gap].replace('\r\n', '\n').encode()  # as `decode_text` does
    assert not parse_code(code).root_node.has_error
    assert parse_code(code + b'\nlet = = 2').root_node.has_error  # what is broken stays so


def test_positions_and_words_are_the_original_ones():
    before = ('type Told<in T> = `a \\`b\\` ${T}`\n'
              'const all: {\n  <A>(of: A): A\n  <A, B>(of: A): B\n} = of => [of, "\\n", of]\n\n')
    after = ('/** Writes `\\n` in, out and global.\n (Twice.) */\n'
             'export function write(a: string) {\n  return a + "\\n" + `\\`in\\``\n}\n')
    told, all_, write = extract_pairs(document(before + after))
    assert all_['signature'] == 'const all: { <A>(of: A): A <A, B>(of: A): B } = of =>'
    assert all_['body'] == '[of, "\\n", of]'
    assert write['body'] == '{\n  return a + "\\n" + `\\`in\\``\n}'
    assert write['doc'] == 'Writes \\n in, out and global. (Twice.)'
    assert told['body'] == '`a \\`b\\` ${T}`'
    assert (all_['start'], all_['end'], write['start'], write['end']) == (2, 5, 9, 11)


@pytest.mark.parametrize('text', [
    'let = = 2', 'function f( {', 'interface A<in T> { x: ', 'type A = `\\`', 'class { global { } '])
def test_what_is_broken_stays_broken(text):
    with pytest.raises(SyntaxError, match='line 1 does not parse'):
        extract_pairs(document(text))


MORE_GAPS = {
    'variance of a constant': 'interface Box<const in T, const out E> { put(item: T): E }',
    'export type *': 'export type * from "./a";\nexport type * as b from "./b"',
    'import defer': 'import defer * as a from "a";\nconst b = import.defer("b")',
    'an alias as a type': 'import type A = B.C;\nimport type d = require("d");\nexport import e = require("e");',
    'accessor': 'class A {\n  accessor x = 1;\n  static accessor #y = 2;\n  @dec() accessor z: string\n}',
    'an abstract accessor': 'abstract class A { abstract accessor y: number; private override accessor z }',
    'types as parameters': 'type A = (any) => void;\ndeclare const b: { f: (string, number?) => void }',
    'types as labels': 'type A = [string: string, ...number: number[]]',
    'for using': 'for (using a of b) { c(a) }',
    'for await using': 'async function f() { for await (await using a of b) c(a) }',
    'a type from a module': 'function f(a: import("./a").B[], b: import(\'b\').C<string>) {}',
    'an index signature of a class': 'class A { static [key: string]: B; static readonly [of: number]: C }',
    'declare behind static': 'class A { static declare b: string; private static declare c: number }',
    'an abstract class without a name': 'export default abstract class {\n  abstract a(): void\n}'}

TEXTS_OF_ELEMENTS = ['this & that', '&', 'a &amp; b & c', '<b title="x?a=1&b=2">&</b>']


@pytest.mark.parametrize('gap', MORE_GAPS)
def test_more_gaps_of_the_grammar(gap):
    code = MORE_GAPS[gap].encode()
    assert not parse_code(code).root_node.has_error
    assert parse_code(code + b'\nlet = = 2').root_node.has_error


@pytest.mark.parametrize('text', TEXTS_OF_ELEMENTS)
def test_ampersands_in_elements(text):
    file = (f'type A = B & C\n/** Says & shows. */\nexport function Note() {{\n'
            f'  return a && <p>{text}</p>\n}}\n')
    note = extract_pairs(document(file) | {'language': 'tsx'})[-1]
    assert (note['doc'], note['start']) == ('Says & shows.', 3)
    assert note['body'] == f'{{\n  return a && <p>{text}</p>\n}}'


def test_one_gap_costs_nothing_else():
    "What is around the unknown piece is read as it was written."
    for gap in MORE_GAPS.values():
        *_, added = extract_pairs(document(f'{gap}\n/** Adds. */\nexport function add(a: any) {{ return (a) + 1 }}\n'))
        assert (added['doc'], added['signature']) == ('Adds.', 'export function add(a: any)')


def test_accessors_keep_their_words():
    file = 'class A { accessor b = 1;\n/** Reads it. */\naccessor = () => this.b + 1 }'
    made, read = extract_pairs(document(file))
    assert made['body'].startswith('{ accessor b = 1;') and read['name'] == 'A.accessor' and read['doc'] == 'Reads it.'


def test_semicolons_only_where_nothing_else_helps():
    "A parameter list on a line of its own is no call signature, though the file has a gap elsewhere."
    *_, add = extract_pairs(document('export type * from "./a"\n'
                                     '/** Adds. */\nfunction add\n  (a: A, b: B) {\n  return a + b\n}'))
    assert (add['name'], add['doc'], add['form']) == ('add', 'Adds.', 'function')


def test_a_call_below_its_function_is_no_signature():
    file = 'type A = {\n  <T>(of: T): T\n  (of: string): string\n}\n/** Own. */\nconst f = dual\n  (2, a => a.b.c)'
    assert [(p['name'], p['doc']) for p in extract_pairs(document(file))] == [('A', ''), ('f', 'Own.')]
