/** One step in turning an old sequence into a new one. */
export type Edit<T> = { kind: 'keep' | 'insert' | 'delete'; item: T };

/** A contiguous replacement: `remove` items at `at` give way to `insert`. */
export interface Splice<T> {
  at: number;
  remove: number;
  insert: T[];
}

function lcsTable<T>(a: readonly T[], b: readonly T[]): Uint32Array[] {
  const table = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const row = table[i] as Uint32Array;
      const below = table[i + 1] as Uint32Array;
      row[j] = a[i] === b[j] ? (below[j + 1] ?? 0) + 1 : Math.max(below[j] ?? 0, row[j + 1] ?? 0);
    }
  }
  return table;
}

/** Extracts a longest subsequence that two lists have in common, not necessarily contiguous. */
export function longestCommonSubsequence<T>(a: readonly T[], b: readonly T[]): T[] {
  return diffSequences(a, b).filter((edit) => edit.kind === 'keep').map((edit) => edit.item);
}

/**
 * Computes a minimal edit script of kept, deleted and inserted items between two lists; deletions come before insertions at the same place.
 */
export function diffSequences<T>(a: readonly T[], b: readonly T[]): Array<Edit<T>> {
  const table = lcsTable(a, b);
  const edits: Array<Edit<T>> = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      edits.push({ kind: 'keep', item: a[i++] as T });
      j++;
    } else if (j >= b.length || (i < a.length && (table[i + 1]?.[j] ?? 0) >= (table[i]?.[j + 1] ?? 0))) {
      edits.push({ kind: 'delete', item: a[i++] as T });
    } else {
      edits.push({ kind: 'insert', item: b[j++] as T });
    }
  }
  return edits;
}

/** Compares two texts line by line. */
export const diffLines = (before: string, after: string): Array<Edit<string>> =>
  diffSequences(before.split('\n'), after.split('\n'));

/** Compares two texts word by word, with whitespace as separate items so that concatenating the items restores either text. */
export function diffWords(before: string, after: string): Array<Edit<string>> {
  const pieces = (text: string): string[] => text.match(/\s+|[^\s]+/g) ?? [];
  return diffSequences(pieces(before), pieces(after));
}

/** Prints an edit script with the familiar `+`, `-` and blank prefixes, one item per line. */
export function formatDiff(edits: ReadonlyArray<Edit<string>>): string {
  const sign = { keep: ' ', insert: '+', delete: '-' } as const;
  return edits.map((edit) => `${sign[edit.kind]} ${edit.item}`).join('\n');
}

/** Condenses an edit script into splices against the old sequence, merging adjacent insertions and deletions. */
export function toSplices<T>(edits: ReadonlyArray<Edit<T>>): Array<Splice<T>> {
  const splices: Array<Splice<T>> = [];
  let at = 0;
  let open: Splice<T> | undefined;
  for (const edit of edits) {
    if (edit.kind === 'keep') {
      open = undefined;
      at++;
      continue;
    }
    if (!open) splices.push((open = { at, remove: 0, insert: [] }));
    if (edit.kind === 'insert') open.insert.push(edit.item);
    else [open.remove, at] = [open.remove + 1, at + 1];
  }
  return splices;
}

/** Applies splices to the sequence they were computed from, last to first so that positions stay valid. */
export function applySplices<T>(items: readonly T[], splices: ReadonlyArray<Splice<T>>): T[] {
  const out = [...items];
  for (const { at, remove, insert } of [...splices].sort((a, b) => b.at - a.at)) {
    if (at + remove > items.length) throw new RangeError('Splice reaches beyond the end');
    out.splice(at, remove, ...insert);
  }
  return out;
}

/** Swaps insertions and deletions, giving the script that undoes a change. */
export function invertDiff<T>(edits: ReadonlyArray<Edit<T>>): Array<Edit<T>> {
  const opposite = { keep: 'keep', insert: 'delete', delete: 'insert' } as const;
  return edits.map(({ kind, item }) => ({ kind: opposite[kind], item }));
}

/** Counts added and removed lines, the figures shown next to a commit. */
export function diffStat(edits: ReadonlyArray<Edit<unknown>>): { added: number; removed: number } {
  let added = 0;
  let removed = 0;
  for (const { kind } of edits) {
    if (kind === 'insert') added++;
    else if (kind === 'delete') removed++;
  }
  return { added, removed };
}

/**
 * Groups the changes of a diff into hunks, each surrounded by a few unchanged items for context.
 * @param context how many unchanged items to show before and after a change
 */
export function hunks<T>(edits: ReadonlyArray<Edit<T>>, context = 3): Array<Array<Edit<T>>> {
  const out: Array<Array<Edit<T>>> = [];
  let lastShown = -2;
  edits.forEach((edit, i) => {
    const shown = edits.slice(Math.max(0, i - context), i + context + 1).some((near) => near.kind !== 'keep');
    if (!shown) return;
    if (i === lastShown + 1 && out.length > 0) (out[out.length - 1] as Array<Edit<T>>).push(edit);
    else out.push([edit]);
    lastShown = i;
  });
  return out;
}

/** Merges two independent edits of a common ancestor field by field; fields that both sides changed differently are reported as conflicts. */
export function threeWayMerge<T extends object>(base: T, ours: T, theirs: T): { merged: T; conflicts: Array<keyof T> } {
  const merged = { ...ours };
  const conflicts: Array<keyof T> = [];
  for (const key of Object.keys({ ...base, ...ours, ...theirs }) as Array<keyof T>) {
    if (Object.is(theirs[key], base[key]) || Object.is(theirs[key], ours[key])) continue;
    if (!Object.is(ours[key], base[key])) conflicts.push(key);
    else if (key in theirs) merged[key] = theirs[key];
    else delete merged[key];
  }
  return { merged, conflicts };
}
