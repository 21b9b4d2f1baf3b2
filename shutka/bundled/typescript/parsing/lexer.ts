/** One lexeme cut from the source, with the kind the matching rule gave it and the offset where it starts. */
export interface Token<K extends string = string> {
  kind: K;
  text: string;
  offset: number;
}

/** A named pattern the lexer tries at the current position; rules marked `skip` consume text without emitting a token. */
export interface LexRule<K extends string = string> {
  kind: K;
  pattern: RegExp;
  skip?: boolean;
}

/** A human-readable place in a text file: both numbers start from one, as editors show them. */
export interface LineColumn {
  line: number;
  column: number;
}

/** Raised when no rule accepts the input; it carries the offset of the first character that could not be read. */
export class LexError extends Error {
  constructor(message: string, readonly offset: number) {
    super(message);
    this.name = 'LexError';
  }
}

function toSticky(pattern: RegExp): RegExp {
  return new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, '') + 'y');
}

/**
 * Cuts a whole source string into tokens by trying the rules in order at every position; the first rule that matches wins.
 * Throws when nothing matches, so a grammar that should never fail needs a catch-all rule at the end.
 *
 * @param source - the program text
 * @param rules - patterns in order of priority
 */
export function tokenize<K extends string>(source: string, rules: readonly LexRule<K>[]): Token<K>[] {
  const compiled = rules.map((rule) => ({ rule, regex: toSticky(rule.pattern) }));
  const tokens: Token<K>[] = [];
  let offset = 0;
  while (offset < source.length) {
    const hit = compiled.find(({ regex }) => {
      regex.lastIndex = offset;
      return regex.test(source) && regex.lastIndex > offset;
    });
    if (!hit) throw new LexError(`unexpected character ${JSON.stringify(source[offset])}`, offset);
    const end = hit.regex.lastIndex;
    if (!hit.rule.skip) tokens.push({ kind: hit.rule.kind, text: source.slice(offset, end), offset });
    offset = end;
  }
  return tokens;
}

/**
 * Tries several patterns at one offset and returns the longest piece of text any of them accepts, the rule known as maximal munch.
 * Use it where `>>=` must win over `>` no matter how the operators are listed.
 */
export function longestMatch(source: string, offset: number, patterns: readonly RegExp[]): string | undefined {
  let best: string | undefined;
  for (const pattern of patterns) {
    const regex = toSticky(pattern);
    regex.lastIndex = offset;
    const text = regex.exec(source)?.[0];
    if (text !== undefined && (best === undefined || text.length > best.length)) best = text;
  }
  return best;
}

/**
 * Translates a character offset into the line and column to show in a diagnostic. Offsets past the end report the last position.
 *
 * @example
 * locate('ab\ncd', 4); // { line: 2, column: 2 }
 */
export function locate(source: string, offset: number): LineColumn {
  const before = source.slice(0, Math.max(0, offset));
  const lastBreak = before.lastIndexOf('\n');
  const line = before.split('\n').length;
  return { line, column: before.length - lastBreak };
}

/** Records where every line of a text begins, so that many offsets can later be resolved without scanning the text again. */
export function lineStarts(source: string): number[] {
  const starts = [0];
  for (let i = source.indexOf('\n'); i !== -1; i = source.indexOf('\n', i + 1)) {
    starts.push(i + 1);
  }
  return starts;
}

/**
 * Draws the offending source line with a caret underneath the faulty column, the familiar picture of a compiler error.
 *
 * @param message - put after the line number, above the excerpt
 */
export function formatCaret(source: string, offset: number, message: string): string {
  const { line, column } = locate(source, offset);
  const text = source.split('\n')[line - 1] ?? '';
  const padding = text.slice(0, column - 1).replace(/[^\t]/g, ' ');
  return `${line}:${column}: ${message}\n${text}\n${padding}^`;
}

/**
 * Decodes the inside of a quoted literal by replacing backslash sequences such as `\n`, `\t` and `\u0041` with the characters they stand for.
 * A backslash before any other character simply yields that character.
 */
export function unescapeLiteral(body: string): string {
  const simple: Record<string, string> = { n: '\n', t: '\t', r: '\r', b: '\b', f: '\f', v: '\v', 0: '\0' };
  return body.replace(/\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\s\S]))/g, (_all, unicode, hex, char) => {
    const code: string | undefined = unicode ?? hex;
    if (code !== undefined) return String.fromCharCode(parseInt(code, 16));
    return simple[char] ?? char;
  });
}

/**
 * Reads a numeric literal with optional underscores between digits and a `0x`, `0o` or `0b` prefix, and gives its value.
 *
 * @returns the number, or `undefined` when the spelling is not a valid literal
 */
