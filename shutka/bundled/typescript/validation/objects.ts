/** Any object seen as a dictionary with unknown values. */
export type Dictionary = Record<string, unknown>;

/** Distinguishes plain data objects, made by a literal or by JSON, from arrays, dates and instances of classes. */
export function isPlainObject(value: unknown): value is Dictionary {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/**
 * Names the required properties that are absent, or present but null, undefined or blank text, so that a form can mark them.
 *
 * @param required - property names in the order to report them
 */
export function missingFields(subject: Dictionary, required: readonly string[]): string[] {
  return required.filter((name) => {
    const value = subject[name];
    return value === undefined || value === null || (typeof value === 'string' && value.trim() === '');
  });
}

/** Properties that are not on the allowlist, typically misspelled options that would otherwise be ignored without a word. */
export function unknownKeys(subject: object, allowed: Iterable<string>): string[] {
  const known = new Set(allowed);
  const present = Object.keys(subject);
  return present.filter((key) => !known.has(key));
}

/**
 * For a misspelled property, suggests the known name that needs the fewest edits, unless even that is too far off to be meant.
 *
 * @param maxEdits - insertions, deletions and replacements tolerated
 */
export function suggestKey(wrong: string, known: readonly string[], maxEdits = 2): string | undefined {
  let best: string | undefined;
  let fewest = maxEdits + 1;
  for (const candidate of known) {
    const edits = editDistance(wrong.toLowerCase(), candidate.toLowerCase());
    if (edits < fewest) {
      fewest = edits;
      best = candidate;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/**
 * Enforces that exactly one of several mutually exclusive options is given and returns its name.
 * Throws when there is none or more than one.
 */
export function exactlyOne<K extends string>(subject: Partial<Record<K, unknown>>, options: readonly K[]): K {
  const given = options.filter((key) => subject[key] !== undefined);
  if (given.length !== 1) {
    const found = given.length === 0 ? 'none' : given.join(' and ');
    throw new TypeError(`give exactly one of ${options.join(', ')}; found ${found}`);
  }
  return given[0]!;
}

/** Settings that make no sense without another one: for every rule whose trigger is set but whose companions are not, reports the gap. */
export function unmetDependencies(subject: Dictionary, rules: Readonly<Record<string, readonly string[]>>): { key: string; needs: string }[] {
  const gaps: { key: string; needs: string }[] = [];
  for (const [key, companions] of Object.entries(rules)) {
    if (subject[key] === undefined) continue;
    for (const needs of companions) {
      if (subject[needs] === undefined) gaps.push({ key, needs });
    }
  }
  return gaps;
}

/** Narrows an unknown value to an object that has a certain own property, after which TypeScript lets one read it. */
export function hasProperty<K extends PropertyKey>(value: unknown, key: K): value is Record<K, unknown> {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  return Object.hasOwn(value, key);
}

/**
 * Builds a type guard for objects of a given shape out of guards for the single properties.
 *
 * @example
 * const isPoint = shape({ x: isNumber, y: isNumber });
 */
export function shape<T extends object>(guards: { [K in keyof T]-?: (value: unknown) => value is T[K] }): (value: unknown) => value is T {
  const keys = Object.keys(guards) as (keyof T & string)[];
  return (value): value is T => {
    if (typeof value !== 'object' || value === null) return false;
    const candidate = value as { [K in keyof T]?: unknown };
    return keys.every((key) => guards[key](candidate[key]));
  };
}

/** Guards against hostile input by measuring how deeply arrays and objects are nested; a scalar has depth zero. Cyclic references count as infinite. */
export function nestingDepth(value: unknown, ancestors: ReadonlySet<object> = new Set()): number {
  if (typeof value !== 'object' || value === null) {
    return 0;
  }
  if (ancestors.has(value)) {
    return Infinity;
  }
  const trail = new Set(ancestors).add(value);
  return 1 + Object.values(value).reduce((deepest: number, child) => Math.max(deepest, nestingDepth(child, trail)), 0);
}

/** Finds the first thing that JSON could not represent faithfully, such as a function, a NaN or a Date, and tells the dotted path to it. Cycles have to be ruled out beforehand. */
export function findNonJson(value: unknown, path = '$'): string | undefined {
  if (value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)) {
    return undefined;
  }
  if (!Array.isArray(value) && !isPlainObject(value)) {
    return path;
  }
  for (const [key, child] of Object.entries(value)) {
    const found = findNonJson(child, `${path}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Removes keys like `__proto__` that could pollute prototypes when untrusted JSON is merged into other objects later on. Works on all levels and returns a copy.
 */
export function stripDangerousKeys(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(stripDangerousKeys);
  }
  if (!isPlainObject(value)) {
    return value;
  }
  const dangerous = new Set(['__proto__', 'constructor', 'prototype']);
  const safe = Object.entries(value).filter(([key]) => !dangerous.has(key));
  return Object.fromEntries(safe.map(([key, child]) => [key, stripDangerousKeys(child)]));
}

/** Values of a property that occur in more than one record, the check one runs before relying on an identifier being unique. */
export function duplicateValues<T, K extends keyof T>(records: Iterable<T>, key: K): Set<T[K]> {
  const seen = new Set<T[K]>();
  const repeated = new Set<T[K]>();
  for (const record of records) {
    const value = record[key];
    if (seen.has(value)) repeated.add(value);
    seen.add(value);
  }
  return repeated;
}

/**
 * Asserts that a value is neither null nor undefined, with a message naming what was expected, and hands it on with the narrower type.
 *
 * @param name - how to call the value in the error message
 */
export const required = <T>(value: T, name: string): NonNullable<T> => {
  if (value === null || value === undefined) {
    throw new TypeError(`${name} is required`);
  }
  return value;
};
