/** Negative when `a` comes first, positive when `b` does, zero when they tie. */
export type Compare<T> = (a: T, b: T) => number;

function siftUp<T>(items: T[], from: number, compare: Compare<T>): void {
  let i = from;
  const item = items[i] as T;
  while (i > 0) {
    const parent = (i - 1) >> 1;
    if (compare(item, items[parent] as T) >= 0) break;
    items[i] = items[parent] as T;
    i = parent;
  }
  items[i] = item;
}

function siftDown<T>(items: T[], from: number, compare: Compare<T>, size = items.length): void {
  let i = from;
  const item = items[i] as T;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= size) break;
    if (child + 1 < size && compare(items[child + 1] as T, items[child] as T) < 0) child++;
    if (compare(item, items[child] as T) <= 0) break;
    items[i] = items[child] as T;
    i = child;
  }
  items[i] = item;
}

/** Rearranges an array in place into a binary heap in linear time, the smallest element at index zero. */
export function heapify<T>(items: T[], compare: Compare<T>): T[] {
  for (let i = (items.length >> 1) - 1; i >= 0; i--) siftDown(items, i, compare);
  return items;
}

/** Sorts in place without extra memory by repeatedly moving the root of a heap behind the unsorted part. Not stable. */
export function heapSort<T>(items: T[], compare: Compare<T>): T[] {
  const reversed: Compare<T> = (a, b) => compare(b, a);
  heapify(items, reversed);
  for (let end = items.length - 1; end > 0; end--) {
    const largest = items[0] as T;
    items[0] = items[end] as T;
    items[end] = largest;
    siftDown(items, 0, reversed, end);
  }
  return items;
}

/** Confirms that no element precedes its parent, which is the heap invariant; meant for assertions and tests. */
export function isHeap<T>(items: readonly T[], compare: Compare<T>): boolean {
  return items.every((item, i) => i === 0 || compare(items[(i - 1) >> 1] as T, item) <= 0);
}

/** A priority queue on a binary heap: the element that compares lowest is always the next one out. */
export class PriorityQueue<T> {
  private readonly items: T[] = [];

  constructor(private readonly compare: Compare<T>) {}

  /** Number of elements that are waiting. */
  get size(): number {
    return this.items.length;
  }

  /** Enqueues an element in logarithmic time. */
  push(item: T): void {
    this.items.push(item);
    siftUp(this.items, this.items.length - 1, this.compare);
  }

  /** Takes out the element of highest priority, or undefined from an empty queue. */
  pop(): T | undefined {
    const top = this.items[0];
    const last = this.items.pop();
    if (this.items.length > 0) {
      this.items[0] = last as T;
      siftDown(this.items, 0, this.compare);
    }
    return top;
  }

  /** Shows which element would be popped next but leaves it in the queue. */
  peek(): T | undefined {
    return this.items[0];
  }

  /** Exchanges the root for a new element in a single pass, cheaper than a pop followed by a push. */
  replaceTop(item: T): T | undefined {
    if (this.items.length === 0) {
      this.push(item);
      return undefined;
    }
    const top = this.items[0];
    this.items[0] = item;
    siftDown(this.items, 0, this.compare);
    return top;
  }

  /** Empties the queue in priority order, lazily. */
  *drain(): Generator<T, void> {
    while (this.items.length > 0) yield this.pop() as T;
  }
}

/**
 * Selects the n greatest elements of a long stream in descending order while holding no more than n of them in memory.
 * @param n how many to keep
 */
export function largest<T>(items: Iterable<T>, n: number, compare: Compare<T>): T[] {
  const queue = new PriorityQueue<T>(compare);
  if (n < 1) return [];
  for (const item of items) {
    if (queue.size < n) queue.push(item);
    else if (compare(item, queue.peek() as T) > 0) queue.replaceTop(item);
  }
  return [...queue.drain()].reverse();
}

/** Merges any number of sorted sequences into one sorted sequence, pulling from each only as needed. */
export function* mergeSorted<T>(sequences: ReadonlyArray<Iterable<T>>, compare: Compare<T>): Generator<T, void> {
  const heads = new PriorityQueue<{ value: T; order: number; rest: Iterator<T> }>(
    (a, b) => compare(a.value, b.value) || a.order - b.order,
  );
  sequences.forEach((sequence, order) => {
    const rest = sequence[Symbol.iterator]();
    const first = rest.next();
    if (!first.done) heads.push({ value: first.value, order, rest });
  });
  for (let head = heads.peek(); head; head = heads.peek()) {
    yield head.value;
    const next = head.rest.next();
    if (next.done) heads.pop();
    else heads.replaceTop({ ...head, value: next.value });
  }
}

/**
 * Tracks the median of numbers as they arrive with two heaps, one for each half of the data.
 * @returns a function that takes a number and gives back the median of all so far
 */
export const runningMedian = (): ((value: number) => number) => {
  const low = new PriorityQueue<number>((a, b) => b - a);
  const high = new PriorityQueue<number>((a, b) => a - b);
  return (value) => {
    if (low.size === 0 || value <= (low.peek() as number)) low.push(value);
    else high.push(value);
    if (low.size > high.size + 1) high.push(low.pop() as number);
    else if (high.size > low.size) low.push(high.pop() as number);
    const middle = low.peek() as number;
    return low.size > high.size ? middle : (middle + (high.peek() as number)) / 2;
  };
};
