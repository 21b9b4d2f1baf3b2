/** A general tree: some data with any number of children in order, as in outlines, menus and file systems. */
export interface TreeNode<T> {
  readonly data: T;
  readonly children: readonly TreeNode<T>[];
}

/** Makes a tree node, a leaf unless children are given. */
export const branch = <T>(data: T, ...children: TreeNode<T>[]): TreeNode<T> => ({ data, children });

/** Yields the data of a parent before that of its children, as one would read an outline from top to bottom. */
export function* preOrder<T>(node: TreeNode<T>): Generator<T> {
  yield node.data;
  for (const child of node.children) yield* preOrder(child);
}

/** Yields children before their parent, the order needed for deleting folders or adding up sizes. */
export function* postOrder<T>(node: TreeNode<T>): Generator<T> {
  for (const child of node.children) yield* postOrder(child);
  yield node.data;
}

/** Splits a tree into its generations: an array of rows, the root alone in the first. */
export function levels<T>(root: TreeNode<T>): T[][] {
  const rows: T[][] = [];
  for (let row: readonly TreeNode<T>[] = [root]; row.length > 0; row = row.flatMap((node) => node.children)) {
    rows.push(row.map((node) => node.data));
  }
  return rows;
}

/** Transforms the data of every node while keeping the shape; the callback also learns the depth, zero at the root. */
export function mapTree<T, R>(node: TreeNode<T>, transform: (data: T, depth: number) => R, depth = 0): TreeNode<R> {
  return {
    data: transform(node.data, depth),
    children: node.children.map((child) => mapTree(child, transform, depth + 1)),
  };
}

/**
 * Reduces a tree from the bottom up: each node is combined with the results already computed for its children.
 *
 * @example
 * const totalSize = fold(folder, (file, sizes: number[]) => sizes.reduce((a, b) => a + b, file.bytes));
 */
export function fold<T, R>(node: TreeNode<T>, combine: (data: T, results: R[]) => R): R {
  return combine(node.data, node.children.map((child) => fold(child, combine)));
}

/**
 * Narrows a tree to the nodes that satisfy a test plus all their ancestors, as a search field over a tree view does.
 *
 * @returns `undefined` when nothing matches
 */
export function pruneToMatches<T>(node: TreeNode<T>, test: (data: T) => boolean): TreeNode<T> | undefined {
  const children = node.children
    .map((child) => pruneToMatches(child, test))
    .filter((child): child is TreeNode<T> => child !== undefined);
  return children.length > 0 || test(node.data) ? { data: node.data, children } : undefined;
}

/** Draws a tree as text with box-drawing lines connecting parents and children, like the `tree` command for directories. */
export function drawTree<T>(node: TreeNode<T>, label: (data: T) => string = String): string {
  const below = node.children.map((child, i) => {
    const last = i === node.children.length - 1;
    const [first, ...rest] = drawTree(child, label).split('\n');
    const indent = last ? '    ' : '│   ';
    return [(last ? '└── ' : '├── ') + first, ...rest.map((line) => indent + line)].join('\n');
  });
  return [label(node.data), ...below].join('\n');
}

/** Writes a tree as a nested bullet list in Markdown, indenting two spaces per level. */
export function toBulletList<T>(node: TreeNode<T>, label: (data: T) => string = String, depth = 0): string {
  const own = `${'  '.repeat(depth)}- ${label(node.data)}`;
  return [own, ...node.children.map((child) => toBulletList(child, label, depth + 1))].join('\n');
}

/** Prints the compact form with brackets, `a(b,c(d))`, common for phylogenetic trees and in test cases. */
export function toBracketed<T>(node: TreeNode<T>, label: (data: T) => string = String): string {
  const inner = node.children.map((child) => toBracketed(child, label)).join(',');
  return node.children.length === 0 ? label(node.data) : `${label(node.data)}(${inner})`;
}

/**
 * Assembles trees from flat database rows in which each names the id of its parent. Rows whose parent is absent become roots,
 * and siblings keep the order of the rows.
 */
export function fromParentIds<T, I>(rows: readonly T[], idOf: (row: T) => I, parentOf: (row: T) => I | undefined): TreeNode<T>[] {
  const known = new Set(rows.map(idOf));
  const byParent = new Map<I | undefined, T[]>();
  for (const row of rows) {
    const parent = parentOf(row);
    const slot = parent !== undefined && known.has(parent) ? parent : undefined;
    byParent.set(slot, [...(byParent.get(slot) ?? []), row]);
  }
  const build = (slot: I | undefined): TreeNode<T>[] =>
    (byParent.get(slot) ?? []).map((data) => ({ data, children: build(idOf(data)) }));
  return build(undefined);
}

/** Nests a list of headings by their level numbers to form a table of contents; each goes below the nearest earlier one of a smaller level. */
export function nestByLevel<T>(items: Iterable<T>, levelOf: (item: T) => number): TreeNode<T>[] {
  const roots: TreeNode<T>[] = [];
  const open: { level: number; children: TreeNode<T>[] }[] = [{ level: -Infinity, children: roots }];
  for (const data of items) {
    const level = levelOf(data);
    while (open.length > 1 && open.at(-1)!.level >= level) open.pop();
    const children: TreeNode<T>[] = [];
    open.at(-1)!.children.push({ data, children });
    open.push({ level, children });
  }
  return roots;
}

/**
 * Traces the breadcrumb from the root to the first node that passes the test, both ends included.
 *
 * @returns an empty array if no node qualifies
 */
export function pathTo<T>(node: TreeNode<T>, test: (data: T) => boolean): T[] {
  if (test(node.data)) return [node.data];
  for (const child of node.children) {
    const path = pathTo(child, test);
    if (path.length > 0) return [node.data, ...path];
  }
  return [];
}

/** Determines the deepest node that has both of the two given ones below or at it, such as the folder that contains both files. */
export function lowestCommonAncestor<T>(root: TreeNode<T>, a: T, b: T): T | undefined {
  const left = pathTo(root, (data) => data === a);
  const right = pathTo(root, (data) => data === b);
  let ancestor: T | undefined;
  for (let i = 0; i < Math.min(left.length, right.length) && left[i] === right[i]; i++) ancestor = left[i];
  return ancestor;
}

/** Numbers the nodes in outline style, pairing each with a dotted label such as `2.1.3`; the root itself gets the empty label. */
export function* outlineNumbers<T>(node: TreeNode<T>, label = ''): Generator<[label: string, data: T]> {
  yield [label, node.data];
  for (const [i, child] of node.children.entries()) {
    yield* outlineNumbers(child, label === '' ? String(i + 1) : `${label}.${i + 1}`);
  }
}
