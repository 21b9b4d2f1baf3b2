"The judge of TypeScript: what it says, and that nothing an answer does reaches anything."
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from judged import needs_node

from shutka.core.errors import UserError
from shutka.evaluate import sandbox
from shutka.evaluate.node import JUDGE_FOLDER, build_judge_command, find_node, install_judge
from shutka.evaluate.sandbox import Judge, Outcome, match_outcomes, match_values

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def judge():
    with Judge() as judge: yield judge


def value(judge, expression): return judge.run('', [expression])[0]


# ---- what it says

@pytest.mark.net
@needs_node
@pytest.mark.parametrize('code, uses, told', [
    ('export const f = (n: number): string => String(n)', 'const s: string = f(1)', ''),
    ('export const f = (n: number): string => n', '', 'TS2322'),
    ('export const f = (n: number) => n', 'const s: string = f(1)', 'TS2322'),
    ('export const f = (n: any) => n', '// @ts-expect-error\nf("a")', 'TS2578'),
    ('const f = (', '', 'TS1'),
    ('/*', '*/ 1', 'TS1010'),                            # what is open in the answer is not closed by the uses
    ('{', '}', 'TS1005'),
    ('// @ts-nocheck\nconst a: string = 1', '', 'silences'),
    ('// @TS-NOCHECK\nconst a: string = 1', '', 'silences'),
    ('/* first */ //   @Ts-NoCheck because\nconst a: string = 1', '', 'silences'),
    ('/// @ts-noCheck\nconst a: string = 1', '', 'silences'),
    ('/* @TS-nocheck */\nconst a: string = 1', '', 'TS2322'),   # such a comment silences nobody
    ('// @ts-ignore\nconst a: string = 1', '', 'silences'),
    ('/* @ts-expect-error */ const a: string = 1', '', 'silences'),
    ('/*\n * @ts-ignore */\nconst a: string = 1', '', 'silences'),
    ('const a = "// @ts-nocheck"', '', ''),                      # nor does a string
    ('// never use @ts-nocheck\nconst a = 1', '', ''),
    ('const f = (x) => x', '', 'TS7006'),
    ('console.log("fine"); const a = [3, 1].toSorted()', '', ''),
    ('document.title', '', 'TS2584'),
    ('process.exit(1)', '', 'TS2591'),
    ('import fs from "fs"', '', 'TS2307'),
    ('/// <reference path="/etc/passwd" />', '', 'TS6231'),
    ('/// <reference types="node" />', '', 'TS2688'),
])
def test_check(judge, code, uses, told):
    errors = judge.check(code, uses)
    if told: assert any(told in e for e in errors), errors
    else: assert errors == []


@pytest.mark.net
@needs_node
@pytest.mark.parametrize('expression, shown', [
    ('[1, "a", true, null, undefined]', '[1, "a", true, null, undefined]'),
    ('[NaN, -0, Infinity, 1e21]', '[NaN, -0, Infinity, 1e+21]'),
    ('[1, , 3]', '[1, hole, 3]'), ('({a: {b: []}})', '{a: {b: []}}'), ('{a: 1}', '{a: 1}'),
    ('new Map([[{}, new Set([1n])]])', 'Map {{} => Set {1n}}'),
    ('new Date(5)', 'Date(5)'), ('() => 1', 'function'), ('Symbol.iterator', 'symbol'),
    ('Promise.resolve(4)', '4'), ('await 5', '5'),
    ('const a = 2; return a * 2', '4'), ('throw new RangeError("no")', 'throws RangeError: no'),
    ('throw 5', 'throws number: 5'),
    ('Promise.reject(new TypeError())', 'throws TypeError'),
    ('class A { x = 1; #y = 2 } return new A()', '{x: 1}'), ('new Date("2024-03-01").getHours()', '0'),
])
def test_values(judge, expression, shown):
    assert str(value(judge, expression)) == shown


@pytest.mark.net
@needs_node
def test_types_are_erased_and_calls_reach_what_is_not_exported(judge):
    code = 'enum E { A = 3 } const f = <T>(x: T): T => x; class C { constructor(readonly x: number) {} }'
    calls = ['f<number>(E.A)', 'new C(4).x', 'let y: string = "a"; return f(y)', 'E']
    assert list(map(str, judge.run(code, calls))) == ['3', '4', '"a"', '{3: "A", A: 3}']


