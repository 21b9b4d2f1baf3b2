"In every language and form of a function, the perfect answer is cut at its end, is over there, and parses."
import time
from types import SimpleNamespace

import pytest

from shutka.assistant.answers import AnswerFile, answer_all_ways, answer_way, check_room, score_answer, take_body
from shutka.assistant.files import RepoFile
from shutka.assistant.questions import CodeQuestion, ask_about_files, cut_answer, find_end, has_answered
from shutka.core.errors import UserError
from shutka.memory.snippets import collect_snippets

SUFFIXES = {'python': 'py', 'javascript': 'js', 'typescript': 'ts', 'tsx': 'tsx', 'go': 'go', 'java': 'java',
            'rust': 'rs'}
BODY = '''{
    if (x > 1) {
      return `a${x}}` + "}" + /[}]/.source;
    } else { x = { a: () => { return 1; } }; }
    return x;
  }'''
MEMBERS = 'f(x)', 'static f(x)', 'get f()', 'set f(x)', 'async f(x)', '*f(x)', 'async *f(x)', 'static async f(x = {})'
SCRIPTS = [   # a file, with the function called `f`, and its body for ~
    *(f'class Box {{\n  a = 1;\n\n  {member} ~\n\n  other() {{ return 1; }}\n}}\n' for member in MEMBERS),
    *(f'export const box = {{\n  a: 1,\n  {member} ~,\n  other() {{ return 1; }},\n}};\n' for member in MEMBERS[:7]
      if 'static' not in member),
    'class Box { f(x) ~ }\n', 'const box = { f(x) ~ };\n', 'export default {\n  f() ~\n}\n',
    'class Box {\n  #y = 1;\n  #g(x) { return x; }\n  f(x) ~\n}\n',
    'function f(x) ~\n', 'export async function f(x) ~\n', 'export default function f(x) ~\n',
    'const f = (x) => ~;\n', 'export const f = async (x) => ~\n', 'const f = function (x) ~;\n',
    'const f = async function g(x) ~;\n', 'let f = x => ~, g = 1;\n',
    'app.f = function (x) ~;\n', 'Box.prototype.f = async function f(x) ~\n']
TYPED = [
    'class Box<T> {\n  private f(x: T): T ~\n}\n',
    'class Box {\n  protected static override async f<T>(x?: T): Promise<T> ~\n}\n',
    'class Box {\n  f(x: string): void;\n  f(x: number): void;\n  f(x: any): void ~\n}\n',
    'class Box {\n  @log\n  f(x: number): number ~\n}\n', 'class Box {\n  @log() public f(x: number) ~\n}\n',
    'abstract class Box {\n  abstract g(): void;\n  f(this: Box, x: { a: number }): x is { a: number } ~\n}\n',
    'namespace N {\n  export function f<T extends object>(x: T): { a: T } ~\n}\n',
    'function f(x: string): void;\nfunction f(x: any) ~\n', 'export const f = <T,>(x: T): (() => T) => ~;\n']
SOURCES = {
    'javascript': (BODY, [*SCRIPTS, 'class Box {\n  @log\n  f(x) ~\n}\n', 'class Box {\n  @log f(x) ~\n}\n']),
    'typescript': (BODY, [*SCRIPTS, *TYPED]),
    'tsx': (BODY.replace('return x', 'return <p>{x}</p>'), [*SCRIPTS, *TYPED]),
    'java': ('{\n        if (x > 1) { return "}" + \'}\'; }\n        return list.map(y -> { return y; });\n    }', [
        'class Box {\n    public String f(int x) throws E ~\n\n    int g() { return 1; }\n}\n',
        'class Box {\n    @Override\n    protected static <T> T f(T x) ~\n}\n',
        'interface Box {\n    default int f(int x) ~\n}\n', 'class Box { int f(int x) ~ }\n',
        'enum Box {\n    A, B;\n\n    int f(int x) ~\n}\n']),
    'rust': ('{\n        if x > 1 { return \'}\'; }\n        let s = "}";\n        '
             'match x { A { a } => a, _ => s }\n    }', [
        'fn f(x: i32) -> i32 ~\n', 'impl Box {\n    pub fn f(&self, x: i32) -> i32 ~\n\n    fn g() {}\n}\n',
        'impl<T> Show for Box<T> {\n    #[inline]\n    fn f<\'a>(&\'a self) -> &\'a T where T: Copy ~\n}\n',
        'trait Box {\n    fn f(&self) ~\n}\n', 'mod a {\n    #[inline] pub(crate) async unsafe fn f(x: i32) ~\n}\n']),
    'go': ('{\n\tif x > 1 {\n\t\treturn "}" + `}`\n\t}\n\tgo func() { x = 1 }()\n\treturn x\n}', [
        'package a\n\nfunc f(x int) string ~\n', 'package a\n\nfunc (b *Box) f(x int) (string, error) ~\n',
        'package a\n\nfunc f[T any](x ...T) map[string]struct{} ~\n']),
    'python': ('''
{0}    if x:  # a comment
{0}        return (1,
{0}2)
{0}    # another
{0}    y = """
text"""
{0}    return y''', [
        'def f(x):~\n', '@cache\nasync def f(x: int) -> int:\n    "What it does."~\n',
        'class Box:\n    a = 1\n\n    @property\n    def f(self):~\n\n    def g(self): return 1\n',
        'class Box:\n    @classmethod\n    @log("f")\n    async def f(cls, *, x={}):\n'
        '        """What it does.\n\n        More."""~\n',
        'class Outer:\n\tclass Box:\n\t\tdef f(self):~\n'])}
