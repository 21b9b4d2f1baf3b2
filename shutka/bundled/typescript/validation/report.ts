/** Where in a nested value something is, from the outside in: property names and array indices. */
export type Path = readonly (string | number)[];

/** One complaint about a value. */
export interface Issue {
  readonly path: Path;
  /** Stable identifier for programs and translations. */
  readonly code: string;
  /** Sentence for people. */
  readonly message: string;
}

/**
 * Writes a location the way a programmer would in code, with dots for names and brackets for indices and odd keys.
 *
 * @example
 * formatPath(['users', 0, 'first name']); // 'users[0]["first name"]'
 */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    if (!/^[A-Za-z_$][\w$]*$/.test(key)) return `${text}[${JSON.stringify(key)}]`;
    return text === '' ? key : `${text}.${key}`;
  }, '');
}

/** Encodes a location as an RFC 6901 JSON Pointer, escaping tildes and slashes, for use in API responses. */
export function toJsonPointer(path: Path): string {
  return path
    .map((key) => String(key).replace(/~/g, '~0').replace(/\//g, '~1'))
    .map((token) => `/${token}`)
    .join('');
}

/** Fetches the offending part of the input that a path points to; steps into nothing give undefined instead of an exception. */
export function valueAt(root: unknown, path: Path): unknown {
  let current = root;
  for (const key of path) {
    if (current === null || current === undefined) {
      return undefined;
    }
    current = (current as Record<string | number, unknown>)[key];
  }
  return current;
}

/** Collects messages under the top-level field they belong to, as form libraries want them; those about the whole go under the empty key. */
export function messagesByField(issues: Iterable<Issue>): Map<string, string[]> {
  const fields = new Map<string, string[]>();
  for (const { path, message } of issues) {
    const field = path.length === 0 ? '' : String(path[0]);
    const list = fields.get(field) ?? [];
    list.push(message);
    fields.set(field, list);
  }
  return fields;
}

/** Relocates the complaints about a part so that they make sense for the enclosing value. */
export const prefixIssues = (issues: readonly Issue[], prefix: Path): Issue[] => {
  return issues.map((issue) => ({
    ...issue,
    path: [...prefix, ...issue.path],
  }));
};

/** Drops repeated complaints that agree in place and code, the earliest staying, as happens when several checks stumble over one cause. */
export function dedupeIssues(issues: readonly Issue[]): Issue[] {
  const seen = new Set<string>();
  return issues.filter((issue) => {
    const key = JSON.stringify([issue.path, issue.code]);
    const fresh = !seen.has(key);
    seen.add(key);
    return fresh;
  });
}

/**
 * Multi-line report for a terminal or log: a headline with the count, then one bullet per problem, cut off after a limit.
 *
 * @param limit - how many problems to spell out
 */
export function summarize(issues: readonly Issue[], limit = 10): string {
  const count = issues.length;
  const lines = [count === 0 ? 'no problems' : `${count} problem${count === 1 ? '' : 's'}:`];
  for (const { path, message } of issues.slice(0, limit)) {
    lines.push(`  - ${formatPath(path) || '(root)'}: ${message}`);
  }
  if (count > limit) {
    lines.push(`  … and ${count - limit} more`);
  }
  return lines.join('\n');
}

/**
 * Replaces messages by translated ones looked up by code, filling placeholders such as `{path}`.
 * Codes without a translation keep their original wording.
 *
 * @param catalog - templates by code
 */
export function translateIssues(issues: readonly Issue[], catalog: Readonly<Record<string, string>>): Issue[] {
  return issues.map((issue) => {
    const template = Object.hasOwn(catalog, issue.code) ? catalog[issue.code] : undefined;
    if (template === undefined) return issue;
    const message = template.replaceAll('{path}', () => formatPath(issue.path)).replaceAll('{message}', () => issue.message);
    return { ...issue, message };
  });
}

/** Orders problems by where they occur, parents before children and array indices numerically, leaving the original list alone. */
export function sortIssues(issues: readonly Issue[]): Issue[] {
  return [...issues].sort((p, q) => {
    const shared = Math.min(p.path.length, q.path.length);
    for (let i = 0; i < shared; i++) {
      const order = compareKeys(p.path[i]!, q.path[i]!);
      if (order !== 0) return order;
    }
    return p.path.length - q.path.length;
  });
}

function compareKeys(a: string | number, b: string | number): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [left, right] = [String(a), String(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Short type description of any value for use in "expected X, got Y" messages, telling null, arrays, NaN and class names apart. */
export function describeType(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `array of ${value.length}`;
  if (typeof value === 'number' && Number.isNaN(value)) return 'NaN';
  if (typeof value !== 'object') return typeof value;
  const name: unknown = value.constructor?.name;
  return typeof name === 'string' && name !== 'Object' ? name : 'object';
}

/**
 * Joins alternatives into readable English with commas and a final "or", such as `"a", "b" or "c"`.
 *
 * @example
 * listAlternatives(['a', 'b']); // '"a" or "b"'
 */
export function listAlternatives(items: readonly unknown[]): string {
  const quoted = items.map((item) => JSON.stringify(item) ?? String(item));
  if (quoted.length < 2) {
    return quoted.join('');
  }
  return `${quoted.slice(0, -1).join(', ')} or ${quoted[quoted.length - 1]}`;
}

/** Runs asynchronous checks side by side, e.g. for a user name already taken, and returns the issues of all in the order of the checks. */
export async function runChecks<T>(value: T, checks: readonly ((value: T) => Promise<Issue | undefined>)[]): Promise<Issue[]> {
  const pending = checks.map((check) => check(value));
  const outcomes = await Promise.all(pending);
  return outcomes.filter((issue): issue is Issue => issue !== undefined);
}

/** Exception that carries the complete list of what is wrong with an input. */
export class ValidationError extends Error {
  constructor(readonly issues: readonly Issue[]) {
    super(summarize(issues));
    this.name = 'ValidationError';
  }

  /** Plain representation for the body of a 422 response, with JSON Pointers in place of paths. */
  toJSON(): { errors: { pointer: string; code: string; detail: string }[] } {
    const errors = this.issues.map(({ path, code, message }) => {
      return { pointer: toJsonPointer(path), code, detail: message };
    });
    return { errors };
  }
}
