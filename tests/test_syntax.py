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
