// Judges TypeScript that nobody trusts: `node judge.mjs FOLDER`, where FOLDER has node_modules.
// Requests come as JSON lines on stdin, answers go as JSON lines to stdout.
//
//   {"do": "check", "code", "uses"}                          -> {"errors": [...]}
//   {"do": "run", "code", "calls", "seconds", "megabytes"}   -> one line per call: {"kind", "value" or "message"}
//
// The code runs in QuickJS, compiled to WebAssembly: there are no files, no network and no processes in there, and nothing that
// leads out. Each call has an engine of its own, with a memory that cannot grow beyond its limit. What it returned is written down by a second realm of that engine, which the
// code never sees; whether it is right is not decided here.
import { readFileSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'

const require = createRequire(join(process.argv[2], 'judge.mjs'))
const ts = require('typescript')
const { newQuickJSWASMModuleFromVariant, newVariant } = require('quickjs-emscripten-core')
const wasmModule = await WebAssembly.compile(readFileSync(require.resolve('@jitl/quickjs-wasmfile-release-sync/wasm')))
const variant = require('@jitl/quickjs-wasmfile-release-sync').default

const STACK = 1 << 20        // bytes of an engine's stack: about 5,000 simple calls deep
const LARGEST = 100_000      // parts and characters of a value that is compared
const MESSAGES = 5           // type errors that are told

// ---- does it parse, and do the types fit

const FILE = '/answer.ts', AROUND = '/console.d.ts'
const CONSOLE = 'declare const console: Record<"log" | "info" | "debug" | "warn" | "error", (...values: unknown[]) => void>'
const OPTIONS = {
  strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, lib: ['lib.es2023.d.ts'], types: [], skipLibCheck: true,
  module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, moduleDetection: ts.ModuleDetectionKind.Force,
}
const LIBRARY = dirname(require.resolve('typescript'))
const libraries = new Map()
let before  // the last program: its libraries are read once

const sourceOf = (name, text) => ts.createSourceFile(name, text, { languageVersion: ts.ScriptTarget.ES2022 }, true)

function library(name) {
  const short = basename(name)
  if (dirname(name) !== LIBRARY || !/^lib\.[\w.]+\.d\.ts$/.test(short)) return undefined
  if (!libraries.has(short)) libraries.set(short, sourceOf(name, readFileSync(join(LIBRARY, short), 'utf8')))
  return libraries.get(short)
}

function check({ code, uses }) {
  // What silences the compiler, it has found itself: how a directive may be spelled is not for us to guess.
  const { checkJsDirective, commentDirectives } = sourceOf(FILE, code)
  if (checkJsDirective?.enabled === false || commentDirectives?.length) return { errors: ['the answer silences the type checker'] }
  const alone = ts.transpileModule(code, { reportDiagnostics: true, fileName: FILE }).diagnostics
  if (alone.length) return { errors: told(alone) }  // what is open here must not be closed by what follows
  const files = { [FILE]: `${code}\n;{\n${uses}\n}\n`, [AROUND]: CONSOLE }
  const host = {
    getSourceFile: name => name in files ? sourceOf(name, files[name]) : library(name),
    fileExists: name => name in files, readFile: name => files[name], writeFile() {},
    getDefaultLibFileName: () => join(LIBRARY, 'lib.es2023.d.ts'), getDefaultLibLocation: () => LIBRARY,
    getCurrentDirectory: () => '/', getCanonicalFileName: name => name, useCaseSensitiveFileNames: () => true, getNewLine: () => '\n',
  }
  before = ts.createProgram([FILE, AROUND], OPTIONS, host, before)
  const file = before.getSourceFile(FILE)
  return { errors: told([...before.getSyntacticDiagnostics(file), ...before.getSemanticDiagnostics(file), ...before.getGlobalDiagnostics()]) }
}

function checked(request) {
  try { return check(request) } catch (e) {
    before = undefined
    return { errors: [`the compiler fails: ${String(e.message).slice(0, 300)}`] }
  }
}

function told(diagnostics) {
  return diagnostics.slice(0, MESSAGES).map(d => {
    const line = d.file ? `line ${d.file.getLineAndCharacterOfPosition(d.start).line + 1}: ` : ''
    return `${line}TS${d.code}: ${ts.flattenDiagnosticMessageText(d.messageText, ' ').slice(0, 300)}`
  })
}

// ---- what does a call return

const TO_JS = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, isolatedModules: true }

function script(code) {
  const { outputText, diagnostics } = ts.transpileModule(code, { compilerOptions: TO_JS, reportDiagnostics: true, fileName: FILE })
  if (diagnostics.length) throw new SyntaxError(told(diagnostics)[0])
  return outputText
}

function asked(call) {  // an expression, or statements that return something
  const head = `export const $answer = ${/\bawait\b/.test(call) ? 'async ' : ''}() => `
  try { return script(`${head}(${call}\n);`) } catch { return script(`${head}{${call}\n};`) }
}

