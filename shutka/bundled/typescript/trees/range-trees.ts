/** An operation that joins two partial results, along with the value that changes nothing, such as addition with zero. */
export interface Monoid<T> {
  readonly empty: T;
  combine(left: T, right: T): T;
}

/** Adds numbers up. */
export const sumMonoid: Monoid<number> = { empty: 0, combine: (left, right) => left + right };

/** Keeps the smaller of two numbers. */
export const minMonoid: Monoid<number> = { empty: Infinity, combine: (left, right) => Math.min(left, right) };

/** Keeps the larger of two numbers. */
export const maxMonoid: Monoid<number> = { empty: -Infinity, combine: (left, right) => Math.max(left, right) };

/** Answers aggregate queries over any stretch of an array, and accepts changes to single elements, both in logarithmic time. */
export class SegmentTree<T> {
  private readonly nodes: T[];
  readonly length: number;

  constructor(values: readonly T[], private readonly monoid: Monoid<T>) {
    this.length = values.length;
    this.nodes = [...new Array<T>(values.length).fill(monoid.empty), ...values];
    for (let i = values.length - 1; i > 0; i--) {
      this.nodes[i] = monoid.combine(this.nodes[2 * i]!, this.nodes[2 * i + 1]!);
    }
  }

  /** Replaces one element and recomputes the aggregates on the way up to the root. */
  update(index: number, value: T): void {
    if (index < 0 || index >= this.length) throw new RangeError(`no element ${index}`);
    let i = index + this.length;
    this.nodes[i] = value;
    for (i >>= 1; i > 0; i >>= 1) {
      this.nodes[i] = this.monoid.combine(this.nodes[2 * i]!, this.nodes[2 * i + 1]!);
    }
  }

  /** Combines the elements from `start` up to but not including `end`, keeping their order, so the operation need not be commutative. */
  query(start: number, end: number): T {
    let left = this.monoid.empty;
    let right = this.monoid.empty;
    let [lo, hi] = [Math.max(0, start) + this.length, Math.min(end, this.length) + this.length];
    for (; lo < hi; lo >>= 1, hi >>= 1) {
      if (lo & 1) left = this.monoid.combine(left, this.nodes[lo++]!);
      if (hi & 1) right = this.monoid.combine(this.nodes[--hi]!, right);
    }
    return this.monoid.combine(left, right);
  }
}

/** Keeps running totals of an array that changes: a Fenwick tree, or binary indexed tree, needing a single array of numbers. */
export class FenwickTree {
  private readonly sums: number[];

  constructor(readonly length: number) {
    this.sums = new Array<number>(length + 1).fill(0);
  }

  /** Increases one element by the given amount, which may be negative. */
  add(index: number, amount: number): void {
    for (let i = index + 1; i <= this.length; i += i & -i) this.sums[i]! += amount;
  }

  /** The total of the first `count` elements, found by peeling off the lowest set bit again and again. */
  prefixSum(count: number): number {
    let total = 0;
    for (let i = Math.min(count, this.length); i > 0; i -= i & -i) total += this.sums[i]!;
    return total;
  }

  /**
   * Finds the position at which the running total first exceeds a target, for picking an item at random by weight.
   * All elements must be non-negative; the length is returned when the target is never exceeded.
   */
  upperBound(target: number): number {
    let position = 0;
    let rest = target;
    for (let step = 2 ** Math.floor(Math.log2(Math.max(1, this.length))); step >= 1; step /= 2) {
      const next = position + step;
      if (next > this.length || this.sums[next]! > rest) continue;
      position = next;
      rest -= this.sums[next]!;
    }
    return position;
  }
}

/** Supports raising a whole stretch of numbers at once together with maximum queries, postponing the work with lazy additions. */
export class LazyMaxTree {
  private readonly best: number[];
  private readonly extra: number[];

  constructor(private readonly length: number) {
    this.best = new Array<number>(4 * length).fill(0);
    this.extra = new Array<number>(4 * length).fill(0);
  }

  /** Adds an amount to every element of the half-open range; all elements start at zero. */
  addRange(start: number, end: number, amount: number, node = 1, lo = 0, hi = this.length): void {
    if (start >= hi || end <= lo) return;
    if (start <= lo && hi <= end) {
      this.best[node]! += amount;
      this.extra[node]! += amount;
      return;
    }
    const middle = (lo + hi) >> 1;
    this.addRange(start, end, amount, 2 * node, lo, middle);
    this.addRange(start, end, amount, 2 * node + 1, middle, hi);
    this.best[node] = Math.max(this.best[2 * node]!, this.best[2 * node + 1]!) + this.extra[node]!;
  }

  /** The largest element in the half-open range, or minus infinity when the range is empty. */
  maxRange(start: number, end: number, node = 1, lo = 0, hi = this.length): number {
    if (start >= hi || end <= lo || start >= end) return -Infinity;
    if (start <= lo && hi <= end) return this.best[node]!;
    const middle = (lo + hi) >> 1;
    const left = this.maxRange(start, end, 2 * node, lo, middle);
    const right = this.maxRange(start, end, 2 * node + 1, middle, hi);
    return Math.max(left, right) + this.extra[node]!;
  }
}

