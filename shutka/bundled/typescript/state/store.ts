/** Anything dispatched to a store: a tag plus whatever the reducer needs. */
export interface Action {
  readonly type: string;
}

/** A pure function from the old state and an action to the next state. */
export type Reducer<S, A extends Action> = (state: S, action: A) => S;

/** Removes a listener when called. */
export type Unsubscribe = () => void;

/** The smallest store that a view needs. */
export interface Readable<S> {
  getState(): S;
  subscribe(listener: (state: S, previous: S) => void): Unsubscribe;
}

/** Holds a single state value and replaces it by running actions through a reducer. */
export class Store<S, A extends Action> implements Readable<S> {
  private readonly listeners = new Set<(state: S, previous: S) => void>();
  private dispatching = false;

  constructor(private reducer: Reducer<S, A>, private state: S) {}

  /** Reads the current snapshot. */
  getState(): S {
    return this.state;
  }

  /** Sends an action to the reducer and notifies subscribers if the state object changed. Reducers themselves must not dispatch. */
  dispatch(action: A): A {
    if (this.dispatching) throw new Error('Reducers may not dispatch actions');
    const previous = this.state;
    this.dispatching = true;
    try {
      this.state = this.reducer(previous, action);
    } finally {
      this.dispatching = false;
    }
    if (this.state !== previous) for (const listener of [...this.listeners]) listener(this.state, previous);
    return action;
  }

  /** Registers a callback for every change and hands back a function that detaches it again. */
  subscribe(listener: (state: S, previous: S) => void): Unsubscribe {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  /** Swaps in another reducer while keeping the data, as hot reloading and lazily loaded features require. */
  replaceReducer(next: Reducer<S, A>): void {
    this.reducer = next;
  }
}

/**
 * Creates a store without actions, in the manner of a signal: `set` takes an updater and ignores writes that change nothing.
 * @param equals decides what counts as no change
 */
export function createAtom<T>(initial: T, equals: (a: T, b: T) => boolean = Object.is) {
  let value = initial;
  const listeners = new Set<(state: T, previous: T) => void>();
  return {
    getState: (): T => value,
    set(update: (current: T) => T): void {
      const previous = value;
      const next = update(previous);
      if (equals(previous, next)) return;
      value = next;
      for (const listener of [...listeners]) listener(next, previous);
    },
    subscribe(listener: (state: T, previous: T) => void): Unsubscribe {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** Watches only a slice of a store: the callback fires when the selected part differs from what it was, not on every change. */
export function subscribeTo<S, T>(
  store: Readable<S>,
  select: (state: S) => T,
  onChange: (value: T, previous: T) => void,
  equals: (a: T, b: T) => boolean = Object.is,
): Unsubscribe {
  let last = select(store.getState());
  return store.subscribe((state) => {
    const next = select(state);
    if (equals(last, next)) return;
    const previous = last;
    last = next;
    onChange(next, previous);
  });
}

/** Resolves with the first state that satisfies a predicate, immediately if the present one already does. */
export function waitFor<S>(store: Readable<S>, predicate: (state: S) => boolean): Promise<S> {
  return new Promise((resolve) => {
    if (predicate(store.getState())) return resolve(store.getState());
    const stop = store.subscribe((state) => {
      if (!predicate(state)) return;
      stop();
      resolve(state);
    });
  });
}

/** Combines two stores into a read-only third whose state is computed from both of theirs. */
export function combineStores<A, B, T>(left: Readable<A>, right: Readable<B>, merge: (a: A, b: B) => T): Readable<T> {
  const compute = (): T => merge(left.getState(), right.getState());
  return {
    getState: compute,
    subscribe(listener) {
      let last = compute();
      const update = (): void => {
        const previous = last;
        last = compute();
        if (!Object.is(last, previous)) listener(last, previous);
      };
      const stops = [left.subscribe(update), right.subscribe(update)];
      return () => stops.forEach((stop) => stop());
    },
  };
}

/**
 * Delivers notifications in one go: listeners added through the returned store stay silent while `batch` runs and hear of the final state once it ends.
 */
export function batched<S>(store: Readable<S>): Readable<S> & { batch(work: () => void): void } {
  let depth = 0;
  const flushes = new Set<() => void>();
  return {
    getState: () => store.getState(),
    subscribe(listener) {
      let seen = store.getState();
      const flush = (): void => {
        const state = store.getState();
        if (depth > 0 || Object.is(state, seen)) return;
        const previous = seen;
        seen = state;
        listener(state, previous);
      };
      flushes.add(flush);
      const stop = store.subscribe(flush);
      return () => {
        flushes.delete(flush);
        stop();
      };
    },
    batch(work) {
      depth++;
      try {
        work();
      } finally {
        depth--;
        for (const flush of [...flushes]) flush();
      }
    },
  };
}

/** Saves the state through the given writer whenever it changes, at most once per turn of the event loop. */
export function persist<S>(store: Readable<S>, write: (json: string) => void): Unsubscribe {
  let pending = false;
  return store.subscribe(() => {
    if (pending) return;
    pending = true;
    void Promise.resolve().then(() => {
      pending = false;
      write(JSON.stringify(store.getState()));
    });
  });
}

/** Restores saved state from JSON, falling back to the default when the text is missing, broken or rejected by the validator. */
export function rehydrate<S>(json: string | null, fallback: S, isValid: (value: unknown) => value is S): S {
  if (json === null) return fallback;
  try {
    const value: unknown = JSON.parse(json);
    return isValid(value) ? value : fallback;
  } catch {
    return fallback;
  }
}

/** Lets thunks be dispatched: functions that receive dispatch and getState, run side effects, and dispatch plain actions when they are done. */
export function withThunks<S, A extends Action>(store: Store<S, A>) {
  type Thunk<R> = (dispatch: (action: A) => A, getState: () => S) => R;
  return function run<R>(thunk: Thunk<R>): R {
    return thunk((action) => store.dispatch(action), () => store.getState());
  };
}

/** Records every action together with the state after it, up to a limit, for a debugging panel to replay. */
export function recordActions<S, A extends Action>(reducer: Reducer<S, A>, limit = 100) {
  const log: Array<{ action: A; state: S }> = [];
  const recording: Reducer<S, A> = (state, action) => {
    const next = reducer(state, action);
    log.push({ action, state: next });
    if (log.length > limit) log.shift();
    return next;
  };
  return { reducer: recording, log: log as ReadonlyArray<{ action: A; state: S }> };
}
