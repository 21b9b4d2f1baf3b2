import { addDays, addMonths, daysInMonth, fromDayNumber, toDayNumber, weekday } from './calendar';
import type { CalendarDate } from './calendar';

/** A rule for an event that comes back: every so many days, weeks, months or years from its first date on. */
export interface Recurrence {
  first: CalendarDate;
  unit: 'day' | 'week' | 'month' | 'year';
  /** Repeat every `every` units; 2 with weeks means fortnightly. */
  every: number;
  /** The last date that is allowed, if the series ends. */
  until?: CalendarDate;
}

/**
 * Computes the n-th date of a series directly from the first one, so that a monthly event on the 31st does not drift after passing a short month.
 */
export function nthOccurrence(rule: Recurrence, n: number): CalendarDate {
  const steps = n * rule.every;
  switch (rule.unit) {
    case 'day':
      return addDays(rule.first, steps);
    case 'week':
      return addDays(rule.first, steps * 7);
    case 'month':
      return addMonths(rule.first, steps);
    case 'year':
      return addMonths(rule.first, steps * 12);
  }
}

/**
 * Generates the dates of a repeating event one after another, without end unless the rule has a final date.
 */
export function* occurrences(rule: Recurrence): Generator<CalendarDate> {
  if (!(rule.every >= 1)) throw new RangeError('every must be at least 1');
  const last = rule.until ? toDayNumber(rule.until) : Infinity;
  for (let n = 0; ; n += 1) {
    const date = nthOccurrence(rule, n);
    if (toDayNumber(date) > last) return;
    yield date;
  }
}

/**
 * Collects the repetitions that fall within a range of days, both ends included, to fill one page of a calendar view.
 */
export function occurrencesBetween(rule: Recurrence, from: CalendarDate, to: CalendarDate): CalendarDate[] {
  const found: CalendarDate[] = [];
  for (const date of occurrences(rule)) {
    if (toDayNumber(date) > toDayNumber(to)) break;
    if (toDayNumber(date) >= toDayNumber(from)) found.push(date);
  }
  return found;
}

/**
 * The first repetition strictly later than the given day, for sending a reminder; null once the series is over.
 */
export function nextOccurrence(rule: Recurrence, after: CalendarDate): CalendarDate | null {
  for (const date of occurrences(rule)) {
    if (toDayNumber(date) > toDayNumber(after)) return date;
  }
  return null;
}

/**
 * Answers rules such as "second Tuesday of May": the n-th given weekday of a month, counted from the end for negative n.
 *
 * @param isoWeekday 1 for Monday to 7 for Sunday.
 * @returns Null when the month has no such day, as with many fifth Fridays.
 */
export function nthWeekdayOfMonth(year: number, month: number, isoWeekday: number, n: number): CalendarDate | null {
  const length = daysInMonth(year, month);
  const firstDay = 1 + ((isoWeekday - weekday({ year, month, day: 1 }) + 7) % 7);
  const lastDay = firstDay + 7 * Math.floor((length - firstDay) / 7);
  const day = n > 0 ? firstDay + 7 * (n - 1) : lastDay + 7 * (n + 1);
  if (n === 0 || day < 1 || day > length) return null;
  return { year, month, day };
}

/**
 * Advances by working days, stepping over weekends and any listed public holidays. Used for delivery dates and payment terms.
 *
 * @param holidays Day numbers as made by `toDayNumber`.
 */
export function addBusinessDays(
  date: CalendarDate,
  days: number,
  holidays: ReadonlySet<number> = new Set(),
): CalendarDate {
  const direction = days < 0 ? -1 : 1;
  let current = date;
  for (let left = Math.abs(days); left > 0; ) {
    current = addDays(current, direction);
    if (weekday(current) <= 5 && !holidays.has(toDayNumber(current))) left -= 1;
  }
  return current;
}

/**
 * Counts Mondays to Fridays from one date up to, but without, another. Whole weeks are multiplied out, not walked through.
 */
export function countWeekdays(from: CalendarDate, to: CalendarDate): number {
  const start = toDayNumber(from);
  const span = Math.max(toDayNumber(to) - start, 0);
  const weeks = Math.floor(span / 7);
  let count = weeks * 5;
  for (let serial = start + weeks * 7; serial < start + span; serial += 1) {
    if (weekday(fromDayNumber(serial)) <= 5) count += 1;
  }
  return count;
}

/**
 * Shifts a due date that hits a Saturday or Sunday to the following Monday, unless that is in the next month, in which case back to Friday.
 * Bankers call this the modified following convention.
 */
export function modifiedFollowing(date: CalendarDate): CalendarDate {
  const day = weekday(date);
  if (day <= 5) return date;
  const monday = addDays(date, 8 - day);
  return monday.month === date.month ? monday : addDays(date, 5 - day);
}

/**
 * Parses one field of a cron expression, with lists, ranges, steps and the asterisk, into the sorted values it allows.
 *
 * @example
 * parseCronField('1-5,10-20/5', 0, 59); // [1, 2, 3, 4, 5, 10, 15, 20]
 */
export function parseCronField(field: string, low: number, high: number): number[] {
  const values = new Set<number>();
  for (const part of field.split(',')) {
    const match = /^(?:\*|(\d+)(?:-(\d+))?)(?:\/(\d+))?$/.exec(part);
    if (!match) throw new SyntaxError(`bad cron field: ${field}`);
    const [, from, to, step = '1'] = match;
    const start = from === undefined ? low : Number(from);
    const single = from !== undefined && to === undefined && match[3] === undefined;
    const end = single ? start : to === undefined ? high : Number(to);
    if (start < low || end > high || start > end || Number(step) < 1) throw new RangeError(`cron field out of range: ${part}`);
    for (let value = start; value <= end; value += Number(step)) values.add(value);
  }
  return [...values].sort((a, b) => a - b);
}

/**
 * Measures the current run of consecutive days on which something was done, ending today or yesterday, as habit trackers show it.
 */
export function currentStreak(done: Iterable<CalendarDate>, today: CalendarDate): number {
  const days = new Set([...done].map(toDayNumber));
  const now = toDayNumber(today);
  const end = days.has(now) ? now : now - 1;
  let length = 0;
  while (days.has(end - length)) length += 1;
  return length;
}

/**
 * Next time an anniversary comes round, today included. A leap-day anniversary is kept on 28 February in ordinary years.
 */
export function upcomingAnniversary(origin: CalendarDate, today: CalendarDate): CalendarDate {
  const inYear = (year: number): CalendarDate => addMonths(origin, (year - origin.year) * 12);
  const thisYear = inYear(today.year);
  return toDayNumber(thisYear) >= toDayNumber(today) ? thisYear : inYear(today.year + 1);
}
