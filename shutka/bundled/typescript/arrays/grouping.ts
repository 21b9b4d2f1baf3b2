/**
 * Collects the items that share a key into a map of lists. Groups keep the order in which their keys first came up.
 *
 * @param keyOf Computes the key of an item; any value works, compared as `Map` compares.
 */
export function groupBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

/**
 * Builds a lookup table from a list of records with a unique key. A second record with the same key is an error rather than a silent overwrite.
 *
 * @throws Error naming the duplicate key.
 */
export function indexBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, T> {
  const index = new Map<K, T>();
  for (const item of items) {
    const key = keyOf(item);
    if (index.has(key)) throw new Error(`duplicate key: ${String(key)}`);
    index.set(key, item);
  }
  return index;
}

/**
 * Tells how many items fall under each key, like a histogram over categories.
 */
export function countBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, number> {
  const counts = new Map<K, number>();
  for (const item of items) {
    const key = keyOf(item);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

/**
 * Separates a list in two by a test: first those that pass, then those that fail, both in their original order.
 */
export function partition<T>(items: Iterable<T>, passes: (item: T) => boolean): [T[], T[]] {
  const yes: T[] = [];
  const no: T[] = [];
  for (const item of items) (passes(item) ? yes : no).push(item);
  return [yes, no];
}

/**
 * Cuts an array into consecutive batches of a fixed size, for sending records to a service a hundred at a time. The final batch may be smaller.
 */
export function chunk<T>(items: readonly T[], size: number): T[][] {
  if (!Number.isInteger(size) || size < 1) throw new RangeError('chunk size must be a positive integer');
  const chunks: T[][] = [];
  for (let start = 0; start < items.length; start += size) {
    chunks.push(items.slice(start, start + size));
  }
  return chunks;
}

/**
 * Starts a new segment wherever two neighbouring elements do not belong together, as when log lines are split at long pauses.
 *
 * @param together Decides from an element and its successor whether they stay in one segment.
 */
export function splitBetween<T>(items: Iterable<T>, together: (left: T, right: T) => boolean): T[][] {
  const segments: T[][] = [];
  let segment: T[] = [];
  for (const item of items) {
    if (segment.length > 0 && !together(segment[segment.length - 1]!, item)) {
      segments.push(segment);
      segment = [];
    }
    segment.push(item);
  }
  if (segment.length > 0) segments.push(segment);
  return segments;
}

/** A value and how many times in a row it was seen. */
export interface Run<T> {
  value: T;
  length: number;
}

/**
 * Compresses repeated neighbours into value and length pairs, the classic run-length encoding.
 */
export function encodeRuns<T>(items: Iterable<T>): Run<T>[] {
  const runs: Run<T>[] = [];
  for (const value of items) {
    const last = runs[runs.length - 1];
    if (last && Object.is(last.value, value)) last.length += 1;
    else runs.push({ value, length: 1 });
  }
  return runs;
}

/**
 * Expands run-length pairs back to the full sequence.
 */
export const decodeRuns = <T>(runs: readonly Run<T>[]): T[] =>
  runs.flatMap(({ value, length }) => new Array<T>(length).fill(value));

/**
 * Adds up a number per group, for example the revenue of each region, without building the groups themselves.
 */
export function sumBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K, amountOf: (item: T) => number): Map<K, number> {
  const totals = new Map<K, number>();
  for (const item of items) {
    const key = keyOf(item);
    totals.set(key, (totals.get(key) ?? 0) + amountOf(item));
  }
  return totals;
}

/**
 * Folds every group down to one accumulated value in a single pass.
 *
 * @param initial Makes the starting value of a fresh group.
 * @param step Merges one more item into the value of its group.
 */
export function reduceBy<T, K, A>(
  items: Iterable<T>,
  keyOf: (item: T) => K,
  initial: (key: K) => A,
  step: (accumulated: A, item: T) => A,
): Map<K, A> {
  const results = new Map<K, A>();
  for (const item of items) {
    const key = keyOf(item);
    const before = results.has(key) ? results.get(key)! : initial(key);
    results.set(key, step(before, item));
  }
  return results;
}

/**
 * Deals the elements out over a number of hands in turn, like cards, so that all parts differ in size by one at most.
 */
export function deal<T>(items: readonly T[], hands: number): T[][] {
  const parts: T[][] = Array.from({ length: hands }, () => []);
  items.forEach((item, i) => parts[i % hands]!.push(item));
  return parts;
}

/** A record placed under its parent, with the children found for it. */
export interface TreeNode<T> {
  item: T;
  children: TreeNode<T>[];
}

/**
 * Nests a flat table of rows that point to their parents into trees. Rows whose parent is absent become roots.
 */
export function buildTree<T, K>(
  rows: readonly T[],
  idOf: (row: T) => K,
  parentOf: (row: T) => K | null,
): TreeNode<T>[] {
  const nodes = new Map(rows.map((item): [K, TreeNode<T>] => [idOf(item), { item, children: [] }]));
  const roots: TreeNode<T>[] = [];
  for (const node of nodes.values()) {
    const parentId = parentOf(node.item);
    const parent = parentId === null ? undefined : nodes.get(parentId);
    (parent ? parent.children : roots).push(node);
  }
  return roots;
}
