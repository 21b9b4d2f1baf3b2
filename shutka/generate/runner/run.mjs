// Runs programs that shutka has made: JSON on stdin, JSON on stdout.
//
//   node run.mjs           JavaScript
//   node run.mjs FOLDER    TypeScript, checked and turned into JavaScript by the compiler in FOLDER/node_modules
import assert from 'node:assert/strict'
import { readFileSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const folder = process.argv[2]
const ts = folder ? createRequire(join(folder, 'run.mjs'))('typescript') : undefined
const programs = JSON.parse(readFileSync(0, 'utf8'))
const translate = code => ts ? ts.transpileModule(code, { compilerOptions: { target: 'ES2022', module: 'ESNext' } }).outputText : code
// what a module imports and exports is handed over by name
const open = code => translate(code).replace(/^import .*$/gm, '').replace(/^export (?!\{)/gm, '').replace(/^export \{.*$/gm, '')
const nameOf = code => code.match(/^export function (\w+)/m)[1]

function passes(work) {
  try { work(); return true } catch { return false }
}

function runProgram({ code, calls, test }) {
  const name = nameOf(code), made = new Function(`${open(code)}\nreturn ${name}`)()
  const evaluate = text => new Function(name, `return ${text}`)(made)
  const test_ = (_, body) => body()
  return {
    calls: calls.map(([call, want]) => passes(() => assert.deepStrictEqual(evaluate(call), evaluate(want)))),
    test: test ? passes(() => new Function('assert', 'test', name, open(test))(assert, test_, made)) : null,
  }
}

// ---- types: every program that must be right, with its calls and its test, as modules of one project

const DECLARED = `declare module 'node:test' { export default function test(name: string, body: () => void): void }
declare module 'node:assert/strict' {
  const assert: Record<'equal' | 'deepEqual', (got: unknown, want: unknown) => void>
  export default assert
}`

function check(programs) {
  const files = { '/node.d.ts': DECLARED }
  programs.forEach(({ code, calls, test, right }, i) => {
    if (!right) return
    files[`/${i}/solution.ts`] = `${code}\n;[${calls.map(([call]) => call).join(', ')}]\n`
    if (test) files[`/${i}/test.ts`] = test
  })
  const library = dirname(createRequire(join(folder, 'run.mjs')).resolve('typescript')), read = {}
  const host = {
    getSourceFile: name => {
      const text = files[name] ?? (dirname(name) === library ? readFileSync(name, 'utf8') : undefined)
      return text === undefined ? undefined : read[name] ??= ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true)
    },
    fileExists: name => name in files, readFile: name => files[name], writeFile() {},
    getDefaultLibFileName: () => join(library, 'lib.es2023.d.ts'), getDefaultLibLocation: () => library,
    getCurrentDirectory: () => '/', getCanonicalFileName: name => name, useCaseSensitiveFileNames: () => true, getNewLine: () => '\n',
  }
  const options = {
    strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, lib: ['lib.es2023.d.ts'], types: [], skipLibCheck: true,
    module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, moduleDetection: ts.ModuleDetectionKind.Force,
  }
  const found = ts.getPreEmitDiagnostics(ts.createProgram(Object.keys(files), options, host))
  return found.map(({ file, messageText }) => [Number(file?.fileName.split('/')[1] ?? -1), ts.flattenDiagnosticMessageText(messageText, ' ')])
}

const results = programs.map(program => {
  try { return runProgram(program) } catch (e) { return { calls: program.calls.map(() => false), test: false, error: String(e) } }
})
for (const [i, message] of ts ? check(programs) : []) Object.assign(results[Math.max(i, 0)], { error: message })
const bytes = Buffer.from(JSON.stringify(results))
for (let at = 0; at < bytes.length;) at += writeSync(1, bytes, at)