export function parseNumberLiteral(text: string): number | undefined {
  const prefixed = /^0(?:x[\da-f]+(?:_[\da-f]+)*|o[0-7]+(?:_[0-7]+)*|b[01]+(?:_[01]+)*)$/i;
  const decimal = /^\d+(?:_\d+)*(?:\.\d+(?:_\d+)*)?(?:e[+-]?\d+)?$/i;
  const wellFormed = prefixed.test(text) || decimal.test(text);
  return wellFormed ? Number(text.replaceAll('_', '')) : undefined;
}

/** Turns identifier tokens whose spelling is a reserved word into keyword tokens, leaving all others untouched. */
export function promoteKeywords(tokens: readonly Token[], reserved: ReadonlySet<string>, from = 'identifier'): Token[] {
  return tokens.map((token) =>
    token.kind === from && reserved.has(token.text) ? { ...token, kind: 'keyword' } : token,
  );
}

/**
 * Makes Python-style block structure explicit: compares the leading spaces of each line and emits `indent`, `dedent` and `line` events.
 * Blank lines are ignored, and a line that returns to a depth never opened before is an error.
 */
export function indentationEvents(source: string): Token<'indent' | 'dedent' | 'line'>[] {
  const events: Token<'indent' | 'dedent' | 'line'>[] = [];
  const depths = [0];
  let offset = 0;
  for (const raw of source.split('\n')) {
    const text = raw.trim();
    const depth = raw.length - raw.trimStart().length;
    if (text !== '') {
      if (depth > depths.at(-1)!) {
        depths.push(depth);
        events.push({ kind: 'indent', text: '', offset });
      }
      while (depth < depths.at(-1)!) {
        depths.pop();
        events.push({ kind: 'dedent', text: '', offset });
      }
      if (depth !== depths.at(-1)) throw new LexError('inconsistent dedent', offset);
      events.push({ kind: 'line', text, offset: offset + depth });
    }
    offset += raw.length + 1;
  }
  for (; depths.length > 1; depths.pop()) events.push({ kind: 'dedent', text: '', offset: source.length });
  return events;
}

/**
 * Looks for the bracket that closes the one at `open`, counting nested pairs of round, square and curly brackets on the way.
 *
 * @returns the index of the partner token, or -1 when the brackets are crossed or never closed
 */
export function findClosingBracket(tokens: readonly Token[], open: number): number {
  const partner: Record<string, string> = { '(': ')', '[': ']', '{': '}' };
  const expected: string[] = [];
  for (let i = open; i < tokens.length; i++) {
    const text = tokens[i]!.text;
    const closer = partner[text];
    if (closer !== undefined) expected.push(closer);
    else if (text === ')' || text === ']' || text === '}') {
      if (expected.pop() !== text) return -1;
    }
    if (expected.length === 0) return i === open ? -1 : i;
  }
  return -1;
}

/** A cursor over a list of tokens, offering the look-ahead and consume operations a hand-written recursive descent parser needs. */
export class TokenStream<K extends string = string> {
  private position = 0;

  constructor(private readonly tokens: readonly Token<K>[]) {}

  /** Looks at an upcoming token without consuming it; zero means the very next one. */
  peek(ahead = 0): Token<K> | undefined {
    return this.tokens[this.position + ahead];
  }

  /** Consumes the next token only if it has the wanted kind, and otherwise leaves the cursor where it is. Meant for optional syntax. */
  accept(kind: K): Token<K> | undefined {
    const token = this.tokens[this.position];
    if (token?.kind !== kind) return undefined;
    this.position++;
    return token;
  }

  /** Demands that a token of the given kind comes next and throws a syntax error naming what was found instead. */
  expect(kind: K): Token<K> {
    const token = this.accept(kind);
    if (token) return token;
    const found = this.peek();
    throw new LexError(`expected ${kind}, found ${found ? found.kind : 'end of input'}`, found?.offset ?? -1);
  }

  /** Runs a speculative parse and rewinds the cursor if it returns `undefined`, so that another alternative can be tried. */
  attempt<T>(parse: (stream: this) => T | undefined): T | undefined {
    const saved = this.position;
    const result = parse(this);
    if (result === undefined) this.position = saved;
    return result;
  }

  /** Drops tokens up to the next one of a synchronising kind, such as a semicolon, to recover after a syntax error. */
  skipUntil(...kinds: K[]): number {
    const start = this.position;
    while (this.position < this.tokens.length && !kinds.includes(this.tokens[this.position]!.kind)) {
      this.position++;
    }
    return this.position - start;
  }
}
