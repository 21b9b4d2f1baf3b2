/** A promise together with the functions that settle it from outside. */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve: (value: T | PromiseLike<T>) => void;
  reject: (reason: unknown) => void;
}

/** Starts a timer and returns a function that calls it off; the caller supplies it so that code stays free of host globals. */
export type Timer = (callback: () => void, milliseconds: number) => () => void;

/** The outcome of work that may fail, held as a value: either a result or the error that replaced it. */
export type Outcome<T> = { ok: true; value: T } | { ok: false; error: unknown };

/** Creates a promise whose resolve and reject can be called later by other code, for bridging callbacks and events. */
export function defer<T>(): Deferred<T> {
  let resolve!: Deferred<T>['resolve'];
  let reject!: Deferred<T>['reject'];
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/** Pauses for the given number of milliseconds. Await it between two steps that must not follow each other at once. */
export const delay = (milliseconds: number, timer: Timer): Promise<void> =>
  new Promise((resolve) => {
    timer(resolve, milliseconds);
  });

/** Raised when an operation was given up because it took longer than allowed. */
export class TimeoutError extends Error {
  constructor(readonly milliseconds: number) {
    super(`timed out after ${milliseconds} ms`);
    this.name = 'TimeoutError';
  }
}

/**
 * Fails with a TimeoutError if a promise has not settled in time. The underlying work is not stopped, only no longer waited for.
 *
 * @param work - the promise to watch
 * @param milliseconds - how long to wait
 * @param timer - schedules the deadline, and cancels it once the work is done
 */
export function withTimeout<T>(work: Promise<T>, milliseconds: number, timer: Timer): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = timer(() => reject(new TimeoutError(milliseconds)), milliseconds);
    work.then(resolve, reject).finally(stop);
  });
}

/** Converts a rejection into an ordinary value, so that callers can branch on success without a try block. */
export async function settle<T>(work: PromiseLike<T>): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await work };
  } catch (error) {
    return { ok: false, error };
  }
}

/**
 * Maps over a list with an asynchronous function while keeping at most `limit` calls in flight. Results come back in input order,
 * and after the first failure no further items are started.
 *
 * @example
 * const pages = await mapLimit(urls, 4, download);
 */
export async function mapLimit<T, R>(items: readonly T[], limit: number, run: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  let failed = false;
  const worker = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const index = next++;
      try {
        results[index] = await run(items[index]!, index);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Math.min(limit, items.length)) }, worker));
  return results;
}

/** Runs asynchronous steps strictly one after another, handing each the result of the one before. */
export async function pipeline<T>(initial: T, steps: Iterable<(value: T) => T | Promise<T>>): Promise<T> {
  let value = initial;
  for (const step of steps) value = await step(value);
  return value;
}

/** Keeps those items for which an asynchronous test says yes; all tests run at the same time and the order is preserved. */
export async function filterAsync<T>(items: readonly T[], test: (item: T) => Promise<boolean>): Promise<T[]> {
  const verdicts = await Promise.all(items.map((item) => test(item)));
  return items.filter((_item, index) => verdicts[index]);
}

/**
 * Wraps an async function so that callers asking while a call is running share that call instead of starting a second one.
 * Once it settles, the next caller starts afresh.
 */
export function shareInFlight<T>(run: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  return () => {
    running ??= run().finally(() => {
      running = undefined;
    });
    return running;
  };
}

/** Remembers the promise of an async lookup per key, and forgets it again if it fails so that errors are never cached. */
export function memoizeAsync<K, T>(load: (key: K) => Promise<T>): (key: K) => Promise<T> {
  const cache = new Map<K, Promise<T>>();
  return (key) => {
    const known = cache.get(key);
    if (known) return known;
    const loading = load(key);
    cache.set(key, loading);
    loading.catch(() => cache.delete(key));
    return loading;
  };
}

/** Adapts a Node-style function, whose last argument is an `(error, value)` callback, to one that returns a promise. */
export const promisify =
  <A extends unknown[], T>(fn: (...args: [...A, (error: unknown, value?: T) => void]) => void) =>
  (...args: A): Promise<T> =>
    new Promise((resolve, reject) => {
      fn(...args, (error, value) => (error ? reject(error) : resolve(value as T)));
    });

/** Awaits all the promise-valued properties of an object in parallel and returns an object of the same shape with the plain values. */
export async function resolveProperties<T extends Record<string, unknown>>(record: T): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  const entries = await Promise.all(Object.entries(record).map(async ([key, value]) => [key, await value] as const));
  return Object.fromEntries(entries) as { [K in keyof T]: Awaited<T[K]> };
}

/**
 * Yields results as they become ready, the fastest first, rather than in the order the promises were listed.
 * A rejection ends the iteration with that error.
 */
export async function* inCompletionOrder<T>(promises: Iterable<Promise<T>>): AsyncGenerator<T> {
  const pending = new Map<number, Promise<{ id: number; value: T }>>();
  let count = 0;
  for (const promise of promises) {
    const id = count++;
    pending.set(id, promise.then((value) => ({ id, value })));
  }
  while (pending.size > 0) {
    const { id, value } = await Promise.race(pending.values());
    pending.delete(id);
    yield value;
  }
}
