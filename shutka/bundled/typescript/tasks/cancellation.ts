/** Thrown by work that stopped early because somebody asked it to, as opposed to work that failed. */
export class CancelledError extends Error {
  constructor(readonly reason: string = 'cancelled') {
    super(reason);
    this.name = 'CancelledError';
  }
}

/** The side of a cancellation that is handed to running work: it can be asked, waited on and listened to, but not triggered. */
export interface CancelToken {
  readonly isCancelled: boolean;
  readonly reason: string | undefined;
  onCancel(listener: (reason: string) => void): () => void;
}

/** The owner's side of a cancellation: creates the token and decides when it fires. */
export class CancelSource {
  private readonly listeners = new Set<(reason: string) => void>();
  private cancelledFor: string | undefined;
  readonly token: CancelToken;

  constructor() {
    const source = this;
    this.token = {
      get isCancelled() { return source.cancelledFor !== undefined; },
      get reason() { return source.cancelledFor; },
      onCancel: (listener) => source.subscribe(listener),
    };
  }

  /** Fires the token once: every listener is told the reason, later calls are ignored. */
  cancel(reason = 'cancelled'): void {
    if (this.cancelledFor !== undefined) return;
    this.cancelledFor = reason;
    const listeners = [...this.listeners];
    this.listeners.clear();
    for (const listener of listeners) listener(reason);
  }

  private subscribe(listener: (reason: string) => void): () => void {
    if (this.cancelledFor !== undefined) {
      listener(this.cancelledFor);
      return () => undefined;
    }
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }
}

/** A token that never fires, the default for functions whose callers do not care about stopping them. */
export const neverCancelled: CancelToken = {
  isCancelled: false,
  reason: undefined,
  onCancel: () => () => undefined,
};

/** Throws a CancelledError if the token has fired. Sprinkle it through long loops as a checkpoint. */
export function throwIfCancelled(token: CancelToken): void {
  if (token.isCancelled) throw new CancelledError(token.reason);
}

/** Tells a deliberate stop from a genuine failure inside a catch block. */
export const isCancellation = (error: unknown): error is CancelledError => error instanceof CancelledError;

/**
 * Makes waiting for a promise abortable: the result rejects as soon as the token fires, although the work itself carries on unseen.
 *
 * @param work - the promise being waited for
 * @param token - stops the wait
 */
export function abandonOnCancel<T>(work: Promise<T>, token: CancelToken): Promise<T> {
  return new Promise((resolve, reject) => {
    const unsubscribe = token.onCancel((reason) => reject(new CancelledError(reason)));
    work.then(resolve, reject).finally(unsubscribe);
  });
}

/** Derives a source that fires when its parent does, but can also be cancelled alone without affecting the parent. */
export function childSource(parent: CancelToken): CancelSource {
  const child = new CancelSource();
  const unsubscribe = parent.onCancel((reason) => child.cancel(reason));
  child.token.onCancel(unsubscribe);
  return child;
}

/** Merges several tokens into one that fires together with whichever of them comes first. */
export function anyOf(...tokens: CancelToken[]): CancelToken {
  const merged = new CancelSource();
  const unsubscribes = tokens.map((token) => token.onCancel((reason) => merged.cancel(reason)));
  merged.token.onCancel(() => unsubscribes.forEach((unsubscribe) => unsubscribe()));
  return merged.token;
}

/** Produces a token that fires by itself when a deadline has passed, using the scheduler it is given. */
export function deadlineToken(milliseconds: number, schedule: (callback: () => void, milliseconds: number) => void): CancelToken {
  const source = new CancelSource();
  schedule(() => source.cancel(`deadline of ${milliseconds} ms exceeded`), milliseconds);
  return source.token;
}

/**
 * Sleeps until the time is up or the token fires, whichever is sooner, and clears the timer in the latter case.
 *
 * @param startTimer - starts a timer and returns the function that stops it
 */
export function cancellableSleep(
  milliseconds: number,
  token: CancelToken,
  startTimer: (callback: () => void, milliseconds: number) => () => void,
): Promise<void> {
  if (token.isCancelled) return Promise.reject(new CancelledError(token.reason));
  return new Promise((resolve, reject) => {
    const stopTimer = startTimer(() => {
      unsubscribe();
      resolve();
    }, milliseconds);
    const unsubscribe = token.onCancel((reason) => {
      stopTimer();
      reject(new CancelledError(reason));
    });
  });
}

/** Passes values of an asynchronous sequence through until the token fires; the next value to arrive is dropped, the source closed, and the loop ends quietly. */
export async function* takeUntilCancelled<T>(items: AsyncIterable<T>, token: CancelToken): AsyncGenerator<T> {
  if (token.isCancelled) return;
  for await (const item of items) {
    if (token.isCancelled) return;
    yield item;
  }
}

/**
 * Starts the same search in several ways, returns the first success and tells the losers to stop.
 *
 * @throws AggregateError when all contenders fail
 */
export async function raceAndCancel<T>(contenders: readonly ((token: CancelToken) => Promise<T>)[]): Promise<T> {
  const source = new CancelSource();
  try {
    return await Promise.any(contenders.map((start) => start(source.token)));
  } finally {
    source.cancel('another contender won');
  }
}

/**
 * Wraps an async handler so that a new call cancels the one still running, as a search box does on every keystroke.
 * The superseded call rejects with a CancelledError.
 */
export function latestOnly<A extends unknown[], T>(handler: (token: CancelToken, ...args: A) => Promise<T>): (...args: A) => Promise<T> {
  let current: CancelSource | undefined;
  return (...args) => {
    current?.cancel('superseded by a newer call');
    const source = new CancelSource();
    current = source;
    return abandonOnCancel(handler(source.token, ...args), source.token);
  };
}

/** Runs a task under a time limit that it can observe: on expiry its token fires and the returned promise rejects without waiting for it to notice. */
export async function runWithDeadline<T>(
  task: (token: CancelToken) => Promise<T>,
  milliseconds: number,
  startTimer: (callback: () => void, milliseconds: number) => () => void,
): Promise<T> {
  const source = new CancelSource();
  const stopTimer = startTimer(() => source.cancel('time limit reached'), milliseconds);
  try {
    return await abandonOnCancel(task(source.token), source.token);
  } finally {
    stopTimer();
  }
}

/** Collects clean-up actions during a job and performs them in reverse order at the end, like a stack of deferred statements. */
export class CleanupStack {
  private readonly actions: (() => void | Promise<void>)[] = [];

  /** Registers something to be undone later, such as closing a file just opened. */
  defer(action: () => void | Promise<void>): void {
    this.actions.push(action);
  }

  /** Performs all registered actions, newest first; every one runs even if others fail, and the failures are thrown together. */
  async unwind(): Promise<void> {
    const errors: unknown[] = [];
    for (let action = this.actions.pop(); action; action = this.actions.pop()) {
      try {
        await action();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, 'clean-up failed');
  }
}
