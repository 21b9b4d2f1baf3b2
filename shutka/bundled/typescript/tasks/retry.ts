/** Gives the pause in milliseconds before the retry with the given number, counted from one. */
export type BackoffPolicy = (retry: number) => number;

/** Waits for a number of milliseconds; injected so that tests need not really wait. */
export type Sleep = (milliseconds: number) => Promise<void>;

/** Settings of a retry loop: how often to try in all, how long to wait between, and which errors deserve another chance. */
export interface RetryOptions {
  attempts: number;
  backoff: BackoffPolicy;
  sleep: Sleep;
  shouldRetry?: (error: unknown) => boolean;
}

/**
 * Calls a flaky asynchronous operation again after each failure until it succeeds or the allowed attempts are used up,
 * in which case the last error is thrown.
 *
 * @param operation - receives the attempt number, starting at one
 * @param options - attempt limit, waiting policy and an optional filter for errors that are not worth repeating
 */
export async function retry<T>(operation: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  const { attempts, backoff, sleep, shouldRetry = () => true } = options;
  for (let attempt = 1; ; attempt++) {
    try {
      return await operation(attempt);
    } catch (error) {
      if (attempt >= attempts || !shouldRetry(error)) throw error;
      await sleep(backoff(attempt));
    }
  }
}

/** Waits the same time before every retry. */
export const constantBackoff = (milliseconds: number): BackoffPolicy => () => milliseconds;

/** Lengthens the pause by a fixed step each time: one step, then two, then three. Gentler than doubling. */
export const linearBackoff = (step: number): BackoffPolicy => (retry) => step * retry;

/**
 * Multiplies the wait after each failure, doubling it unless another factor is given, to take load off a struggling server.
 *
 * @example
 * const wait = exponentialBackoff(100);
 * [wait(1), wait(2), wait(3)]; // [100, 200, 400]
 */
export function exponentialBackoff(initial: number, factor = 2): BackoffPolicy {
  return (retry) => initial * factor ** (retry - 1);
}

/** Grows the pauses along the Fibonacci sequence, a middle way between linear and exponential growth. */
export function fibonacciBackoff(unit: number): BackoffPolicy {
  return (retry) => {
    let [current, next] = [1, 1];
    for (let i = 1; i < retry; i++) [current, next] = [next, current + next];
    return current * unit;
  };
}

/** Puts an upper bound on another policy, so that waiting times stop growing at the ceiling. */
export function capped(policy: BackoffPolicy, ceiling: number): BackoffPolicy {
  return (retry) => Math.min(ceiling, policy(retry));
}

/**
 * Draws each pause at random between zero and what the inner policy proposes, known as full jitter. It keeps many clients
 * that failed together from coming back in step.
 *
 * @param random - source of numbers in [0, 1), replaceable for reproducible tests
 */
export function withJitter(policy: BackoffPolicy, random: () => number = Math.random): BackoffPolicy {
  return (retry) => Math.floor(random() * policy(retry));
}

/** Lists the pauses a policy would prescribe for a run of retries, handy for documentation and for checking a configuration. */
export function schedulePreview(policy: BackoffPolicy, retries: number): number[] {
  return Array.from({ length: retries }, (_unused, i) => policy(i + 1));
}

/** Tells whether an HTTP status code points to a passing trouble, such as throttling or an overloaded gateway, that may clear up by itself. */
export function isTransientStatus(status: number): boolean {
  return [408, 425, 429, 500, 502, 503, 504].includes(status);
}

/**
 * Repeats a check at a steady interval until it returns something other than `undefined`, as when waiting for a job on a server to finish.
 * Gives up with an error after `maxPolls` unsuccessful looks.
 */
export async function poll<T>(check: () => Promise<T | undefined>, interval: number, maxPolls: number, sleep: Sleep): Promise<T> {
  for (let i = 0; i < maxPolls; i++) {
    if (i > 0) await sleep(interval);
    const found = await check();
    if (found !== undefined) return found;
  }
  throw new Error(`no result after ${maxPolls} polls`);
}

/**
 * Tries alternative sources in order of preference and returns the first answer; only if every one fails are all the errors
 * thrown together as an AggregateError.
 */
export async function firstAvailable<T>(sources: Iterable<() => Promise<T>>): Promise<T> {
  const errors: unknown[] = [];
  for (const source of sources) {
    try {
      return await source();
    } catch (error) {
      errors.push(error);
    }
  }
  throw new AggregateError(errors, 'every source failed');
}

/** Stops calling a dependency that keeps failing: after a run of errors the circuit opens and calls are refused until a cooling period has passed. */
export class CircuitBreaker {
  private failures = 0;
  private openedAt: number | undefined;

  constructor(
    private readonly threshold: number,
    private readonly coolDown: number,
    private readonly now: () => number,
  ) {}

  /** Says whether calls are let through, are blocked, or a single trial is due after the cooling period. */
  get state(): 'closed' | 'open' | 'half-open' {
    if (this.openedAt === undefined) return 'closed';
    return this.now() - this.openedAt >= this.coolDown ? 'half-open' : 'open';
  }

  /** Executes an operation under protection: rejects at once while the circuit is open, and counts the result otherwise. */
  async call<T>(operation: () => Promise<T>): Promise<T> {
    if (this.state === 'open') throw new Error('circuit is open');
    if (this.openedAt !== undefined) this.openedAt = this.now();
    try {
      const value = await operation();
      this.reset();
      return value;
    } catch (error) {
      this.failures++;
      if (this.failures >= this.threshold) this.openedAt = this.now();
      throw error;
    }
  }

  /** Closes the circuit by hand and forgets past failures, for example after an operator fixed the outage. */
  reset(): void {
    this.failures = 0;
    this.openedAt = undefined;
  }
}

/** Caps how many retries may be spent overall, earning a fraction of a token back per success, so that retry storms die out. */
export class RetryBudget {
  private tokens: number;

  constructor(private readonly capacity: number, private readonly refund = 0.1) {
    this.tokens = capacity;
  }

  /** Takes one token for a retry about to be made; false means the budget is exhausted and the error should be surfaced. */
  trySpend(): boolean {
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    return true;
  }

  /** Credits a successful request, up to the initial capacity. */
  recordSuccess(): void {
    this.tokens = Math.min(this.capacity, this.tokens + this.refund);
  }
}