BEHIND = [   # brackets are closed or left open; prose, and another function
    '\n\n  other(y) {\n    return { b: y };\n  }\n}\n\nexport const z = { a: 1 };\n',
    ',\n  other(y) {\n    return 1;\n  },\n  third: 3,\n  ["a"]: () => { return "it\'s"; }\n};\nmodule.exports = f;\n',
    ';\n\nconst g = (y) => {\n  if (y) { return `${y}`; }\n};\nfunction h() { return 1 }\n',
    "\n```\n\nThis function is it's {really}.\n\n1. First (a\n2. `x` <b>\n", '\n}\n}\n}\n/* open { ', '\n}{}{ }{((((']
BEHIND_PYTHON = [
    '\n\n{0}def other(self):\n{0}    return 1\n\nclass B: pass\n',
    "\n\n```\n\nIt's a function (that\n", '\n# more\nx = f("',
    '\n\n{0}@property\n{0}async def g(']
CASES = [(language, text.replace('~', body)) for language, (body, texts) in SOURCES.items() for text in texts]


def ask(language: str, text: str) -> CodeQuestion:
    "The question about the body of `f`."
    if language == 'python':
        margin = next(line for line in text.split('\n') if 'def f' in line).split('def')[0].replace('async ', '')
        text = text.replace('{0}', margin)
    path = f'src/box.{SUFFIXES[language]}'
    asked = [one for one in ask_about_files([RepoFile(path, language, 'high', False, text)]) if one.kind == 'body']
    [question] = [one for one in asked if one.name == 'f']
    assert question.before + question.expected + question.after == text
    return question


@pytest.mark.parametrize('language, text', CASES)
def test_a_perfect_answer_is_exact_whatever_stands_behind(language, text):
    question = ask(language, text)
    end, behinds = len(question.expected), BEHIND_PYTHON if language == 'python' else BEHIND
    for behind in [question.after, *(one.replace('{0}', question.margin) for one in behinds)]:
        written = question.expected + behind
        assert cut_answer(question, written) == question.expected
        assert has_answered(question, written) or not behind.strip()
        # once it is over, it is so for good, and the answer stays the same
        over = [has_answered(question, written[:n]) for n in range(len(written) + 1)]
        assert not any(over[:end + 1]) and over == sorted(over)
        assert {cut_answer(question, written[:n]) for n in range(end, len(written) + 1)} <= {
            question.expected, question.expected + '\n' + question.margin + '# more', question.expected + '\n# more'}
    scores = score_answer(question, cut_answer(question, question.expected + behinds[0]))
    assert set(scores.values()) == {1.} and 'parses' in scores

@pytest.mark.parametrize('language, text', [case for case in CASES if case[0] != 'python'])
def test_what_is_not_at_its_end_does_not_parse(language, text):
    question = ask(language, text)
    for n in range(len(question.expected)):
        assert find_end(question, question.expected[:n]) is None
        assert score_answer(question, question.expected[:n])['parses'] == 0
    for other in (';', '}', '{', question.expected[:-1] + ')', '{ return (1; }', '{ "}'):
        assert score_answer(question, other)['parses'] == 0

@pytest.mark.parametrize('language', ['javascript', 'typescript', 'tsx'])
def test_the_semicolon_behind_a_function_is_no_part_of_the_answer(language):
    for head in ('const f = (x) =>', 'app.f = function (x)'):
        question = ask(language, head + ' {\n  return this.x + x;\n};\n')
        assert question.expected.endswith('}') and question.after == ';\n'
        assert cut_answer(question, question.expected + ';') == question.expected
        assert has_answered(question, question.expected + ';') and not has_answered(question, question.expected + '\n')

@pytest.mark.parametrize('language, text', [
    ('typescript', 'class Box {\n  #f(x: number) {\n    return this.items.get(x);\n  }\n}\n'),
    ('javascript', 'function* f(x) {\n  yield this.items.get(x);\n}\n')])
def test_what_the_patterns_do_not_know_is_not_asked(language, text):
    assert ask_about_files([RepoFile(f'box.{SUFFIXES[language]}', language, 'high', False, text)]) == []


# --- the memory alone -----------------------------------------------------------------------------