/**
 * Prepares constant-time minimum queries over an array that never changes, by tabulating every window whose width is a power of two.
 *
 * @returns a function giving the smallest element of a non-empty half-open range
 */
export function sparseMinTable(values: readonly number[]): (start: number, end: number) => number {
  const levels = [[...values]];
  for (let width = 2; width <= values.length; width *= 2) {
    const shorter = levels.at(-1)!;
    const count = values.length - width + 1;
    levels.push(Array.from({ length: count }, (_unused, i) => Math.min(shorter[i]!, shorter[i + width / 2]!)));
  }
  return (start, end) => {
    if (start < 0 || start >= end || end > values.length) throw new RangeError('empty or invalid range');
    const level = 31 - Math.clz32(end - start);
    return Math.min(levels[level]![start]!, levels[level]![end - 2 ** level]!);
  };
}

/**
 * Counts the inversions of a sequence, the pairs that stand in the wrong order, as a measure of how far it is from sorted.
 *
 * @example
 * countInversions([3, 1, 2]); // 2
 */
export function countInversions(values: readonly number[]): number {
  const sorted = [...new Set(values)].sort((a, b) => a - b);
  const rank = new Map(sorted.map((value, i) => [value, i]));
  const seen = new FenwickTree(sorted.length);
  let inversions = 0;
  values.forEach((value, i) => {
    inversions += i - seen.prefixSum(rank.get(value)! + 1);
    seen.add(rank.get(value)!, 1);
  });
  return inversions;
}

/** A stretch of a line or of time that contains its start but not its end, with something attached. */
export interface Interval<T> {
  start: number;
  end: number;
  data: T;
}

/** A node of a centred interval tree: intervals around the centre are kept here, the others below on their side. */
export interface IntervalNode<T> {
  centre: number;
  byStart: Interval<T>[];
  left?: IntervalNode<T>;
  right?: IntervalNode<T>;
}

/** Organises intervals in a tree split at median start points, for fast stabbing queries. Empty intervals are left out. */
export function buildIntervalTree<T>(intervals: readonly Interval<T>[]): IntervalNode<T> | undefined {
  const sorted = intervals.filter(({ start, end }) => start < end).sort((a, b) => a.start - b.start);
  const middle = sorted[sorted.length >> 1];
  if (!middle) return undefined;
  const centre = middle.start;
  return {
    centre,
    byStart: sorted.filter(({ start, end }) => start <= centre && centre < end),
    left: buildIntervalTree(sorted.filter(({ end }) => end <= centre)),
    right: buildIntervalTree(sorted.filter(({ start }) => start > centre)),
  };
}

/** Reports every interval that covers a given point, for instance all bookings at a certain hour. */
export function* intervalsAt<T>(tree: IntervalNode<T> | undefined, point: number): Generator<Interval<T>> {
  for (let node = tree; node; node = point < node.centre ? node.left : node.right) {
    for (const interval of node.byStart) {
      if (interval.start > point) break;
      if (point < interval.end) yield interval;
    }
  }
}

/** A point in the plane and the halves of a k-d tree around it, split by x on even levels and by y on odd ones. */
export interface KdNode {
  point: readonly [number, number];
  left?: KdNode;
  right?: KdNode;
}

/** Arranges points in the plane for spatial search by splitting at the median of alternating coordinates. */
export function buildKdTree(points: readonly (readonly [number, number])[], depth = 0): KdNode | undefined {
  const axis = (depth % 2) as 0 | 1;
  const sorted = [...points].sort((a, b) => a[axis] - b[axis]);
  const middle = sorted.length >> 1;
  const point = sorted[middle];
  if (!point) return undefined;
  return {
    point,
    left: buildKdTree(sorted.slice(0, middle), depth + 1),
    right: buildKdTree(sorted.slice(middle + 1), depth + 1),
  };
}

/**
 * Finds the stored point closest to a location, skipping the far side of a split whenever it lies beyond the best distance so far.
 *
 * @returns the point and its Euclidean distance, or `undefined` for an empty tree
 */
export function nearestNeighbour(tree: KdNode | undefined, target: readonly [number, number]): { point: readonly [number, number]; distance: number } | undefined {
  let best: { point: readonly [number, number]; distance: number } | undefined;
  const visit = (node: KdNode | undefined, axis: 0 | 1): void => {
    if (!node) return;
    const distance = Math.hypot(node.point[0] - target[0], node.point[1] - target[1]);
    if (!best || distance < best.distance) best = { point: node.point, distance };
    const offset = target[axis] - node.point[axis];
    const other = axis === 0 ? 1 : 0;
    visit(offset < 0 ? node.left : node.right, other);
    if (Math.abs(offset) < best.distance) visit(offset < 0 ? node.right : node.left, other);
  };
  visit(tree, 0);
  return best;
}
