/** Gives back whatever was acquired; calling it a second time does nothing. */
export type Release = () => void;

function once(action: () => void): Release {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}

/** Limits how many holders may be inside a section of code at the same time; the others wait in line, first come first served. */
export class Semaphore {
  private readonly waiting: (() => void)[] = [];
  private free: number;

  constructor(permits: number) {
    this.free = permits;
  }

  /** Waits until a permit is free and takes it. The returned function must be called to hand the permit on. */
  async acquire(): Promise<Release> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    return once(() => this.handOver());
  }

  /** Takes a permit only if one is available right now, without waiting. */
  tryAcquire(): Release | undefined {
    if (this.free === 0) return undefined;
    this.free--;
    return once(() => this.handOver());
  }

  /** Runs a task while holding a permit and returns it afterwards, even when the task throws. */
  async use<T>(task: () => Promise<T>): Promise<T> {
    const release = await this.acquire();
    try {
      return await task();
    } finally {
      release();
    }
  }

  private handOver(): void {
    const next = this.waiting.shift();
    if (next) next();
    else this.free++;
  }
}

/**
 * Wraps an async function so that its calls never overlap: each one starts only after the previous has settled, whether it succeeded or not.
 */
export function serialize<A extends unknown[], T>(fn: (...args: A) => Promise<T>): (...args: A) => Promise<T> {
  let tail: Promise<unknown> = Promise.resolve();
  return (...args) => {
    const result = tail.then(() => fn(...args));
    tail = result.catch(() => undefined);
    return result;
  };
}

/** A mutual exclusion lock per key: work on the same key is queued up, while work on different keys proceeds in parallel. */
export class KeyedMutex<K> {
  private readonly tails = new Map<K, Promise<unknown>>();

  /** Runs a task once all earlier tasks for this key have finished. Idle keys take up no memory. */
  async run<T>(key: K, task: () => Promise<T>): Promise<T> {
    const result = (this.tails.get(key) ?? Promise.resolve()).then(task);
    const tail = result.catch(() => undefined);
    this.tails.set(key, tail);
    try {
      return await result;
    } finally {
      if (this.tails.get(key) === tail) this.tails.delete(key);
    }
  }

  /** Reports whether any work for the key is running or queued. */
  isBusy(key: K): boolean {
    return this.tails.has(key);
  }
}

/** A first-in, first-out queue on a growing ring of slots, where adding and removing take constant time. */
export class Fifo<T> {
  private items: (T | undefined)[] = new Array<T | undefined>(8);
  private head = 0;
  private count = 0;

  /** The number of elements now waiting. */
  get size(): number {
    return this.count;
  }

  /** Appends an element at the back, doubling the storage when it is full. */
  enqueue(item: T): void {
    if (this.count === this.items.length) {
      const ordered = [...this.items.slice(this.head), ...this.items.slice(0, this.head)];
      this.items = ordered.concat(new Array<T | undefined>(ordered.length));
      this.head = 0;
    }
    this.items[(this.head + this.count++) % this.items.length] = item;
  }

  /** Removes the element that has waited longest, or gives `undefined` when there is none. */
  dequeue(): T | undefined {
    if (this.count === 0) return undefined;
    const item = this.items[this.head];
    this.items[this.head] = undefined;
    this.head = (this.head + 1) % this.items.length;
    this.count--;
    return item;
  }
}

/**
 * A bounded pipe between producers and consumers: writers wait while the buffer is full and readers wait while it is empty,
 * which gives natural back-pressure.
 */
export class Channel<T> {
  private readonly buffer = new Fifo<T>();
  private readonly readers = new Fifo<() => void>();
  private readonly writers = new Fifo<() => void>();
  private closed = false;

  constructor(private readonly capacity: number) {
    if (capacity < 1) throw new RangeError('a channel needs room for one item');
  }

  /** Puts a value into the pipe, resolving once there is room for it. Sending after close is an error. */
  async send(value: T): Promise<void> {
    while (!this.closed && this.buffer.size >= this.capacity) {
      await new Promise<void>((resolve) => this.writers.enqueue(resolve));
    }
    if (this.closed) throw new Error('channel is closed');
    this.buffer.enqueue(value);
    this.readers.dequeue()?.();
  }

  /** Announces that nothing more will be sent; values already buffered can still be read. */
  close(): void {
    this.closed = true;
    while (this.readers.size > 0) this.readers.dequeue()?.();
    while (this.writers.size > 0) this.writers.dequeue()?.();
  }

  /** Lets a consumer read with `for await`, ending after the pipe is closed and drained. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      while (this.buffer.size === 0 && !this.closed) {
        await new Promise<void>((resolve) => this.readers.enqueue(resolve));
      }
      if (this.buffer.size === 0) return;
      const value = this.buffer.dequeue() as T;
      this.writers.dequeue()?.();
      yield value;
    }
  }
}

/** A job list ordered by urgency and kept as a binary heap: the smallest priority number leaves first, equal ones in order of arrival. */
export class PriorityQueue<T> {
  private readonly heap: { item: T; priority: number; order: number }[] = [];
  private arrivals = 0;

  /** Inserts a job and sifts it up to its place among the more urgent ones. */
  push(item: T, priority: number): void {
    let child = this.heap.push({ item, priority, order: this.arrivals++ }) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!this.before(child, parent)) break;
      this.swap(child, parent);
      child = parent;
    }
  }

  /** Takes out the most urgent job and restores the heap below it. */
  pop(): T | undefined {
    const top = this.heap[0];
    const last = this.heap.pop();
    if (!top || !last || this.heap.length === 0) return top?.item;
    this.heap[0] = last;
    for (let parent = 0; ; ) {
      let best = parent;
      for (const child of [2 * parent + 1, 2 * parent + 2]) {
        if (child < this.heap.length && this.before(child, best)) best = child;
      }
      if (best === parent) return top.item;
      this.swap(parent, best);
      parent = best;
    }
  }

  private before(a: number, b: number): boolean {
    const [x, y] = [this.heap[a]!, this.heap[b]!];
    return x.priority !== y.priority ? x.priority < y.priority : x.order < y.order;
  }

  private swap(a: number, b: number): void {
    [this.heap[a], this.heap[b]] = [this.heap[b]!, this.heap[a]!];
  }
}

/**
 * Gathers single requests made in the same tick into one bulk call, the data-loader pattern against the N+1 query problem.
 *
 * @param loadAll - must return the answers in the order of the keys it was given
 */
export function batchRequests<K, V>(loadAll: (keys: K[]) => Promise<V[]>): (key: K) => Promise<V> {
  let keys: K[] = [];
  let batch: Promise<V[]> | undefined;
  return async (key) => {
    const index = keys.push(key) - 1;
    batch ??= Promise.resolve().then(() => {
      const taken = keys;
      keys = [];
      batch = undefined;
      return loadAll(taken);
    });
    const answers = await batch;
    return answers[index]!;
  };
}

/**
 * Enforces a request rate with a token bucket: up to `burst` calls pass at once, then `perSecond` on average.
 *
 * @param now - a clock in milliseconds
 * @returns a function that answers whether one more call is permitted at this moment
 */
export function tokenBucket(burst: number, perSecond: number, now: () => number): () => boolean {
  let tokens = burst;
  let last = now();
  return () => {
    const time = now();
    tokens = Math.min(burst, tokens + ((time - last) / 1000) * perSecond);
    last = time;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  };
}