@pytest.mark.parametrize('language, text', CASES)
def test_the_memory_alone_gives_the_body_of_the_right_function(language, text, tmp_path):
    question = ask(language, text)
    (tmp_path/f'box.{SUFFIXES[language]}').write_text(question.before + question.expected + question.after)
    found = [text for text, about in collect_snippets(f'dir:{tmp_path}') if about['name'].split('.')[-1] == 'f']
    if language in ('typescript', 'tsx') and not found: return   # private methods are not remembered
    memory = next(text for text in found if 'other' not in text or len(found) == 1)
    answer = take_body(question, [memory])
    assert not answer.lstrip().startswith(('//', '#', '/*')) and 'f(' not in answer.split('\n')[0]
    def squeeze(code): return ' '.join(code.split())
    assert squeeze(answer) == squeeze(question.expected)

@pytest.mark.parametrize('memory', [
    '// Box.addAll\naddAll(items: T[]): this {\n    const f = () => { return 1; };\n    return this;\n  }',
    '// Box.addAll\n/** All. */\n@log\naddAll(items: T[]): this {\n  const f = () => { return 1; };\n  return this;\n}',
    'class Box<T> {\n  addAll(items: T[]): this {\n    const f = () => { return 1; };\n    return this;\n  }\n}',
    'function addAll(items: T[]): void {\n  const f = () => { return 1; };\n  return this;\n}',
    'export const addAll = (items: T[]) => {\n  const f = () => { return 1; };\n  return this;\n};',
    'export function* addAll(items: T[]) {\n  const f = () => { return 1; };\n  return this;\n}'])
def test_a_memory_of_any_form_gets_the_indent_of_the_question(memory):
    question = ask('typescript', 'class A {\n  f(x: number) {\n    return this.items.get(x);\n  }\n}\n')
    assert take_body(question, [memory]) == '{\n    const f = () => { return 1; };\n    return this;\n  }'

def test_a_memory_of_a_python_class_gets_the_indent_of_the_question():
    question = ask('python', 'def f(x):\n    return self.items.get(x)\n')
    memory = 'class Box:\n    @property\n    def size(self):\n        return 1\n\n    def more(self): pass\n'
    assert take_body(question, [memory]) == '\n    return 1'


# --- it does not take long, and is refused early --------------------------------------------------

@pytest.mark.parametrize('language, head, expected', [
    ('typescript', '  f(x: number) ', '{ return 1; }'), ('javascript', 'const f = (x) => ', '{ return 1; }'),
    ('java', '    int f() ', '{ return 1; }'), ('go', 'func f() ', '{ return 1 }'), ('rust', 'fn f() ', '{ 1 }'),
    ('python', 'def f(x):', '\n    return 1')])
def test_a_hostile_answer_does_not_take_long(language, head, expected):
    question = CodeQuestion('body', 'file', f'a.{SUFFIXES[language]}', language, 'f', '', head, head, '', expected)
    begin = time.process_time()
    for piece in ('{', '}', '{}', '{ "}', '(', '\n', '\nx', '\n    x', '{ x = `${', '<', '{ a: () => {', '}\n'):
        for written in (piece * 20_000, '{ "' + piece * 20_000, '\n    """' + piece * 20_000):
            cut_answer(question, written)
            has_answered(question, written)
    for piece in '({':   # and late, what may be an end, many times
        cut_answer(question, piece * 3_900 + '}' * 99)
        cut_answer(question, '\n    ' + piece * 3_900 + '\nx' * 99)
    for n in range(0, 2_000, 4): has_answered(question, '{ "' + '} (' * n)   # as it is asked while a model writes
    assert time.process_time() - begin < 30

def test_an_answer_that_leaves_no_room_is_refused_before_anything_is_read(tmp_path):
    check_room(64, 63)
    check_room(None, 4_095)
    for positions, most in ((64, 64), (64, 72), (None, 4_096)):
        with pytest.raises(UserError, match=f'answer_tokens must be below .*got {most:,}'): check_room(positions, most)
    question, model = ask('python', 'def f(x):\n    return self.items.get(x)\n'), SimpleNamespace(positions=64)
    with pytest.raises(UserError, match='answer_tokens must be below 64'):
        answer_all_ways(model, None, [question], None, {False: 'a'}, AnswerFile(tmp_path/'a.jsonl'), None, 64)

def test_what_an_earlier_assistant_cut_otherwise_is_cut_again(tmp_path):
    class Known(dict):
        def __contains__(self, key): return True
        def __missing__(self, key): return {'key': key, 'text': question.expected + ';\nmore()', 'nats': 1.}

    question = ask('javascript', 'const f = (x) => {\n  return this.items.get(x);\n};\n')
    file, tokenizer = AnswerFile(tmp_path/'a.jsonl'), SimpleNamespace(encode=lambda text: list(text.encode()))
    file.known = Known()
    [row] = answer_way(SimpleNamespace(positions=None), tokenizer, [question], {}, 'a', file, None, 72, lambda n: None)
    assert row['text'] == question.expected and row['nats'] == 1.