def test_agree():
    one, both = {'object': {'a': 1}}, {'object': {'a': 1, 'b': 2}}
    assert match_values(1, 1.0) and not match_values(1, True) and not match_values(1, '1')
    assert not match_values(None, {'undefined': True})
    assert match_values([{'number': 'NaN'}], [{'number': 'NaN'}])
    assert match_values({'bigint': '1'}, {'bigint': '1'}) and not match_values({'bigint': '1'}, 1)
    assert match_values({'map': [[1, 2], [3, 4]]}, {'map': [[3, 4], [1, 2]]})
    assert not match_values({'map': []}, {'set': []})
    assert not match_values(one, both) and not match_values(both, one)
    assert match_values([1.0000001], [1], 1e-6) and not match_values([1.0000001], [1])
    assert not match_values([1.1], [1], 1e-6)
    assert not match_values({'symbol': True}, {'symbol': True})
    for kind in ('broken', 'time', 'never', 'crash', 'skipped'): assert not match_outcomes(Outcome(kind), Outcome(kind))


# ---- what it withstands: f() should be 42, and no hostile answer gets there;
# the next answer is judged as if nothing had been

HOSTILE = {  # how f() ends, and the answer
    'loop': ('time', 'const f = () => { for (;;); }'),
    'loop at the top': ('time', 'for (;;); const f = () => 42'),
    'loop of promises': ('time', 'const f = async () => { for (;;) await null }'),
    'loop in a getter of the result': ('time', 'const f = () => ({ get a() { for (;;); } })'),
    # stopped while it is asked for its name
    'loop in what is thrown': (
        'crash',
        'const f = () => { throw { get name() { for (;;); } } }'),
    'loop that catches everything': ('time', 'const f = () => { for (;;) try { for (;;); } catch {} }'),
    'regular expression': ('time', 'const f = () => /^(a+)+$/.test("a".repeat(40) + "b") ? 42 : 42'),
    'promise that never settles': ('never', 'const f = () => new Promise(() => {})'),
    'top-level await that never settles': ('never', 'await new Promise(() => {}); const f = () => 42'),
    'memory by an array': (
        'throws InternalError',
        'const f = () => { const a = []; for (;;) a.push(new Array(10000).fill(1)) }'),
    'memory by a string': ('throws InternalError', 'const f = () => { let s = "x"; for (;;) s += s }'),
    'memory by repeat': ('throws InternalError', 'const f = () => "x".repeat(2 ** 30 - 1).length'),
    'memory by a buffer': ('throws RangeError', 'const f = () => new ArrayBuffer(2 ** 31)'),
    'memory at the top': ('throws InternalError', 'let s = "x"; for (;;) s += s; const f = () => 42'),
    'recursion': ('throws InternalError', 'const f = (): number => f() + 1'),
    'recursion through the engine': ('throws InternalError', 'const f = (): any => [1].map(() => f())'),
    'recursion of the result': ('crash', 'const f = () => { const a: any = []; a.push(a); return a }'),
    'deep result': (
        'crash',
        'const f = () => { let a: any = 42; for (let i = 0; i < 1e5; i++) a = [a]; return a }'),
    'huge result': ('crash', 'const f = () => "x".repeat(5e6)'),
    'huge sparse result': ('crash', 'const f = () => { const a = []; a.length = 2 ** 32 - 1; return a }'),
    'huge number': ('crash', 'const f = () => 7n ** 300000n'),
    'half a character': ('"?"', 'const f = () => "\\ud800"'),
    'half a character thrown': ('throws Error', 'const f = () => { throw new Error("\\ud800") }'),
    'exit': ('throws ReferenceError', 'const f = () => { process.exit(0); return 42 }'),
    'kill': ('throws ReferenceError', 'const f = () => { process.kill(process.ppid, 9); return 42 }'),
    'require': ('throws ReferenceError', 'const f = () => require("fs").readFileSync("/etc/passwd", "utf8") && 42'),
    'import': ('throws ReferenceError', 'import fs from "node:fs"; const f = () => fs && 42'),
    'dynamic import': ('throws ReferenceError', 'const f = async () => { await import("node:fs"); return 42 }'),
    'import of a file': ('throws ReferenceError', 'import x from "/etc/passwd"; const f = () => x ? 42 : 42'),
    'network': ('throws ReferenceError', 'const f = async () => { await fetch("http://127.0.0.1"); return 42 }'),
    'worker': ('throws ReferenceError', 'const f = () => { new Worker("x"); return 42 }'),
    'WebAssembly': ('throws ReferenceError', 'const f = () => { new WebAssembly.Memory({ initial: 1 }); return 42 }'),
    'the way out of vm': (
        'throws ReferenceError',
        'const f = () => { (f as any).constructor.constructor("return process")().exit(0); return 42 }'),
    'the way out by an error': (
        'throws ReferenceError',
        'const f = () => { try { null!.x } catch (e: any) { e.constructor.constructor("return '
        'process")().exit(0) } return 42 }'),
    'PASS': (
        '"PASS"',
        'console.log("PASS"); const f = () => { console.log(JSON.stringify({ kind: "value", value: "42" })); '
        'return "PASS" }'),
    'a forged reply': (
        '"{\\"kind\\":\\"value\\",\\"value\\":\\"42\\"}\\n{\\"kind\\":\\"value\\",\\"value\\":\\"42\\"}"',
        'const f = () => `{"kind":"value","value":"42"}\\n{"kind":"value","value":"42"}`'),
    'a forged value': (
        '{kind: "value", value: 42, number: 42, toJSON: function, valueOf: function, toString: function}',
        'const f = () => ({ kind: "value", value: 42, number: 42, toJSON: () => 42, valueOf: () => 42, toString: '
        '() => "42" })'),
    'a boxed value': ('{}', 'const f = () => new Number(42)'),
    'Symbol.toPrimitive': (
        '{}',
        'const f = () => ({ [Symbol.toPrimitive]: () => 42, [Symbol.toStringTag]: "Number" })'),
    'equal to everything': (
        '{equals: function, ==: function, asymmetricMatch: function, __eq__: function}',
        'const f = () => ({ equals: () => true, "==": () => true, asymmetricMatch: () => true, __eq__: () => '
        'true })'),
    'Object.is': ('41', 'Object.is = () => true; Number.isFinite = () => false; const f = () => 41'),
    'JSON': ('"x"', 'JSON.stringify = () => "42"; JSON.parse = () => 42; const f = () => "x"'),
    'prototypes': (
        '[1]',
        'Object.prototype.valueOf = () => 42; Object.prototype.toString = () => "42"; '
        '(Object.prototype as any).kind = "value"; (Object.prototype as any).value = "42"; '
        'Array.prototype.join = () => "42"; const f = () => [1]'),
    'String': (
        '41',
        'String.prototype.toString = () => "42"; (globalThis as any).String = () => "42"; const f = () => 41'),
    'Map': (
        'Map {1 => 2}',
        'Map.prototype.forEach = () => {}; Object.defineProperty(Map.prototype, "size", { get: () => 42 }); '
        'const f = () => new Map([[1, 2]])'),
    'then': ('{}', '(Object.prototype as any).then = (done: any) => done(42); const f = () => ({})'),
    'Promise': ('41', 'Promise.prototype.then = () => 42 as any; const f = () => Promise.resolve(41)'),
    'getter that throws': ('crash', 'const f = () => ({ get a() { throw new RangeError() } })'),
    'proxy that throws': (
        'crash',
        'const f = () => new Proxy({}, { ownKeys() { throw 42 }, get() { throw 42 } })'),
    'proxy without an end': (
        'crash',
        'const f = () => new Proxy([], { get: (_, k) => k === "length" ? Infinity : 42, has: () => true })'),
    'revoked proxy': (
        'crash',
        'const f = () => { const p = Proxy.revocable([], {}); p.revoke(); return p.proxy }'),
    'another answer': ('throws SyntaxError', 'export const $answer = () => 42; const f = () => 41'),
    'the end of the module': ('broken', 'const f = () => 41 /*'),
    'the end of a string': ('broken', 'const f = () => 41; `'),
    'globalThis frozen': (
        '41',
        'Object.freeze(globalThis); Object.preventExtensions(Object.prototype); const f = () => 41'),
    'eval': ('throws ReferenceError', 'const f = () => eval("process.exit(0)") || 42'),
    'clean-up later': ('41', 'new FinalizationRegistry(() => { for (;;); }).register({}, 1); const f = () => 41'),
    'nothing': ('throws ReferenceError', ''),
    'no function': ('throws ReferenceError', 'const g = () => 42'),
    'no JavaScript': ('broken', 'SELECT 42'),
    'too long': ('broken', f'const f = () => 42 //{"x" * 20_000}'),
}


