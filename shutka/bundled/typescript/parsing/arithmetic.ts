import { tokenize, TokenStream, type LexRule } from './lexer';

/** The syntax tree of an arithmetic formula: literals, named variables, negation, binary operators and function calls. */
export type Expr =
  | { type: 'number'; value: number }
  | { type: 'variable'; name: string }
  | { type: 'negate'; operand: Expr }
  | { type: 'binary'; operator: Operator; left: Expr; right: Expr }
  | { type: 'call'; name: string; args: Expr[] };

/** The infix operators of the formula language. */
export type Operator = '+' | '-' | '*' | '/' | '^';

type Kind = 'space' | 'number' | 'name' | 'operator' | 'open' | 'close' | 'comma';

const RULES: readonly LexRule<Kind>[] = [
  { kind: 'space', pattern: /\s+/, skip: true },
  { kind: 'number', pattern: /\d+(?:\.\d+)?(?:e[+-]?\d+)?/i },
  { kind: 'name', pattern: /[a-z_]\w*/i },
  { kind: 'operator', pattern: /[-+*/^]/ },
  { kind: 'open', pattern: /\(/ },
  { kind: 'close', pattern: /\)/ },
  { kind: 'comma', pattern: /,/ },
];

const PRECEDENCE: Record<Operator, number> = { '+': 1, '-': 1, '*': 2, '/': 2, '^': 4 };
const NEGATION_PRECEDENCE = 3;

/**
 * Parses an infix formula such as `2 * (x + 1)` into a syntax tree, honouring operator precedence; the power operator groups to the right.
 *
 * @throws when the text is not a single complete formula
 */
export function parseExpression(source: string): Expr {
  const stream = new TokenStream(tokenize(source, RULES));
  const tree = parseBinary(stream, 0);
  const rest = stream.peek();
  if (rest) throw new SyntaxError(`unexpected ${rest.text} at offset ${rest.offset}`);
  return tree;
}

function parseBinary(stream: TokenStream<Kind>, minimum: number): Expr {
  let left = parsePrefix(stream);
  for (let next = stream.peek(); next?.kind === 'operator'; next = stream.peek()) {
    const operator = next.text as Operator;
    const strength = PRECEDENCE[operator];
    if (strength < minimum) break;
    stream.expect('operator');
    const right = parseBinary(stream, operator === '^' ? strength : strength + 1);
    left = { type: 'binary', operator, left, right };
  }
  return left;
}

function parsePrefix(stream: TokenStream<Kind>): Expr {
  if (stream.peek()?.text === '-') {
    stream.expect('operator');
    return { type: 'negate', operand: parseBinary(stream, NEGATION_PRECEDENCE) };
  }
  const literal = stream.accept('number');
  if (literal) return { type: 'number', value: Number(literal.text) };
  const name = stream.accept('name');
  if (name) return stream.accept('open') ? { type: 'call', name: name.text, args: parseArguments(stream) } : { type: 'variable', name: name.text };
  stream.expect('open');
  const inner = parseBinary(stream, 0);
  stream.expect('close');
  return inner;
}

function parseArguments(stream: TokenStream<Kind>): Expr[] {
  const args: Expr[] = [];
  if (stream.accept('close')) return args;
  do args.push(parseBinary(stream, 0));
  while (stream.accept('comma'));
  stream.expect('close');
  return args;
}

/** Performs one infix operation on two numbers, following floating point rules, so dividing by zero gives an infinity. */
export const applyOperator = (operator: Operator, left: number, right: number): number => {
  switch (operator) {
    case '+': return left + right;
    case '-': return left - right;
    case '*': return left * right;
    case '/': return left / right;
    case '^': return left ** right;
  }
};

/** What a formula may refer to while it is computed: values by variable name and functions by call name. */
export interface Scope {
  variables?: Readonly<Record<string, number>>;
  functions?: Readonly<Record<string, (...args: number[]) => number>>;
}

/**
 * Computes the numeric value of a formula tree against the given variables and functions.
 *
 * @param scope - names the formula may use; anything missing raises a ReferenceError
 */
