/** Derives a value from a state tree. */
export type Selector<S, T> = (state: S) => T;

/**
 * Compares two objects one level deep: the same keys, each with an identical value. Good enough for props and selector inputs.
 */
export function shallowEqual(a: object, b: object): boolean {
  if (a === b) return true;
  const left = Object.entries(a);
  if (left.length !== Object.keys(b).length) return false;
  const other = b as Record<string, unknown>;
  return left.every(([key, value]) => Object.hasOwn(b, key) && Object.is(value, other[key]));
}

/** Remembers only the latest call, recomputing when any argument is no longer identical to the one of last time. */
export function memoizeLast<A extends unknown[], R>(fn: (...args: A) => R): (...args: A) => R {
  let last: { args: A; result: R } | undefined;
  return (...args) => {
    const hit = last && last.args.length === args.length && args.every((arg, i) => Object.is(arg, last?.args[i]));
    if (!last || !hit) last = { args, result: fn(...args) };
    return last.result;
  };
}

/**
 * Builds a derived selector from input selectors: the combiner runs again only if one of the inputs produced a new value.
 * @example
 * const total = createSelector([items, rate], (list, r) => list.length * r);
 */
export function createSelector<S, I extends unknown[], R>(
  inputs: { [K in keyof I]: Selector<S, I[K]> },
  combine: (...values: I) => R,
): Selector<S, R> & { recomputations(): number } {
  let count = 0;
  const compute = memoizeLast((...values: I): R => {
    count++;
    return combine(...values);
  });
  const select = (state: S): R => compute(...(inputs.map((input) => input(state)) as I));
  return Object.assign(select, { recomputations: () => count });
}

/** Caches results by a string key made from the arguments, without bound; for cheap keys and a small range of inputs. */
export function memoizeBy<A extends unknown[], R>(fn: (...args: A) => R, keyOf: (...args: A) => string): (...args: A) => R {
  const cache = new Map<string, R>();
  return (...args) => {
    const key = keyOf(...args);
    if (cache.has(key)) return cache.get(key) as R;
    const result = fn(...args);
    cache.set(key, result);
    return result;
  };
}

/** Memoizes a function of one object in a WeakMap, so that the result is collected together with the object it belongs to. */
export const memoizeWeak = <K extends object, R>(fn: (key: K) => R): ((key: K) => R) => {
  const cache = new WeakMap<K, { result: R }>();
  return (key) => {
    let entry = cache.get(key);
    if (!entry) cache.set(key, (entry = { result: fn(key) }));
    return entry.result;
  };
};

/** Keeps the reference of an earlier result for as long as new results are equal to it, which spares views a pointless rerender. */
export function stabilize<S, T>(select: Selector<S, T>, equals: (a: T, b: T) => boolean): Selector<S, T> {
  let held: { value: T } | undefined;
  return (state) => {
    const value = select(state);
    if (!held || !equals(held.value, value)) held = { value };
    return held.value;
  };
}

/** Shares the promise of an asynchronous call among all who ask for the same key while it is under way; nothing is kept afterwards. */
export function dedupeInFlight<K, R>(fetchOne: (key: K) => Promise<R>): (key: K) => Promise<R> {
  const flying = new Map<K, Promise<R>>();
  return (key) => {
    const existing = flying.get(key);
    if (existing) return existing;
    const promise = fetchOne(key).finally(() => flying.delete(key));
    flying.set(key, promise);
    return promise;
  };
}

/** Gives each key its own private instance of a selector, so that list rows with different props do not evict one another's memo. */
export function selectorFamily<K, S, T>(make: (key: K) => Selector<S, T>): (key: K) => Selector<S, T> {
  const members = new Map<K, Selector<S, T>>();
  return (key) => {
    let member = members.get(key);
    if (!member) members.set(key, (member = make(key)));
    return member;
  };
}

/**
 * Reads a value deep inside a tree by a dotted path and substitutes the default if any step along the way is missing.
 * @param path for example `user.address.city` or `items.0.name`
 */
export function selectPath<T>(state: unknown, path: string, fallback: T): T {
  let node: unknown = state;
  for (const step of path.split('.')) {
    if (typeof node !== 'object' || node === null || !Object.hasOwn(node, step)) return fallback;
    node = (node as Record<string, unknown>)[step];
  }
  return node === undefined ? fallback : (node as T);
}

/** Makes a copy of a nested object with one location replaced, sharing every branch that the path does not touch. */
export function updateIn<S extends object>(state: S, path: ReadonlyArray<string | number>, update: (old: unknown) => unknown): S {
  const walk = (node: unknown, depth: number): unknown => {
    const key = path[depth];
    if (key === undefined) return update(node);
    const copy: Record<string | number, unknown> = (Array.isArray(node) ? [...node] : { ...(node as object) }) as never;
    const child = walk(copy[key], depth + 1);
    if (Object.is(child, copy[key])) return node;
    copy[key] = child;
    return copy;
  };
  return walk(state, 0) as S;
}

/** Lists the top-level fields in which two states differ, useful for logging what an action has changed. */
export function changedKeys<S extends object>(before: S, after: S): Array<keyof S> {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)] as Array<keyof S>);
  return [...keys].filter((key) => !Object.is(before[key], after[key]));
}

/** Narrows a selector's view: first goes to a slice of the state, then applies a selector written for that slice alone. */
export function focus<S, T, R>(toSlice: Selector<S, T>, select: Selector<T, R>): Selector<S, R> {
  return (state) => select(toSlice(state));
}
