/** A half-open stretch of time in epoch milliseconds: the start belongs to it and the end does not. */
export interface Interval {
  readonly start: number;
  readonly end: number;
}

/**
 * Creates an interval after checking that it does not end before it begins.
 */
export function interval(start: number, end: number): Interval {
  if (!(start <= end)) throw new RangeError('interval ends before it starts');
  return { start, end };
}

/**
 * Whether an instant lies inside; the closing moment is already outside.
 */
export const contains = ({ start, end }: Interval, instant: number): boolean => start <= instant && instant < end;

/**
 * Detects a clash between two bookings. Meetings that merely touch, one ending as the next begins, do not clash.
 */
export function overlaps(a: Interval, b: Interval): boolean {
  return a.start < b.end && b.start < a.end;
}

/**
 * The period common to two intervals, or null if they have none.
 */
export function intersect(a: Interval, b: Interval): Interval | null {
  const start = Math.max(a.start, b.start);
  const end = Math.min(a.end, b.end);
  return start < end ? { start, end } : null;
}

/**
 * Joins overlapping and adjoining intervals to the shortest ordered list that covers the same time.
 */
export function mergeIntervals(intervals: Iterable<Interval>): Interval[] {
  const merged: Interval[] = [];
  for (const next of [...intervals].sort((a, b) => a.start - b.start)) {
    const last = merged[merged.length - 1];
    if (last && next.start <= last.end) {
      merged[merged.length - 1] = { start: last.start, end: Math.max(last.end, next.end) };
    } else {
      merged.push(next);
    }
  }
  return merged;
}

/**
 * Cuts busy periods out of a working day and returns the free slots that remain.
 *
 * @param within The span in which time is offered.
 * @param busy Appointments in any order, possibly overlapping.
 * @param minimum Slots shorter than this are not worth reporting.
 */
export function freeSlots(within: Interval, busy: Iterable<Interval>, minimum = 0): Interval[] {
  const free: Interval[] = [];
  let cursor = within.start;
  for (const { start, end } of mergeIntervals(busy)) {
    if (start > cursor) free.push({ start: cursor, end: Math.min(start, within.end) });
    cursor = Math.max(cursor, end);
    if (cursor >= within.end) break;
  }
  if (cursor < within.end) free.push({ start: cursor, end: within.end });
  return free.filter((slot) => slot.end > slot.start && slot.end - slot.start >= minimum);
}

/**
 * Finds the times at which everybody is available, given the free periods of each person.
 */
export function commonAvailability(people: readonly (readonly Interval[])[]): Interval[] {
  const [first = [], ...others] = people.map((periods) => mergeIntervals(periods));
  return others.reduce<Interval[]>(
    (shared, periods) => shared.flatMap((a) => periods.flatMap((b) => intersect(a, b) ?? [])),
    first,
  );
}

/**
 * How many bookings run at the same time at the busiest moment, which is the number of rooms needed.
 */
export function peakConcurrency(intervals: Iterable<Interval>): number {
  const events = [...intervals]
    .filter(({ start, end }) => start < end)
    .flatMap(({ start, end }) => [{ at: start, change: 1 }, { at: end, change: -1 }])
    .sort((a, b) => a.at - b.at || a.change - b.change);
  let running = 0;
  let peak = 0;
  for (const { change } of events) {
    running += change;
    peak = Math.max(peak, running);
  }
  return peak;
}

/**
 * Sums up the time covered by any of the intervals, counting stretches that several share only once.
 */
export function coveredTime(intervals: Iterable<Interval>): number {
  return mergeIntervals(intervals).reduce((total, { start, end }) => total + (end - start), 0);
}

/**
 * Divides a period into consecutive pieces of fixed length, such as half-hour slots for a booking form; the last piece is cut off at the end.
 */
export function* subdivide({ start, end }: Interval, length: number): Generator<Interval> {
  if (!(length > 0)) throw new RangeError('length must be positive');
  for (let from = start; from < end; from += length) {
    yield { start: from, end: Math.min(from + length, end) };
  }
}

/**
 * Widens an interval by a margin on both sides, for instance travel time around a meeting. A negative margin shrinks it, at most to its midpoint.
 */
export function padInterval({ start, end }: Interval, margin: number): Interval {
  const inset = Math.max(margin, -(end - start) / 2);
  return { start: start - inset, end: end + inset };
}

/**
 * Selects the largest number of events that can be attended without conflict, by always taking the one that finishes earliest.
 */
export function scheduleMost(events: Iterable<Interval>): Interval[] {
  const chosen: Interval[] = [];
  let freeFrom = -Infinity;
  for (const event of [...events].sort((a, b) => a.end - b.end)) {
    if (event.start < freeFrom) continue;
    chosen.push(event);
    freeFrom = event.end;
  }
  return chosen;
}

/**
 * Names how one interval stands to another in time, in terms of a simplified version of Allen's relations.
 */
export function relation(a: Interval, b: Interval): 'before' | 'after' | 'equal' | 'inside' | 'around' | 'overlapping' {
  if (a.start === b.start && a.end === b.end) return 'equal';
  if (a.end <= b.start) return 'before';
  if (b.end <= a.start) return 'after';
  if (a.start >= b.start && a.end <= b.end) return 'inside';
  if (a.start <= b.start && a.end >= b.end) return 'around';
  return 'overlapping';
}