export function evaluate(expr: Expr, scope: Scope = {}): number {
  switch (expr.type) {
    case 'number': return expr.value;
    case 'negate': return -evaluate(expr.operand, scope);
    case 'binary': return applyOperator(expr.operator, evaluate(expr.left, scope), evaluate(expr.right, scope));
    case 'variable': return lookUp(scope.variables, expr.name);
    case 'call': return lookUp(scope.functions, expr.name)(...expr.args.map((arg) => evaluate(arg, scope)));
  }
}

function lookUp<T>(table: Readonly<Record<string, T>> | undefined, name: string): T {
  if (!table || !Object.hasOwn(table, name)) throw new ReferenceError(`${name} is not defined`);
  return table[name]!;
}

/**
 * Compiles formula text once into a function that can be called many times with different variable values, as for plotting a curve.
 *
 * @example
 * const area = compile('w * h');
 * area({ w: 3, h: 4 }); // 12
 */
export function compile(source: string, functions: Scope['functions'] = {}): (variables: Record<string, number>) => number {
  const tree = parseExpression(source);
  return (variables) => evaluate(tree, { variables, functions });
}

/** Prints a syntax tree back as infix text, putting parentheses only where precedence calls for them. */
export function formatExpression(expr: Expr, context = 0): string {
  switch (expr.type) {
    case 'number': return wrap(String(expr.value), expr.value < 0 && NEGATION_PRECEDENCE < context);
    case 'variable': return expr.name;
    case 'call': return `${expr.name}(${expr.args.map((arg) => formatExpression(arg)).join(', ')})`;
    case 'negate': return wrap(`-${formatExpression(expr.operand, NEGATION_PRECEDENCE)}`, NEGATION_PRECEDENCE < context);
    case 'binary': {
      const strength = PRECEDENCE[expr.operator];
      const rightward = expr.operator === '^';
      const left = formatExpression(expr.left, rightward ? strength + 1 : strength);
      const right = formatExpression(expr.right, rightward ? strength : strength + 1);
      return wrap(`${left} ${expr.operator} ${right}`, strength < context);
    }
  }
}

function wrap(text: string, needed: boolean): string {
  return needed ? `(${text})` : text;
}

/** Finds the free variables a formula depends on, so that a form can ask for their values before evaluating. */
export function variablesIn(expr: Expr): Set<string> {
  switch (expr.type) {
    case 'number': return new Set();
    case 'variable': return new Set([expr.name]);
    case 'negate': return variablesIn(expr.operand);
    case 'binary': return new Set([...variablesIn(expr.left), ...variablesIn(expr.right)]);
    case 'call': return new Set(expr.args.flatMap((arg) => [...variablesIn(arg)]));
  }
}

/** Replaces every occurrence of the named variables with other expressions, all at the same time, and returns a new tree; the original stays as it was. */
export function substitute(expr: Expr, bindings: ReadonlyMap<string, Expr>): Expr {
  switch (expr.type) {
    case 'number': return expr;
    case 'variable': return bindings.get(expr.name) ?? expr;
    case 'negate': return { ...expr, operand: substitute(expr.operand, bindings) };
    case 'binary': return { ...expr, left: substitute(expr.left, bindings), right: substitute(expr.right, bindings) };
    case 'call': return { ...expr, args: expr.args.map((arg) => substitute(arg, bindings)) };
  }
}

/**
 * Folds constants and drops neutral elements: `0 + x` and `1 * x` become `x`, `x ^ 1` becomes `x`, and subtrees made only of numbers are computed.
 */
export function simplify(expr: Expr): Expr {
  if (expr.type === 'call') return { ...expr, args: expr.args.map(simplify) };
  if (expr.type === 'negate') {
    const operand = simplify(expr.operand);
    if (operand.type === 'negate') return operand.operand;
    return operand.type === 'number' ? { type: 'number', value: -operand.value } : { type: 'negate', operand };
  }
  if (expr.type !== 'binary') return expr;
  const { operator } = expr;
  const left = simplify(expr.left);
  const right = simplify(expr.right);
  if (left.type === 'number' && right.type === 'number') return { type: 'number', value: applyOperator(operator, left.value, right.value) };
  const neutral = operator === '+' || operator === '-' ? 0 : 1;
  if (right.type === 'number' && right.value === neutral) return left;
  if ((operator === '+' || operator === '*') && left.type === 'number' && left.value === neutral) return right;
  return { type: 'binary', operator, left, right };
}

