/**
 * Removes repeated values and keeps the first occurrence of each, judging sameness by a derived key.
 *
 * @param keyOf What makes two items equal; the item itself if left out.
 */
export function uniqueBy<T>(items: Iterable<T>, keyOf: (item: T) => unknown = (item) => item): T[] {
  const seen = new Set<unknown>();
  const unique: T[] = [];
  for (const item of items) {
    const key = keyOf(item);
    if (seen.has(key)) continue;
    seen.add(key);
    unique.push(item);
  }
  return unique;
}

/**
 * Everything that is a member of at least one of the collections, each member once.
 */
export function union<T>(...collections: Iterable<T>[]): Set<T> {
  const all = new Set<T>();
  for (const collection of collections) {
    for (const item of collection) all.add(item);
  }
  return all;
}

/**
 * Keeps only the members that all collections agree on.
 */
export function intersection<T>(first: Iterable<T>, ...others: Iterable<T>[]): Set<T> {
  const sets = others.map((other) => new Set(other));
  return new Set([...first].filter((item) => sets.every((set) => set.has(item))));
}

/**
 * What is left of the first collection once the members of the second are taken away.
 */
export function difference<T>(from: Iterable<T>, remove: Iterable<T>): Set<T> {
  const left = new Set(from);
  for (const item of remove) left.delete(item);
  return left;
}

/**
 * Members of exactly one of the two sets, that is, where they disagree.
 */
export function symmetricDifference<T>(a: Iterable<T>, b: Iterable<T>): Set<T> {
  const result = new Set(a);
  for (const item of new Set(b)) {
    if (!result.delete(item)) result.add(item);
  }
  return result;
}

/**
 * Checks whether one set is wholly contained in another; a set counts as contained in itself.
 */
export const isSubset = <T>(inner: ReadonlySet<T>, outer: ReadonlySet<T>): boolean =>
  inner.size <= outer.size && [...inner].every((item) => outer.has(item));

/**
 * True when two sets have no member in common. Walks through the smaller one, so it is quick against a huge set.
 */
export function areDisjoint<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): boolean {
  const [small, large] = a.size <= b.size ? [a, b] : [b, a];
  for (const item of small) {
    if (large.has(item)) return false;
  }
  return true;
}

/**
 * Overlap of two sets as a fraction of their union, from 0 to 1: the Jaccard index. Two empty sets are taken to be identical.
 */
export function jaccardIndex<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): number {
  let shared = 0;
  for (const item of a) {
    if (b.has(item)) shared += 1;
  }
  const total = a.size + b.size - shared;
  return total === 0 ? 1 : shared / total;
}

/**
 * Enumerates all subsets, from the empty one to the full list, 2ⁿ in total, by counting through bit masks.
 */
export function* powerSet<T>(items: readonly T[]): Generator<T[]> {
  if (items.length > 30) throw new RangeError('too many items for a power set');
  for (let mask = 0; mask < 2 ** items.length; mask += 1) {
    yield items.filter((_, i) => (mask >> i) & 1);
  }
}

/**
 * Every way to choose `size` elements where order does not matter, in lexicographic order of their positions.
 */
export function* combinations<T>(items: readonly T[], size: number): Generator<T[]> {
  if (size === 0) {
    yield [];
    return;
  }
  for (let i = 0; i + size <= items.length; i += 1) {
    for (const rest of combinations(items.slice(i + 1), size - 1)) yield [items[i]!, ...rest];
  }
}

/**
 * Goes through all n! arrangements of the elements.
 */
export function* permutations<T>(items: readonly T[]): Generator<T[]> {
  if (items.length === 0) yield [];
  for (const [i, item] of items.entries()) {
    const others = [...items.slice(0, i), ...items.slice(i + 1)];
    for (const rest of permutations(others)) yield [item, ...rest];
  }
}

/**
 * All tuples with one element from each list, the last list varying fastest, as nested loops would produce them.
 *
 * @returns A single empty tuple when no lists are given, and nothing when one of them is empty.
 */
export function cartesianProduct<T>(...lists: (readonly T[])[]): T[][] {
  return lists.reduce<T[][]>((tuples, list) => tuples.flatMap((tuple) => list.map((item) => [...tuple, item])), [[]]);
}

/** What has to be done to bring one collection in line with another. */
export interface Changes<T> {
  added: T[];
  removed: T[];
  kept: T[];
}

/**
 * Compares an old and a new list of records by key and sorts out which ones appeared, vanished or stayed. Kept records are the new versions.
 */
export function diffByKey<T>(before: readonly T[], after: readonly T[], keyOf: (item: T) => unknown): Changes<T> {
  const oldKeys = new Set(before.map(keyOf));
  const newKeys = new Set(after.map(keyOf));
  return {
    added: after.filter((item) => !oldKeys.has(keyOf(item))),
    removed: before.filter((item) => !newKeys.has(keyOf(item))),
    kept: after.filter((item) => oldKeys.has(keyOf(item))),
  };
}