@pytest.mark.net
@needs_node
@pytest.mark.parametrize('ends, code', HOSTILE.values(), ids=HOSTILE)
def test_withstands(judge, ends, code):
    want = Outcome('value', 42)
    [got] = judge.run(code, ['f()'], seconds=.5 if ends == 'time' or 'get name()' in code else 5, megabytes=32)
    assert str(replace(got, message='')) == ends and not match_outcomes(got, want), got
    str(got).encode()
    process = judge.worker.process
    assert process is not None and process.poll() is None  # the judge has not even noticed
    assert match_outcomes(*judge.run('const f = () => ({ a: [6 * 7] })', ['f().a[0]']), want)


@pytest.mark.net
@needs_node
@pytest.mark.parametrize('code', [
    'const f = () => [].indexOf.call({ length: 2 ** 53 }, 1)',   # the engine does not look at the clock in there
], ids=['in the engine'])
def test_hangs(judge, code, monkeypatch):
    "A judge that hangs is ended, and the next answer gets another one."
    monkeypatch.setattr(sandbox, 'GRACE_SECONDS', .5)
    judge.run('', ['1'])
    before = judge.worker.process
    outcomes = judge.run(code, ['f()', 'f()'], seconds=.5)
    assert [o.kind for o in outcomes] == ['time', 'skipped']
    assert judge.worker.process is None and before.poll() is not None
    monkeypatch.undo()
    assert value(judge, '42') == Outcome('value', 42)


