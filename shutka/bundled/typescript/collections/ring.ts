/** A queue of fixed capacity laid out in a circle; writing to a full one overwrites its oldest element. */
export class RingBuffer<T> {
  private readonly slots: Array<T | undefined>;
  private head = 0;
  private count = 0;

  constructor(readonly capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError('capacity must be a positive integer');
    this.slots = new Array<T | undefined>(capacity).fill(undefined);
  }

  /** Number of elements currently held. */
  get length(): number {
    return this.count;
  }

  /** Appends an element and returns the one that was overwritten to make room, if any. */
  push(item: T): T | undefined {
    const tail = (this.head + this.count) % this.capacity;
    const displaced = this.slots[tail];
    this.slots[tail] = item;
    if (this.count < this.capacity) {
      this.count++;
      return undefined;
    }
    this.head = (this.head + 1) % this.capacity;
    return displaced;
  }

  /** Removes the oldest element from the front and clears its slot for the garbage collector. */
  shift(): T | undefined {
    if (this.count === 0) return undefined;
    const item = this.slots[this.head];
    this.slots[this.head] = undefined;
    this.head = (this.head + 1) % this.capacity;
    this.count--;
    return item;
  }

  /** Accesses by age, 0 being the oldest; negative positions count from the newest. */
  at(index: number): T | undefined {
    const i = index < 0 ? this.count + index : index;
    if (i < 0 || i >= this.count) return undefined;
    return this.slots[(this.head + i) % this.capacity];
  }

  /** Copies the contents, oldest first, to an ordinary array. */
  toArray(): T[] {
    return Array.from({ length: this.count }, (_, i) => this.slots[(this.head + i) % this.capacity] as T);
  }
}

/** A double-ended queue that doubles its storage as needed, with constant-time access at both ends. */
export class Deque<T> {
  private slots: Array<T | undefined> = new Array<T | undefined>(8).fill(undefined);
  private head = 0;
  private count = 0;

  private grow(): void {
    if (this.count < this.slots.length) return;
    const size = this.slots.length;
    const next = new Array<T | undefined>(size * 2).fill(undefined);
    for (let i = 0; i < size; i++) next[i] = this.slots[(this.head + i) % size];
    this.slots = next;
    this.head = 0;
  }

  /** Adds to the back of the line. */
  pushBack(item: T): void {
    this.grow();
    this.slots[(this.head + this.count++) % this.slots.length] = item;
  }

  /** Jumps the queue: the item becomes the new first one. */
  pushFront(item: T): void {
    this.grow();
    this.head = (this.head - 1 + this.slots.length) % this.slots.length;
    this.slots[this.head] = item;
    this.count++;
  }

  /** Detaches and returns the element at the front end. */
  popFront(): T | undefined {
    if (this.count === 0) return undefined;
    const item = this.slots[this.head];
    this.slots[this.head] = undefined;
    this.head = (this.head + 1) % this.slots.length;
    this.count--;
    return item;
  }

  /** Detaches and returns the element at the rear end. */
  popBack(): T | undefined {
    if (this.count === 0) return undefined;
    const last = (this.head + --this.count) % this.slots.length;
    const item = this.slots[last];
    this.slots[last] = undefined;
    return item;
  }
}

/**
 * Averages the last few samples that were fed in, for smoothing a noisy signal.
 * @param size the width of the window in samples
 */
export function movingAverage(size: number): (sample: number) => number {
  const window = new RingBuffer<number>(size);
  let sum = 0;
  return (sample) => {
    sum += sample - (window.push(sample) ?? 0);
    return sum / window.length;
  };
}

/** Finds the maximum of every window of the given width that slides over a series, in linear time by a monotonic queue. */
export function slidingMax(values: readonly number[], width: number): number[] {
  const out: number[] = [];
  const candidates: number[] = [];
  let front = 0;
  values.forEach((value, i) => {
    while (candidates.length > front && (values[candidates[candidates.length - 1] as number] as number) <= value) candidates.pop();
    candidates.push(i);
    if ((candidates[front] as number) <= i - width) front++;
    if (i >= width - 1) out.push(values[candidates[front] as number] as number);
  });
  return out;
}

/** Yields overlapping runs of n consecutive elements, each as a fresh array; a sequence shorter than n yields nothing. */
export function* windows<T>(items: Iterable<T>, n: number): Generator<T[], void> {
  const ring = new RingBuffer<T>(n);
  for (const item of items) {
    ring.push(item);
    if (ring.length === n) yield ring.toArray();
  }
}

/** Keeps only the final n elements of an iterable of unknown length, as the `tail` command does with lines. */
export const tail = <T>(items: Iterable<T>, n: number): T[] => {
  if (n < 1) return [];
  const ring = new RingBuffer<T>(n);
  for (const item of items) ring.push(item);
  return ring.toArray();
};

/** Limits events to a quota per period: answers true and takes note of the moment unless the quota of the last period is used up. */
export function slidingWindowLimiter(quota: number, periodMs: number): (now: number) => boolean {
  const recent = new RingBuffer<number>(quota);
  return (now) => {
    const oldest = recent.at(0);
    if (recent.length === quota && oldest !== undefined && now - oldest < periodMs) return false;
    recent.push(now);
    return true;
  };
}
