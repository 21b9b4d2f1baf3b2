/** A node of a persistent binary search tree; smaller keys hang to the left, larger ones to the right. */
export interface SearchNode<K, V> {
  readonly key: K;
  readonly value: V;
  readonly left: SearchTree<K, V>;
  readonly right: SearchTree<K, V>;
}

/** A search tree, possibly empty. Operations never change one but return a new tree that shares most of its nodes with the old. */
export type SearchTree<K, V> = SearchNode<K, V> | undefined;

/** Orders two keys: negative when the first comes earlier, zero when they count as the same. */
export type Compare<K> = (a: K, b: K) => number;

/** Orders numbers, strings or dates by the built-in less-than operator. */
export const ascending = <K extends number | string | bigint | Date>(a: K, b: K): number => (a < b ? -1 : a > b ? 1 : 0);

/** Stores a value under a key, replacing the one already there, and returns the new root; only the nodes along the search path are copied. */
export function insert<K, V>(tree: SearchTree<K, V>, key: K, value: V, compare: Compare<K>): SearchNode<K, V> {
  if (!tree) return { key, value, left: undefined, right: undefined };
  const order = compare(key, tree.key);
  if (order < 0) return { ...tree, left: insert(tree.left, key, value, compare) };
  if (order > 0) return { ...tree, right: insert(tree.right, key, value, compare) };
  return { ...tree, key, value };
}

/** Retrieves the node holding a key by descending left or right, or `undefined` when the key is absent. */
export function find<K, V>(tree: SearchTree<K, V>, key: K, compare: Compare<K>): SearchTree<K, V> {
  let node = tree;
  while (node) {
    const order = compare(key, node.key);
    if (order === 0) return node;
    node = order < 0 ? node.left : node.right;
  }
  return undefined;
}

/**
 * Deletes a key. A node with two children is replaced by its in-order successor, the smallest entry on its right.
 *
 * @returns the tree without the key, unchanged in content if it was not there
 */
export function remove<K, V>(tree: SearchTree<K, V>, key: K, compare: Compare<K>): SearchTree<K, V> {
  if (!tree) return undefined;
  const order = compare(key, tree.key);
  if (order < 0) return { ...tree, left: remove(tree.left, key, compare) };
  if (order > 0) return { ...tree, right: remove(tree.right, key, compare) };
  if (!tree.left) return tree.right;
  if (!tree.right) return tree.left;
  const successor = leftmost(tree.right);
  return { ...successor, left: tree.left, right: remove(tree.right, successor.key, compare) };
}

/** Descends to the entry with the smallest key of a non-empty tree. */
export function leftmost<K, V>(tree: SearchNode<K, V>): SearchNode<K, V> {
  let node = tree;
  while (node.left) node = node.left;
  return node;
}

/** Iterates over all entries in ascending key order with an explicit stack, so it can be stopped early and does not recurse. */
export function* inOrder<K, V>(tree: SearchTree<K, V>): Generator<[K, V]> {
  const stack: SearchNode<K, V>[] = [];
  let node = tree;
  while (node || stack.length > 0) {
    for (; node; node = node.left) stack.push(node);
    const next = stack.pop()!;
    yield [next.key, next.value];
    node = next.right;
  }
}

/** Finds the greatest key that is not above the given bound, as when looking up which bracket or price tier a number falls in. */
export function floorEntry<K, V>(tree: SearchTree<K, V>, bound: K, compare: Compare<K>): SearchTree<K, V> {
  let best: SearchTree<K, V>;
  for (let node = tree; node; ) {
    if (compare(node.key, bound) <= 0) {
      best = node;
      node = node.right;
    } else {
      node = node.left;
    }
  }
  return best;
}

/** Finds the next key strictly after the given one; the key itself need not be present. */
export function successorOf<K, V>(tree: SearchTree<K, V>, key: K, compare: Compare<K>): SearchTree<K, V> {
  let best: SearchTree<K, V>;
  for (let node = tree; node; ) {
    const after = compare(node.key, key) > 0;
    if (after) best = node;
    node = after ? node.left : node.right;
  }
  return best;
}

/**
 * Yields the entries whose keys lie between two limits, both included, and skips whole subtrees that cannot contain any.
 *
 * @example
 * [...range(tree, 10, 20, ascending)]; // entries 10 to 20 in order
 */
export function* range<K, V>(tree: SearchTree<K, V>, low: K, high: K, compare: Compare<K>): Generator<[K, V]> {
  if (!tree) return;
  const aboveLow = compare(tree.key, low) >= 0;
  const belowHigh = compare(tree.key, high) <= 0;
  if (aboveLow) yield* range(tree.left, low, high, compare);
  if (aboveLow && belowHigh) yield [tree.key, tree.value];
  if (belowHigh) yield* range(tree.right, low, high, compare);
}

/** Builds a tree of minimal height from entries that are already sorted by key, by always making the middle one the root. */
export function fromSorted<K, V>(entries: readonly (readonly [K, V])[], from = 0, to = entries.length): SearchTree<K, V> {
  if (from >= to) return undefined;
  const middle = (from + to) >> 1;
  const [key, value] = entries[middle]!;
  return { key, value, left: fromSorted(entries, from, middle), right: fromSorted(entries, middle + 1, to) };
}

/** The number of levels, zero for an empty tree. A height far above the logarithm of the entry count calls for rebuilding. */
export function height<K, V>(tree: SearchTree<K, V>): number {
  return tree ? 1 + Math.max(height(tree.left), height(tree.right)) : 0;
}

/**
 * Verifies the search order invariant over the entire tree, not just between parent and child: keys must strictly ascend from left to right.
 */
export function isSearchTree<K, V>(tree: SearchTree<K, V>, compare: Compare<K>): boolean {
  let previous: [K] | undefined;
  for (const [key] of inOrder(tree)) {
    if (previous && compare(previous[0], key) >= 0) return false;
    previous = [key];
  }
  return true;
}

/**
 * Says whether the two subtrees of each node differ by no more than one level, the balance condition of AVL trees.
 */
export function isBalanced<K, V>(tree: SearchTree<K, V>): boolean {
  const measure = (node: SearchTree<K, V>): number => {
    if (!node) return 0;
    const [left, right] = [measure(node.left), measure(node.right)];
    return Math.abs(left - right) > 1 ? NaN : 1 + Math.max(left, right);
  };
  return !Number.isNaN(measure(tree));
}

/** Lifts the left child above its parent without disturbing the key order, the elementary step of rebalancing. A node with no left child stays put. */
export function rotateRight<K, V>(node: SearchNode<K, V>): SearchNode<K, V> {
  const pivot = node.left;
  return pivot ? { ...pivot, right: { ...node, left: pivot.right } } : node;
}