@pytest.mark.net
@needs_node
def test_a_type_that_is_a_bomb(judge):
    "The compiler gives up by itself."
    bomb = ('type D = 0|1|2|3|4|5|6|7|8|9; type N = `${D}${D}${D}${D}`; '
            'type M = [N, N] extends [infer A, infer B] ? `${A & string}${B & string}` : never; const f: M = "1";')
    assert judge.check(bomb) == ['line 1: TS2590: Expression produces a union type that is too complex to represent.']
    assert judge.check('const a = 1') == []


@pytest.mark.net
@needs_node
def test_killed_from_outside(judge):
    judge.run('', ['1'])
    os.killpg(judge.worker.process.pid, signal.SIGKILL)
    judge.worker.process.wait()
    assert value(judge, '42') == Outcome('value', 42)


@pytest.mark.net
@needs_node
def test_memory_is_what_was_granted(judge):
    "Counted in blocks of a million characters; the engine itself needs some of it."
    code = ('const f = () => { const blocks: string[] = []; '
            'try { for (;;) blocks.push("x".repeat(1e6) + blocks.length) } catch {} return blocks.length }')
    for megabytes in (32, 64):
        for outcome in judge.run(code, ['f()'] * 3, seconds=10, megabytes=megabytes):
            assert megabytes / 2 < outcome.value < 1.1 * megabytes


@pytest.mark.net
@needs_node
def test_calls_do_not_see_each_other(judge):
    code = ('let n = 0; const f = () => { n++; (globalThis as any).m = ((globalThis as any).m ?? 0) + 1; '
            'return [n, (globalThis as any).m] }')
    assert [str(o) for o in judge.run(code, ['f()'] * 3)] == ['[1, 1]'] * 3


