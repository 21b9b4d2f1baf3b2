/** Negative if `a` comes first, positive if `b` does, zero if they tie. */
export type Comparator<T> = (a: T, b: T) => number;

/**
 * Makes a comparator for `sort` from a function that extracts the value to order by, with strings compared by code unit and numbers by size.
 */
export function comparing<T>(keyOf: (item: T) => string | number | bigint): Comparator<T> {
  return (a, b) => {
    const left = keyOf(a);
    const right = keyOf(b);
    return left < right ? -1 : left > right ? 1 : 0;
  };
}

/**
 * Turns an ordering around, for descending lists.
 */
export const reversed = <T>(compare: Comparator<T>): Comparator<T> => (a, b) => compare(b, a);

/**
 * Chains orderings: the second one is consulted only for ties of the first, and so on, as in sorting by surname and then by given name.
 */
export function thenBy<T>(...comparators: Comparator<T>[]): Comparator<T> {
  return (a, b) => {
    for (const compare of comparators) {
      const order = compare(a, b);
      if (order !== 0) return order;
    }
    return 0;
  };
}

/**
 * Wraps an ordering so that null and undefined are tolerated and end up behind all real values.
 */
export function nullsLast<T>(compare: Comparator<T>): Comparator<T | null | undefined> {
  return (a, b) => {
    const aMissing = a === null || a === undefined;
    const bMissing = b === null || b === undefined;
    if (aMissing || bMissing) return Number(aMissing) - Number(bMissing);
    return compare(a, b);
  };
}

/**
 * Natural order for file names: runs of digits are compared as numbers, so `img9` comes before `img10`.
 */
export function compareNatural(a: string, b: string): number {
  const left = a.match(/\d+|\D+/g) ?? [];
  const right = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.min(left.length, right.length); i += 1) {
    const [x, y] = [left[i]!, right[i]!];
    const bothNumbers = /^\d/.test(x) && /^\d/.test(y);
    const numeric = bothNumbers ? Number(x) - Number(y) : 0;
    if (numeric !== 0) return numeric;
    if (!bothNumbers && x !== y) return x < y ? -1 : 1;
  }
  return left.length - right.length;
}

/**
 * Binary search for the first place in a sorted array where an element could be inserted without upsetting the order, before any equal ones.
 *
 * @returns An index between 0 and the length of the array.
 */
export function lowerBound<T>(sorted: readonly T[], target: T, compare: Comparator<T>): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compare(sorted[middle]!, target) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Puts a new element into an already sorted array, in place, behind those that compare equal to it.
 */
export function insertSorted<T>(sorted: T[], item: T, compare: Comparator<T>): void {
  let index = sorted.length;
  while (index > 0 && compare(sorted[index - 1]!, item) > 0) index -= 1;
  sorted.splice(index, 0, item);
}

/**
 * Merges two lists that are each in order into one ordered list in a single linear pass. On a tie the left one goes first, which keeps the merge stable.
 */
export function mergeSorted<T>(left: readonly T[], right: readonly T[], compare: Comparator<T>): T[] {
  const merged: T[] = [];
  let i = 0;
  let j = 0;
  while (i < left.length && j < right.length) {
    if (compare(left[i]!, right[j]!) <= 0) merged.push(left[i++]!);
    else merged.push(right[j++]!);
  }
  return merged.concat(left.slice(i), right.slice(j));
}

/**
 * Verifies that no element comes before its predecessor under the given ordering.
 */
export function isSorted<T>(items: readonly T[], compare: Comparator<T>): boolean {
  return items.every((item, i) => i === 0 || compare(items[i - 1]!, item) <= 0);
}

/**
 * Picks the `count` best elements in order without sorting the whole input, holding no more than that many at a time.
 */
export function topK<T>(items: Iterable<T>, count: number, compare: Comparator<T>): T[] {
  const best: T[] = [];
  for (const item of items) {
    const last = best[best.length - 1];
    if (best.length >= count && (last === undefined || compare(item, last) >= 0)) continue;
    insertSorted(best, item, compare);
    if (best.length > count) best.pop();
  }
  return best;
}

/**
 * Rearranges the array so that the element of rank `k` is the one a full sort would put there, and returns it: Hoare's quickselect.
 *
 * @param items Reordered in place.
 * @param k A zero-based rank, for instance half the length for the median.
 */
export function quickSelect<T>(items: T[], k: number, compare: Comparator<T>): T {
  if (k < 0 || k >= items.length) throw new RangeError('rank out of range');
  let low = 0;
  let high = items.length - 1;
  while (low < high) {
    const pivot = items[(low + high) >>> 1]!;
    let [i, j] = [low, high];
    while (i <= j) {
      while (compare(items[i]!, pivot) < 0) i += 1;
      while (compare(items[j]!, pivot) > 0) j -= 1;
      if (i <= j) [items[i++], items[j--]] = [items[j]!, items[i]!];
    }
    if (k <= j) high = j;
    else if (k >= i) low = i;
    else break;
  }
  return items[k]!;
}

/**
 * Assigns competition ranks starting at 1: equal elements get the same place and the next place is skipped, as at a race.
 *
 * @returns The rank of each element, in the order of the input.
 */
export function rankOf<T>(items: readonly T[], compare: Comparator<T>): number[] {
  const sorted = [...items].sort(compare);
  return items.map((item) => lowerBound(sorted, item, compare) + 1);
}

/**
 * Orders tasks so that each comes after everything it depends on. Throws when the dependencies form a cycle.
 *
 * @param dependenciesOf The tasks that have to be done before a given one.
 */
export function topologicalSort<T>(tasks: Iterable<T>, dependenciesOf: (task: T) => Iterable<T>): T[] {
  const done = new Set<T>();
  const active = new Set<T>();
  const visit = (task: T): void => {
    if (done.has(task)) return;
    if (active.has(task)) throw new Error(`dependency cycle at ${String(task)}`);
    active.add(task);
    for (const dependency of dependenciesOf(task)) visit(dependency);
    active.delete(task);
    done.add(task);
  };
  for (const task of tasks) visit(task);
  return [...done];
}
