import type { Action, Reducer } from './store';

/** A normalized table: records by identifier plus the order in which to show them. */
export interface EntityTable<T> {
  readonly ids: readonly string[];
  readonly byId: Readonly<Record<string, T>>;
}

/** The life of a remote request as the user interface sees it. */
export type Remote<T> =
  | { status: 'idle' }
  | { status: 'loading'; stale?: T }
  | { status: 'ready'; data: T }
  | { status: 'failed'; error: string; stale?: T };

/**
 * Merges one reducer per key into a reducer of the whole object, returning the very same object when no slice has changed.
 * @param slices a reducer for each property of the state
 */
export function combineReducers<S extends object, A extends Action>(slices: { [K in keyof S]: Reducer<S[K], A> }): Reducer<S, A> {
  return (state, action) => {
    let changed = false;
    const next = { ...state };
    for (const key of Object.keys(slices) as Array<keyof S>) {
      next[key] = slices[key](state[key], action);
      changed ||= next[key] !== state[key];
    }
    return changed ? next : state;
  };
}

/** Runs several reducers over the same state one after another, each seeing the result of the one before. */
export function chainReducers<S, A extends Action>(...reducers: Array<Reducer<S, A>>): Reducer<S, A> {
  return (state, action) => reducers.reduce((acc, reduce) => reduce(acc, action), state);
}

/** Builds a reducer from a lookup of case functions by action type, instead of a long switch; unknown types leave the state alone. */
export function createReducer<S, A extends Action>(cases: { [T in A['type']]?: (state: S, action: Extract<A, { type: T }>) => S }): Reducer<S, A> {
  return (state, action) => {
    const type = action.type as A['type'];
    if (!Object.hasOwn(cases, type)) return state;
    const handle = cases[type] as ((state: S, action: A) => S) | undefined;
    return handle ? handle(state, action) : state;
  };
}

/** Wraps a reducer so that one particular action type, for instance `logout`, throws everything away and starts over from the initial state. */
export const resettable = <S, A extends Action>(reducer: Reducer<S, A>, initial: S, resetType: string): Reducer<S, A> =>
  (state, action) => (action.type === resetType ? initial : reducer(state, action));

/** Limits a reducer to actions that pass a test, so that many instances of a widget can share one action type and still stay separate. */
export function filterActions<S, A extends Action>(reducer: Reducer<S, A>, accepts: (action: A) => boolean): Reducer<S, A> {
  return (state, action) => (accepts(action) ? reducer(state, action) : state);
}

/** Makes an action creator for a type; the creator carries its type and a guard that narrows unknown actions to it. */
export function defineAction<P, T extends string = string>(type: T) {
  const create = (payload: P) => ({ type, payload });
  const match = (action: Action): action is { type: T; payload: P } => action.type === type;
  return Object.assign(create, { type, match });
}

/** Inserts or replaces records of a normalized table. New ids go to the end, known ones keep their place. */
export function upsertEntities<T extends { id: string }>(table: EntityTable<T>, records: readonly T[]): EntityTable<T> {
  if (records.length === 0) return table;
  const byId: Record<string, T> = { ...table.byId };
  const ids = [...table.ids];
  for (const record of records) {
    if (!Object.hasOwn(byId, record.id)) ids.push(record.id);
    byId[record.id] = record;
  }
  return { ids, byId };
}

/** Drops one record from a normalized table by id, giving back the same table if it was not in there. */
export function removeEntity<T>(table: EntityTable<T>, id: string): EntityTable<T> {
  if (!Object.hasOwn(table.byId, id)) return table;
  const { [id]: _gone, ...byId } = table.byId;
  return { ids: table.ids.filter((other) => other !== id), byId: byId as Record<string, T> };
}

/** Applies partial changes to a stored record, leaving its other fields and all other records untouched. */
export function patchEntity<T extends object>(table: EntityTable<T>, id: string, changes: Partial<T>): EntityTable<T> {
  const old = Object.hasOwn(table.byId, id) ? table.byId[id] : undefined;
  if (old === undefined) return table;
  const keys = Object.keys(changes) as Array<keyof T>;
  if (keys.every((key) => Object.is(old[key], changes[key]))) return table;
  return { ids: table.ids, byId: { ...table.byId, [id]: { ...old, ...changes } } };
}

/** Moves a remote resource to loading while holding on to the data it had, so that the screen need not go blank during a refresh. */
export function startLoading<T>(remote: Remote<T>): Remote<T> {
  if (remote.status === 'ready') return { status: 'loading', stale: remote.data };
  if (remote.status === 'failed' && remote.stale !== undefined) return { status: 'loading', stale: remote.stale };
  return remote.status === 'loading' ? remote : { status: 'loading' };
}

/** Picks one of four renderings according to the phase a request is in, with the compiler checking that none is forgotten. */
export function matchRemote<T, R>(
  remote: Remote<T>,
  on: { idle: () => R; loading: (stale?: T) => R; ready: (data: T) => R; failed: (error: string) => R },
): R {
  switch (remote.status) {
    case 'idle':
      return on.idle();
    case 'loading':
      return on.loading(remote.stale);
    case 'ready':
      return on.ready(remote.data);
    case 'failed':
      return on.failed(remote.error);
  }
}

/**
 * Shows the expected outcome of a change before the server confirms it: pending actions are replayed on top of the confirmed state.
 * @returns the state that the user should see
 */
export function optimisticView<S, A extends Action>(confirmed: S, pending: ReadonlyArray<{ id: number; action: A }>, reducer: Reducer<S, A>): S {
  const inOrder = [...pending].sort((a, b) => a.id - b.id);
  return inOrder.reduce((state, { action }) => reducer(state, action), confirmed);
}
