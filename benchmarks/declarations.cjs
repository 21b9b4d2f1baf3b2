// What the TypeScript compiler finds in a folder: one line of JSON per file, with its functions and their comments.
//     node benchmarks/declarations.cjs FOLDER       (`typescript` must be installed where this is run)
const fs = require('fs'), path = require('path')
const ts = require(require.resolve('typescript', { paths: [process.cwd()] }))

const root = process.argv[2], files = []
function list(folder) {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const place = path.join(folder, entry.name)
    if (entry.isDirectory()) { if (!['node_modules', '.git', 'dist', 'build'].includes(entry.name)) list(place) }
    else if (/\.[cm]?tsx?$/.test(entry.name) && !/\.d\.(\w+\.)?[cm]?ts$/.test(entry.name)) files.push(place)
  }
}
list(root)

const program = ts.createProgram(files, {
  noEmit: true, strict: true, skipLibCheck: true, types: [], jsx: ts.JsxEmit.Preserve, target: ts.ScriptTarget.ESNext,
  module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, allowImportingTsExtensions: true })
const checker = program.getTypeChecker()

const isFunction = node => ts.isArrowFunction(node) || ts.isFunctionExpression(node)
function unwrap(node) {   // without parentheses and words about types
  while (ts.isParenthesizedExpression(node) || ts.isAsExpression(node) || ts.isSatisfiesExpression(node)
         || ts.isNonNullExpression(node)) node = node.expression
  return node
}
function holdsFunction(node) { return isFunction(node) || !!ts.forEachChild(node, holdsFunction) }

for (const file of program.getSourceFiles().filter(file => files.includes(path.resolve(file.fileName))
                                                           || files.includes(file.fileName))) {
  const found = []
  const lineOf = node => file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1

  function countWords(node) {   // comments are between tokens, not in them
    if (node.kind >= ts.SyntaxKind.FirstJSDocNode && node.kind <= ts.SyntaxKind.LastJSDocNode) return 0
    const inner = node.getChildren(file)
    return inner.length ? inner.reduce((sum, child) => sum + countWords(child), 0)
                        : (node.getText(file).match(/[\p{L}\p{N}_]+/gu) ?? []).length
  }

  const readDocs = node => ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc).map(doc => doc.getText(file))

  function add(node, name, body, isMade = true) {   // isMade: a function; null if nobody knows
    let docs = readDocs(node).slice(-1)   // the last one before it counts, then those of its overloads
    const siblings = node.parent.members ?? node.parent.statements ?? []
    for (const other of siblings.slice(0, siblings.indexOf(node) + 1))
      if (other !== node && other.kind === node.kind && !other.body
          && other.name?.getText(file) === node.name?.getText(file)) docs.push(...readDocs(other).slice(-1))
    const words = (node.modifiers ?? []).filter(word => !ts.isDecorator(word)
      && ![ts.SyntaxKind.ExportKeyword, ts.SyntaxKind.DefaultKeyword].includes(word.kind))
    const first = words[0] ?? (ts.isFunctionDeclaration(node)
      ? node.getChildren(file).find(child => child.kind === ts.SyntaxKind.FunctionKeyword) : node.name) ?? node
    found.push({ name, line: lineOf(first), words: countWords(body), docs, isMade })
  }

  function addValue(node, name, value) {
    const inner = unwrap(value)
    if (isFunction(inner)) add(node, name, inner.body)
    else if (holdsFunction(inner) && !ts.isObjectLiteralExpression(inner) && !ts.isArrayLiteralExpression(inner)
             && !ts.isClassExpression(inner)) {
      const type = checker.getTypeAtLocation(node)
      add(node, name, inner, type.flags & ts.TypeFlags.Any ? null : type.getCallSignatures().length > 0)
    }
  }

  function visit(node) {
    const name = node.name?.getText(file) ?? ''
    if (ts.isFunctionDeclaration(node) && node.body) add(node, name || 'default', node.body)
    else if ((ts.isMethodDeclaration(node) || ts.isAccessor(node)) && node.body) add(node, name, node.body)
    else if (ts.isConstructorDeclaration(node) && node.body) add(node, 'constructor', node.body)
    else if ((ts.isVariableDeclaration(node) || ts.isPropertyDeclaration(node)) && node.initializer)
      addValue(node, name, node.initializer)
    else if (ts.isPropertyAssignment(node) && isFunction(unwrap(node.initializer)))
      addValue(node, name, node.initializer)
    else if (ts.isExportAssignment(node)) addValue(node, 'default', node.expression)
    else if (ts.isExpressionStatement(node) && ts.isBinaryExpression(node.expression)
             && node.expression.operatorToken.kind === ts.SyntaxKind.EqualsToken
             && ts.isPropertyAccessExpression(node.expression.left)
             && isFunction(unwrap(node.expression.right)))
      add(node, node.expression.left.name.text, unwrap(node.expression.right).body)
    ts.forEachChild(node, visit)
  }
  visit(file)
  const isBroken = program.getSyntacticDiagnostics(file).length > 0
  console.log(JSON.stringify({ path: path.relative(root, file.fileName), isBroken, found }))
}