// Plain JSON where JSON has a word for it; an object with one key, the name of the kind, where it has none.
const SCRIBE = `(value, most) => {
  const kinds = [['map', Map], ['set', Set]].map(([kind, of]) => [kind, Object.getOwnPropertyDescriptor(of.prototype, 'size').get, of.prototype.forEach])
  const { getTime } = Date.prototype
  const is = (f, v) => { try { f.call(v); return true } catch { return false } }
  const spend = n => { if ((most -= n) < 0) throw new RangeError('the value is too large to compare') }
  const write = (v, depth) => {
    spend(1)
    if (depth > 100) throw new RangeError('the value is too deep to compare')
    if (v === null || typeof v === 'boolean') return String(v)
    if (typeof v === 'string') { spend(v.length); return JSON.stringify(v) }
    if (typeof v === 'number') return Number.isFinite(v) && !Object.is(v, -0) ? String(v) : '{"number":"' + (v === 0 ? '-0' : v) + '"}'
    if (typeof v === 'bigint') { if (BigInt.asIntN(50_000, v) !== v) spend(most + 1); return '{"bigint":"' + v + '"}' }
    if (typeof v !== 'object') return '{"' + typeof v + '":true}'
    const parts = []
    if (Array.isArray(v)) {
      const n = v.length
      for (let i = 0; i < n; i++) parts.push(i in v ? write(v[i], depth + 1) : (spend(1), '{"hole":true}'))
      return '[' + parts.join() + ']'
    }
    for (const [kind, size, forEach] of kinds) if (is(size, v)) {
      forEach.call(v, (item, key) => { parts.push(kind === 'set' ? write(item, depth + 1) : '[' + write(key, depth + 1) + ',' + write(item, depth + 1) + ']') })
      return '{"' + kind + '":[' + parts.join() + ']}'
    }
    if (is(getTime, v)) return '{"date":' + write(getTime.call(v), depth + 1) + '}'
    for (const key of Object.keys(v)) { spend(key.length); parts.push(JSON.stringify(key) + ':' + write(v[key], depth + 1)) }
    return '{"object":{' + parts.join() + '}}'
  }
  return write(value, 0)
}`
const REPORTER = `error => {
  const short = v => typeof v === 'string' ? v.slice(0, 300) : ''
  try { return JSON.stringify(typeof error === 'object' && error ? [short(error.name) || 'an object', short(error.message)] : [typeof error, short(String(error))]) }
  catch { return '["an object",""]' }
}`
const AMBIENT = 'globalThis.console = { log() {}, info() {}, debug() {}, warn() {}, error() {} }'

class Never extends Error {}

// QuickJS has a memory limit, which counts almost nothing when it is compiled to WebAssembly. WebAssembly's own limit holds.
function engine(megabytes) {
  const wasmMemory = new WebAssembly.Memory({ initial: 256, maximum: Math.max(256, megabytes * 16) })  // pages of 64 KB; it begins with 16 MB
  return newQuickJSWASMModuleFromVariant(newVariant(variant, { wasmModule, wasmMemory }))
}

async function outcome(answer, call, seconds, megabytes) {
  const runtime = (await engine(megabytes)).newRuntime()
  const guest = runtime.newContext(), scribe = runtime.newContext()
  const [write, report] = [SCRIBE, REPORTER].map(text => scribe.unwrapResult(scribe.evalCode(text)))
  guest.unwrapResult(guest.evalCode(AMBIENT))
  runtime.setMaxStackSize(STACK)
  const end = performance.now() + seconds * 1000
  let late = false
  runtime.setInterruptHandler(() => late ||= performance.now() > end)
  const must = result => { if (result.error) throw { thrown: result.error }; return result.value }
  const settled = value => {  // of a promise, or of what is none
    for (;;) {
      const state = guest.getPromiseState(value)
      if (state.type === 'rejected') throw { thrown: state.error }
      if (state.type === 'fulfilled') return state.value
      if (performance.now() > end) late = true
      if (late || !must(runtime.executePendingJobs(1000))) throw new Never()
    }
  }
  try {
    const module = settled(must(guest.evalCode(`${answer}\n;${call}`, 'answer.js', { type: 'module' })))
    const value = settled(must(guest.callFunction(guest.getProp(module, '$answer'), guest.undefined)))
    const written = scribe.callFunction(write, scribe.undefined, value, scribe.newNumber(LARGEST))
    if (!written.error) return { kind: 'value', value: scribe.getString(written.value) }
    // The call returned, so it did not throw; that its value cannot be written down is another matter.
    const [, why] = JSON.parse(scribe.getString(must(scribe.callFunction(report, scribe.undefined, written.error))))
    return late ? { kind: 'time', message: `not done in ${seconds} s` } : { kind: 'crash', message: why || 'the value cannot be written down' }
  } catch (e) {
    if (late) return { kind: 'time', message: `not done in ${seconds} s` }
    if (e instanceof Never) return { kind: 'never', message: 'the promise never settles' }
    if (!e.thrown) return { kind: 'crash', message: String(e.message).slice(0, 300) }
    const [name, message] = JSON.parse(scribe.getString(must(scribe.callFunction(report, scribe.undefined, e.thrown))))
    return late ? { kind: 'time', message: `not done in ${seconds} s` } : { kind: 'throws', value: name, message }
  }
}

async function run({ code, calls, seconds, megabytes }) {
  let answer, broken
  try { answer = script(code) } catch (e) { broken = { kind: 'broken', message: String(e.message).slice(0, 300) } }
  for (const call of calls) {
    let got = broken
    try { got ??= await outcome(answer, asked(call), seconds, megabytes) } catch (e) { got = { kind: 'crash', message: String(e.message ?? 'no reason').slice(0, 300) } }
    tell(got)
    if (got.kind === 'time') return  // whoever asked knows that no more comes
  }
}

// ---- requests

const tell = answer => { for (let rest = Buffer.from(JSON.stringify(answer) + '\n'); rest.length;) rest = rest.subarray(writeSync(1, rest)) }
for (const name of ['log', 'info', 'debug', 'warn', 'error']) console[name] = () => {}  // stdout carries answers only

tell({ ready: process.version })
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  if (request.do === 'run') await run(request)
  else tell(checked(request))
}
