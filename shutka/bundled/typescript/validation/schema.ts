import { type Issue, type Path } from './report';

/** Outcome of checking a value: either the typed value or the list of what is wrong with it. */
export type Result<T> = { ok: true; value: T } | { ok: false; issues: Issue[] };

/** A reusable check that turns unknown input into a typed value. */
export interface Schema<T> {
  parse(input: unknown, path?: Path): Result<T>;
}

/** The static type that a schema accepts. */
export type Infer<S> = S extends Schema<infer T> ? T : never;

function fail(path: Path, code: string, message: string): { ok: false; issues: Issue[] } {
  return { ok: false, issues: [{ path, code, message }] };
}

/**
 * Accepts text whose length lies within the given limits.
 *
 * @param limits - least and greatest number of UTF-16 units; both optional
 */
export function string(limits: { min?: number; max?: number } = {}): Schema<string> {
  const { min = 0, max = Infinity } = limits;
  return {
    parse(input, path = []) {
      if (typeof input !== 'string') return fail(path, 'type', 'expected a string');
      if (input.length < min) return fail(path, 'too_short', `needs at least ${min} characters`);
      if (input.length > max) return fail(path, 'too_long', `allows at most ${max} characters`);
      return { ok: true, value: input };
    },
  };
}

/** Accepts finite numbers in a range, optionally whole ones only. NaN, infinities and numeric strings are turned down. */
export function number(rules: { min?: number; max?: number; integer?: boolean } = {}): Schema<number> {
  const { min = -Infinity, max = Infinity, integer = false } = rules;
  return {
    parse(input, path = []) {
      if (typeof input !== 'number' || !Number.isFinite(input)) return fail(path, 'type', 'expected a finite number');
      if (integer && !Number.isInteger(input)) return fail(path, 'integer', 'expected a whole number');
      if (input < min || input > max) return fail(path, 'range', `must be between ${min} and ${max}`);
      return { ok: true, value: input };
    },
  };
}

/** Accepts exactly the listed constants, such as the members of a union of string literals, and nothing else. */
export function literal<const T extends string | number | boolean | null>(...allowed: readonly T[]): Schema<T> {
  return {
    parse(input, path = []) {
      const match = allowed.find((candidate) => Object.is(candidate, input));
      if (match === undefined) {
        return fail(path, 'literal', `must be one of ${allowed.map((a) => JSON.stringify(a)).join(', ')}`);
      }
      return { ok: true, value: match };
    },
  };
}

/** Checks every element of a list against one schema and collects the problems of all of them, each under its index. */
export function array<T>(element: Schema<T>): Schema<T[]> {
  return {
    parse(input, path = []) {
      if (!Array.isArray(input)) return fail(path, 'type', 'expected an array');
      const value: T[] = [];
      const issues: Issue[] = [];
      for (const [i, item] of input.entries()) {
        const result = element.parse(item, [...path, i]);
        if (result.ok) value.push(result.value);
        else issues.push(...result.issues);
      }
      return issues.length > 0 ? { ok: false, issues } : { ok: true, value };
    },
  };
}

/**
 * Describes a record with a fixed set of fields, each with a schema of its own. Unknown fields are silently left out of the result.
 *
 * @example
 * object({ name: string({ min: 1 }), age: number({ integer: true }) });
 */
export function object<F extends Record<string, Schema<unknown>>>(fields: F): Schema<{ [K in keyof F]: Infer<F[K]> }> {
  return {
    parse(input, path = []) {
      if (typeof input !== 'object' || input === null || Array.isArray(input)) return fail(path, 'type', 'expected an object');
      const entries: [string, unknown][] = [];
      const issues: Issue[] = [];
      for (const [key, schema] of Object.entries(fields)) {
        const raw = Object.hasOwn(input, key) ? (input as Record<string, unknown>)[key] : undefined;
        const result = schema.parse(raw, [...path, key]);
        if (result.ok) entries.push([key, result.value]);
        else issues.push(...result.issues);
      }
      const value = Object.fromEntries(entries) as { [K in keyof F]: Infer<F[K]> };
      return issues.length > 0 ? { ok: false, issues } : { ok: true, value };
    },
  };
}

/** Lets a value be missing: undefined passes, anything present has to satisfy the inner schema. */
export function optional<T>(inner: Schema<T>): Schema<T | undefined> {
  return {
    parse(input, path = []) {
      return input === undefined ? { ok: true, value: undefined } : inner.parse(input, path);
    },
  };
}

/** Fills in a default where the input is undefined. The default comes from a function so that mutable values are not shared. */
export function withDefault<T>(inner: Schema<T>, fallback: () => T): Schema<T> {
  return {
    parse(input, path = []) {
      if (input === undefined) return { ok: true, value: fallback() };
      return inner.parse(input, path);
    },
  };
}

/**
 * Tries several alternatives in order and takes the first that fits. If none does, the complaints of all are reported together.
 *
 * @param options - the alternatives, most specific first
 */
export function union<T extends readonly Schema<unknown>[]>(...options: T): Schema<Infer<T[number]>> {
  return {
    parse(input, path = []) {
      const issues: Issue[] = [];
      for (const option of options) {
        const result = option.parse(input, path);
        if (result.ok) return { ok: true, value: result.value as Infer<T[number]> };
        issues.push(...result.issues);
      }
      return { ok: false, issues };
    },
  };
}

/**
 * Adds a custom condition on top of a schema, for rules that no type can express, like an end date after the start date.
 *
 * @param holds - receives the already typed value
 * @param message - shown when the condition is violated
 */
export const refine = <T>(inner: Schema<T>, holds: (value: T) => boolean, message: string): Schema<T> => ({
  parse(input, path = []) {
    const result = inner.parse(input, path);
    if (!result.ok || holds(result.value)) return result;
    return fail(path, 'custom', message);
  },
});

/** Converts the value after it has been validated, e.g. an ISO string into a Date; an exception thrown by the conversion becomes an issue. */
export function transform<T, U>(inner: Schema<T>, convert: (value: T) => U): Schema<U> {
  return {
    parse(input, path = []) {
      const result = inner.parse(input, path);
      if (!result.ok) return result;
      try {
        return { ok: true, value: convert(result.value) };
      } catch (error) {
        return fail(path, 'transform', error instanceof Error ? error.message : String(error));
      }
    },
  };
}

/** Postpones building a schema until it is first used, which allows trees and other definitions that refer to themselves. */
export function lazy<T>(build: () => Schema<T>): Schema<T> {
  let built: Schema<T> | undefined;
  return {
    parse(input, path = []) {
      built ??= build();
      return built.parse(input, path);
    },
  };
}

/** Dictionary with arbitrary keys whose values all follow one schema, optionally restricting the keys by a pattern. */
export function record<T>(values: Schema<T>, keyPattern?: RegExp): Schema<Record<string, T>> {
  return {
    parse(input, path = []) {
      if (typeof input !== 'object' || input === null || Array.isArray(input)) return fail(path, 'type', 'expected an object');
      const entries: [string, T][] = [];
      const issues: Issue[] = [];
      for (const [key, raw] of Object.entries(input)) {
        if (keyPattern && key.search(keyPattern) < 0) issues.push({ path: [...path, key], code: 'key', message: 'key is not allowed' });
        const result = values.parse(raw, [...path, key]);
        if (result.ok) entries.push([key, result.value]);
        else issues.push(...result.issues);
      }
      return issues.length > 0 ? { ok: false, issues } : { ok: true, value: Object.fromEntries(entries) };
    },
  };
}
