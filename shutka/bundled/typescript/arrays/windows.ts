/**
 * Yields each stretch of `size` consecutive elements, moving ahead by `step` every time. Incomplete stretches at the end are dropped.
 *
 * @example
 * [...slidingWindows([1, 2, 3, 4], 3)]; // [[1, 2, 3], [2, 3, 4]]
 */
export function* slidingWindows<T>(items: readonly T[], size: number, step = 1): Generator<T[]> {
  if (size < 1 || step < 1) throw new RangeError('size and step must be at least 1');
  for (let start = 0; start + size <= items.length; start += step) {
    yield items.slice(start, start + size);
  }
}

/**
 * Pairs each element with the one that follows it, giving one pair fewer than there are elements.
 */
export function pairwise<T>(items: readonly T[]): [T, T][] {
  const pairs: [T, T][] = [];
  for (let i = 1; i < items.length; i += 1) {
    pairs.push([items[i - 1]!, items[i]!]);
  }
  return pairs;
}

/**
 * Smooths a series with the mean of the last `size` values, updated in constant time by adding the newcomer and subtracting the one that leaves.
 */
export function movingAverage(values: readonly number[], size: number): number[] {
  const averages: number[] = [];
  let sum = 0;
  values.forEach((value, i) => {
    sum += value;
    if (i >= size) sum -= values[i - size]!;
    if (i >= size - 1) averages.push(sum / size);
  });
  return averages;
}

/**
 * The largest value within every window of the given width, in linear time with a queue of decreasing candidates.
 */
export function movingMaximum(values: readonly number[], size: number): number[] {
  const queue: number[] = [];
  const maxima: number[] = [];
  let head = 0;
  values.forEach((value, i) => {
    while (queue.length > head && values[queue[queue.length - 1]!]! <= value) queue.pop();
    queue.push(i);
    if (queue[head]! <= i - size) head += 1;
    if (i >= size - 1) maxima.push(values[queue[head]!]!);
  });
  return maxima;
}

/**
 * Damps noise by letting older samples fade out geometrically. The factor says how much weight the newest sample gets, between 0 and 1.
 */
export function exponentialSmoothing(values: readonly number[], factor: number): number[] {
  const smoothed: number[] = [];
  let level: number | undefined;
  for (const value of values) {
    level = level === undefined ? value : factor * value + (1 - factor) * level;
    smoothed.push(level);
  }
  return smoothed;
}

/**
 * Running totals: each output is the sum of all inputs up to and including that place.
 */
export function cumulativeSum(values: readonly number[]): number[] {
  let total = 0;
  return values.map((value) => (total += value));
}

/**
 * Reduces from the left but records each intermediate accumulator, starting with the seed itself.
 */
export function scan<T, A>(items: Iterable<T>, step: (accumulated: A, item: T) => A, seed: A): A[] {
  const states = [seed];
  let state = seed;
  for (const item of items) {
    state = step(state, item);
    states.push(state);
  }
  return states;
}

/**
 * Subtracts every value from its successor, which turns meter readings into consumption.
 */
export const differences = (values: readonly number[]): number[] =>
  values.slice(1).map((value, i) => value - values[i]!);

/**
 * Steps through several lists in parallel and emits tuples of the elements at the same index, ending with the shortest list.
 */
export function zip<T extends readonly unknown[][]>(...lists: T): { [K in keyof T]: T[K][number] }[] {
  const length = lists.length === 0 ? 0 : Math.min(...lists.map((list) => list.length));
  return Array.from({ length }, (_, i) => lists.map((list) => list[i]) as { [K in keyof T]: T[K][number] });
}

/**
 * Takes elements alternately from two lists until both are used up; what remains of the longer one goes at the end.
 */
export function interleave<T>(left: readonly T[], right: readonly T[]): T[] {
  const woven: T[] = [];
  const longest = Math.max(left.length, right.length);
  for (let i = 0; i < longest; i += 1) {
    if (i < left.length) woven.push(left[i]!);
    if (i < right.length) woven.push(right[i]!);
  }
  return woven;
}

/**
 * Shifts the elements cyclically to the left by `count`, the ones that drop off the front coming back at the rear. A negative count turns the other way.
 */
export function rotate<T>(items: readonly T[], count: number): T[] {
  if (items.length === 0) return [];
  const shift = ((count % items.length) + items.length) % items.length;
  return [...items.slice(shift), ...items.slice(0, shift)];
}

/**
 * Finds the contiguous slice with the greatest sum by Kadane's method and tells its half-open bounds along with the sum.
 * An array of only negative numbers yields its least negative element.
 */
export function maximumSubarray(values: readonly number[]): { start: number; end: number; sum: number } {
  let best = { start: 0, end: 0, sum: -Infinity };
  let start = 0;
  let sum = 0;
  values.forEach((value, i) => {
    if (sum <= 0) [start, sum] = [i, 0];
    sum += value;
    if (sum > best.sum) best = { start, end: i + 1, sum };
  });
  return values.length === 0 ? { start: 0, end: 0, sum: 0 } : best;
}

/**
 * A first-in first-out buffer of fixed capacity that forgets its oldest element when a new one does not fit.
 */
export class RingBuffer<T> {
  private readonly slots: T[] = [];
  private next = 0;

  constructor(readonly capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError('capacity must be a positive integer');
  }

  /** Stores a value and hands back the one it pushed out, if the buffer was already full. */
  push(value: T): T | undefined {
    const evicted = this.slots[this.next];
    this.slots[this.next] = value;
    this.next = (this.next + 1) % this.capacity;
    return evicted;
  }

  /** Copies the contents into a plain array, oldest first. */
  toArray(): T[] {
    if (this.slots.length < this.capacity) return this.slots.slice();
    return [...this.slots.slice(this.next), ...this.slots.slice(0, this.next)];
  }
}