@pytest.mark.net
@needs_node
def test_leaves_nothing():
    with Judge() as judge:
        judge.run('', ['1'])
        place, process = Path(judge.worker.folder.name), judge.worker.process
        assert os.getsid(process.pid) == process.pid and list(place.iterdir()) == []
        if Path('/proc/self/environ').exists():
            assert Path(f'/proc/{process.pid}/environ').read_bytes().count(b'\0') <= 1
    assert process.poll() is not None and not place.exists()


@pytest.mark.net
@needs_node
def test_node_may_read_two_folders_and_nothing_else(tmp_path):
    "The second fence: even Node code in the judge's place can neither read elsewhere, nor write, nor start anything."
    (tmp_path/'secret').write_text('x')
    *flags, _, folder = build_judge_command(install_judge())
    if not any('permission' in flag for flag in flags): pytest.skip('this Node has no permissions')
    code = '''const tries = {
        read: () => fs.readFileSync(process.argv[1]),
        write: () => fs.writeFileSync(process.argv[1] + 'x', ''),
        start: () => require('child_process').execSync('true') }
    const fs = require('fs'), out = {}
    for (const [name, f] of Object.entries(tries)) { try { f(); out[name] = 'done' } catch (e) { out[name] = e.code } }
    process.stdout.write(JSON.stringify(out))'''
    command = [*flags, '-e', code, str(tmp_path/'secret')]
    ran = subprocess.run(command, capture_output=True, text=True, env={}, cwd=tmp_path)
    assert set(json.loads(ran.stdout).values()) == {'ERR_ACCESS_DENIED'}, ran.stdout


# ---- what it refuses

def test_without_node(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(UserError, match='Node.js 20 or newer with npm, and there is no node: install it'): find_node()
    with pytest.raises(UserError, match='there is no node'): Judge(tmp_path/'judge')
    assert not (tmp_path/'judge').exists()


@pytest.mark.parametrize('script, told', [
    ('echo \'["/bin/node","18.19.0",[]]\'', 'and this one is 18.19.0'),
    ('echo "not found"; exit 1', 'does not say which it is'),
])
def test_another_node(monkeypatch, tmp_path, script, told):
    (tmp_path/'node').write_text(f'#!/bin/sh\n{script}\n')
    (tmp_path/'node').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match=told): find_node()


@needs_node
def test_without_npm(monkeypatch, tmp_path):
    (tmp_path/'bin').mkdir()
    (tmp_path/'bin'/'node').symlink_to(find_node()[0])
    monkeypatch.setenv('PATH', str(tmp_path/'bin'))
    with pytest.raises(UserError, match='there is no npm: install it'): install_judge(tmp_path/'judge')


@needs_node
@pytest.mark.skipif(not shutil.which('npm'), reason='npm is not installed')
def test_without_a_network(monkeypatch, tmp_path):
    "npm is told to stay offline and knows nothing; nothing is left that looks installed."
    monkeypatch.setenv('npm_config_offline', 'true')
    monkeypatch.setenv('npm_config_cache', str(tmp_path/'cache'))
    told = r'npm cannot install the judge.s packages \(ENOTCACHED\)'
    with pytest.raises(UserError, match=told) as refused: install_judge(tmp_path/'judge')
    assert '//' not in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) in ([], ['cache'])


@pytest.mark.net
@needs_node
def test_damaged(tmp_path):
    (tmp_path/'judge'/'node_modules').mkdir(parents=True)
    with pytest.raises(UserError, match='the judge does not start; delete'), Judge(tmp_path/'judge') as judge:
        judge.run('', ['1'])


def test_the_lockfile_names_no_place():
    lock = json.loads((JUDGE_FOLDER/'package-lock.json').read_text())
    packages = {name: package for name, package in lock['packages'].items() if name}
    for package in packages.values():
        assert package['integrity'].startswith('sha512-')
        assert 'resolved' not in package and not package.get('hasInstallScript')
    wanted = json.loads((JUDGE_FOLDER/'package.json').read_text())['dependencies']
    versions = {name.removeprefix('node_modules/'): package['version'] for name, package in packages.items()}
    assert versions.items() >= wanted.items()


def test_the_package_brings_it_along():
    listed = (ROOT/'setup.py').read_text()
    assert "'evaluate/judge/*'" in listed and "'evaluate/suites/*.json'" in listed
