// Checks queries with Neo4j's own parser and type analysis. A request is a line of JSON with a schema and queries;
// the reply is a line with the complaints about each query. Nothing that is checked is run.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const { lintCypherQuery, testData } = createRequire(process.argv[2] + '/')('@neo4j-cypher/language-support')
// what every server has, with its types; plugins such as apoc are left out
const own = registry => Object.fromEntries(Object.entries(registry).filter(([, f]) => f.isBuiltIn))
const functions = Object.fromEntries(Object.entries(testData.mockSchema.functions).map(([v, all]) => [v, own(all)]))
const say = value => process.stdout.write(JSON.stringify(value) + '\n')

function check(query, schema) {
  try { return lintCypherQuery(query, schema).diagnostics.map(d => d.message) }
  catch (error) { return [`the linter breaks: ${error}`] }
}

say({ ready: true })
for await (const line of createInterface({ input: process.stdin })) {
  const { schema, queries } = JSON.parse(line)
  const full = { ...schema, functions, procedures: {} }
  say({ complaints: queries.map(query => check(query, full)) })
}
