/** A value with the states before it and the states that were undone. */
export interface History<T> {
  readonly past: readonly T[];
  readonly present: T;
  readonly future: readonly T[];
}

/** A step that can be carried out and taken back. */
export interface Command<T> {
  readonly label: string;
  apply(state: T): T;
  revert(state: T): T;
}

/** Starts an undo history around an initial value with nothing to undo or redo yet. */
export const newHistory = <T>(present: T): History<T> => ({ past: [], present, future: [] });

/**
 * Records a new present, pushing the old one onto the undo stack and clearing the redo stack. The oldest steps fall off beyond the limit.
 * @param limit how many steps may be undone
 */
export function commit<T>(history: History<T>, next: T, limit = 100): History<T> {
  if (Object.is(next, history.present)) return history;
  const past = [...history.past, history.present];
  return { past: past.slice(Math.max(0, past.length - limit)), present: next, future: [] };
}

/** Steps back to the previous state, remembering the current one for redo; does nothing at the beginning of time. */
export function undo<T>(history: History<T>): History<T> {
  if (history.past.length === 0) return history;
  const previous = history.past[history.past.length - 1] as T;
  return { past: history.past.slice(0, -1), present: previous, future: [history.present, ...history.future] };
}

/** Brings back the state that was most recently undone, if there is one. */
export function redo<T>(history: History<T>): History<T> {
  if (history.future.length === 0) return history;
  const [next, ...future] = history.future;
  return { past: [...history.past, history.present], present: next as T, future };
}

/** Travels several steps at once, backwards for a negative distance and forwards for a positive one, stopping at either end. */
export function jump<T>(history: History<T>, distance: number): History<T> {
  const timeline = [...history.past, history.present, ...history.future];
  const here = history.past.length;
  const target = Math.min(timeline.length - 1, Math.max(0, here + Math.trunc(distance)));
  if (target === here) return history;
  return { past: timeline.slice(0, target), present: timeline[target] as T, future: timeline.slice(target + 1) };
}

/** Changes the present in place without making an undo step, for transient edits such as the position of a drag in progress. */
export function replacePresent<T>(history: History<T>, present: T): History<T> {
  return Object.is(present, history.present) ? history : { ...history, present };
}

/** Collapses the last few steps into one, so that a whole gesture is undone together. */
export function squash<T>(history: History<T>, steps: number): History<T> {
  const merged = Math.min(Math.max(0, Math.trunc(steps) - 1), Math.max(0, history.past.length - 1));
  if (merged === 0) return history;
  return { ...history, past: history.past.slice(0, history.past.length - merged) };
}

/**
 * Commits typing so that keystrokes within a short pause of each other belong to the same undo step.
 * @param windowMs the longest gap, in milliseconds, that still counts as the same burst
 */
export function burstCommitter<T>(windowMs: number): (history: History<T>, next: T, now: number) => History<T> {
  let lastAt = Number.NEGATIVE_INFINITY;
  return (history, next, now) => {
    const sameBurst = now - lastAt <= windowMs && history.past.length > 0;
    lastAt = now;
    return sameBurst ? { past: history.past, present: next, future: [] } : commit(history, next);
  };
}

/** Maps every state of a history through a function, as when saved documents must be upgraded to a new format. */
export function mapHistory<A, B>(history: History<A>, convert: (state: A) => B): History<B> {
  return {
    past: history.past.map((state) => convert(state)),
    present: convert(history.present),
    future: history.future.map((state) => convert(state)),
  };
}

/** Undo by inverse operations rather than snapshots: keeps the commands that were run and reverts them in reverse order. */
export class CommandStack<T> {
  private readonly done: Array<Command<T>> = [];
  private readonly undone: Array<Command<T>> = [];
  private savedAt = 0;

  constructor(private current: T) {}

  /** The state after all commands that are presently in effect. */
  get state(): T {
    return this.current;
  }

  /** Executes a command and puts it on the stack, which discards those waiting to be redone. */
  run(command: Command<T>): T {
    if (this.savedAt > this.done.length) this.savedAt = -1;
    this.undone.length = 0;
    this.done.push(command);
    return (this.current = command.apply(this.current));
  }

  /** Reverts the latest command and tells its label for the menu, or undefined when nothing is left. */
  undo(): string | undefined {
    const command = this.done.pop();
    if (!command) return undefined;
    this.undone.push(command);
    this.current = command.revert(this.current);
    return command.label;
  }

  /** Runs again the command that was last reverted. */
  redo(): string | undefined {
    const command = this.undone.pop();
    if (!command) return undefined;
    this.done.push(command);
    this.current = command.apply(this.current);
    return command.label;
  }

  /** Remembers this point as the one on disk, against which unsaved changes are judged. */
  markSaved(): void {
    this.savedAt = this.done.length;
  }

  /** Answers whether the document differs from its last saved version, taking undo back to that version into account. */
  isDirty(): boolean {
    return this.savedAt !== this.done.length;
  }
}

/** Bundles several commands into one that reverts its parts from last to first, like a database transaction. */
export function transaction<T>(label: string, commands: ReadonlyArray<Command<T>>): Command<T> {
  return {
    label,
    apply: (state) => commands.reduce((acc, command) => command.apply(acc), state),
    revert: (state) => commands.reduceRight((acc, command) => command.revert(acc), state),
  };
}