/**
 * Takes the symbolic derivative of a formula with respect to one variable, using the sum, product, quotient and power rules.
 * Only constant exponents are supported, and function calls are refused.
 */
export function differentiate(expr: Expr, variable: string): Expr {
  const d = (inner: Expr) => differentiate(inner, variable);
  const op = (operator: Operator, left: Expr, right: Expr): Expr => ({ type: 'binary', operator, left, right });
  if (expr.type === 'number') return { type: 'number', value: 0 };
  if (expr.type === 'variable') return { type: 'number', value: expr.name === variable ? 1 : 0 };
  if (expr.type === 'negate') return { type: 'negate', operand: d(expr.operand) };
  if (expr.type === 'call') throw new TypeError(`cannot differentiate a call of ${expr.name}`);
  const { operator, left, right } = expr;
  if (operator === '+' || operator === '-') return op(operator, d(left), d(right));
  if (operator === '*') return op('+', op('*', d(left), right), op('*', left, d(right)));
  if (operator === '/') return op('/', op('-', op('*', d(left), right), op('*', left, d(right))), op('^', right, { type: 'number', value: 2 }));
  if (right.type !== 'number') throw new TypeError('only constant exponents can be differentiated');
  return op('*', op('*', right, op('^', left, { type: 'number', value: right.value - 1 })), d(left));
}

/**
 * Rewrites infix notation as postfix with the shunting-yard algorithm, operands first and operators after them.
 * Handles the four operators, powers and parentheses, but neither unary minus nor calls.
 */
export function toPostfix(source: string): string[] {
  const output: string[] = [];
  const pending: string[] = [];
  for (const { kind, text } of tokenize(source, RULES)) {
    if (kind === 'operator') {
      const strength = PRECEDENCE[text as Operator] + (text === '^' ? 1 : 0);
      while (pending.length > 0 && pending.at(-1) !== '(' && PRECEDENCE[pending.at(-1) as Operator] >= strength) output.push(pending.pop()!);
      pending.push(text);
    } else if (kind === 'open') pending.push(text);
    else if (kind === 'close') {
      while (pending.length > 0 && pending.at(-1) !== '(') output.push(pending.pop()!);
      if (pending.pop() === undefined) throw new SyntaxError('unbalanced parenthesis');
    } else output.push(text);
  }
  if (pending.includes('(')) throw new SyntaxError('unbalanced parenthesis');
  return [...output, ...pending.reverse()];
}

/**
 * Runs a reverse Polish program on a stack, as pocket calculators once did: numbers are pushed, an operator pops two and pushes its result.
 *
 * @returns the single value left at the end
 */
export function evaluatePostfix(program: readonly string[]): number {
  const stack: number[] = [];
  for (const item of program) {
    if (Object.hasOwn(PRECEDENCE, item)) {
      const right = stack.pop();
      const left = stack.pop();
      if (left === undefined || right === undefined) throw new SyntaxError(`too few operands for ${item}`);
      stack.push(applyOperator(item as Operator, left, right));
    } else stack.push(Number(item));
  }
  if (stack.length !== 1) throw new SyntaxError('the program does not reduce to one value');
  return stack[0]!;
}

/** Measures how deeply an expression nests; a lone number or name has depth one. Useful for rejecting hostile input. */
export function expressionDepth(expr: Expr): number {
  if (expr.type === 'negate') return 1 + expressionDepth(expr.operand);
  if (expr.type === 'binary') return 1 + Math.max(expressionDepth(expr.left), expressionDepth(expr.right));
  if (expr.type === 'call') return 1 + Math.max(0, ...expr.args.map(expressionDepth));
  return 1;
}
