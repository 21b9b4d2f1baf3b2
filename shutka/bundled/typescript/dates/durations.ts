const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A span of time taken apart; all fields are whole and share the sign of the span. */
export interface DurationParts {
  days: number;
  hours: number;
  minutes: number;
  seconds: number;
  milliseconds: number;
}

/**
 * Breaks a number of milliseconds down into days, hours, minutes, seconds and the remainder.
 */
export function splitDuration(milliseconds: number): DurationParts {
  const whole = Math.trunc(milliseconds);
  return {
    days: Math.trunc(whole / DAY),
    hours: Math.trunc((whole % DAY) / HOUR),
    minutes: Math.trunc((whole % HOUR) / MINUTE),
    seconds: Math.trunc((whole % MINUTE) / SECOND),
    milliseconds: whole % SECOND,
  };
}

/**
 * Puts separate amounts of time units together to one total in milliseconds; units that are left out count as zero.
 */
export function totalMilliseconds(parts: Partial<DurationParts>): number {
  const { days = 0, hours = 0, minutes = 0, seconds = 0, milliseconds = 0 } = parts;
  return days * DAY + hours * HOUR + minutes * MINUTE + seconds * SECOND + milliseconds;
}

/**
 * Shows elapsed time like a media player, `4:05` or `1:02:09`, with the hours appearing only when there are any.
 */
export function formatClock(milliseconds: number): string {
  const total = Math.floor(Math.abs(milliseconds) / SECOND);
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  const seconds = String(total % 60).padStart(2, '0');
  const sign = milliseconds < 0 && total > 0 ? '-' : '';
  if (hours === 0) return `${sign}${minutes}:${seconds}`;
  return `${sign}${hours}:${String(minutes).padStart(2, '0')}:${seconds}`;
}

/**
 * Abbreviates a time span to its most important units, as in `2d 3h` or `450ms`, for logs and progress bars.
 *
 * @param units How many non-zero units to show at most.
 */
export function formatShort(milliseconds: number, units = 2): string {
  const parts = splitDuration(Math.abs(milliseconds));
  const labelled: [number, string][] = [
    [parts.days, 'd'],
    [parts.hours, 'h'],
    [parts.minutes, 'm'],
    [parts.seconds, 's'],
    [parts.milliseconds, 'ms'],
  ];
  const shown = labelled.filter(([amount]) => amount > 0).slice(0, units);
  if (shown.length === 0) return '0ms';
  return (milliseconds < 0 ? '-' : '') + shown.map(([amount, unit]) => amount + unit).join(' ');
}

/**
 * Spells a duration out in English words, every unit with its proper plural, leaving fractions of a second aside.
 */
export function formatWords(milliseconds: number): string {
  const parts = splitDuration(Math.abs(milliseconds));
  const words = (['days', 'hours', 'minutes', 'seconds'] as const)
    .filter((unit) => parts[unit] > 0)
    .map((unit) => `${parts[unit]} ${parts[unit] === 1 ? unit.slice(0, -1) : unit}`);
  return words.length === 0 ? '0 seconds' : words.join(', ');
}

/**
 * Describes an instant relative to now in the loose manner of a news feed: `just now`, `5 minutes ago`, `in 3 days`.
 *
 * @param now The moment of reference in epoch milliseconds.
 */
export function timeAgo(instant: number, now: number): string {
  const gap = Math.abs(now - instant);
  if (gap < 45 * SECOND) return 'just now';
  const scales: [number, string][] = [[365 * DAY, 'year'], [30 * DAY, 'month'], [7 * DAY, 'week'], [DAY, 'day'], [HOUR, 'hour']];
  const [size, unit] = scales.find(([limit]) => gap >= limit) ?? [MINUTE, 'minute'];
  const count = Math.max(Math.floor(gap / size), 1);
  const phrase = `${count} ${unit}${count === 1 ? '' : 's'}`;
  return instant > now ? `in ${phrase}` : `${phrase} ago`;
}

/**
 * Parses human input such as `1h 30m`, `2.5 days` or `45s` to milliseconds, as found in configuration files.
 *
 * @throws SyntaxError when anything other than amounts with units is present.
 */
export function parseDuration(text: string): number {
  const sizes: Record<string, number> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY };
  const token = /\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|(?:sec|second|min|minute|hour|day|week)s?)(?![a-z])\s*/iy;
  let total = 0;
  if (text.trim() === '') throw new SyntaxError('empty duration');
  while (token.lastIndex < text.length) {
    const match = token.exec(text);
    if (!match) throw new SyntaxError(`bad duration: ${text}`);
    const unit = match[2]!.toLowerCase();
    total += Number(match[1]) * (sizes[unit] ?? sizes[unit.charAt(0)]!);
  }
  return total;
}

/**
 * Encodes a non-negative span as an ISO 8601 duration, for example `P1DT2H0.5S`. Days are the largest unit, since months vary.
 */
export function toIsoDuration(milliseconds: number): string {
  if (milliseconds < 0) throw new RangeError('negative durations have no ISO form');
  const { days, hours, minutes, seconds, milliseconds: rest } = splitDuration(milliseconds);
  const date = days > 0 ? `${days}D` : '';
  const clock = [
    hours > 0 ? `${hours}H` : '',
    minutes > 0 ? `${minutes}M` : '',
    seconds > 0 || rest > 0 ? `${(seconds * 1000 + rest) / 1000}S` : '',
  ].join('');
  return date + clock === '' ? 'PT0S' : `P${date}${clock && `T${clock}`}`;
}

/**
 * Decodes the ISO 8601 notation with weeks, days, hours, minutes and seconds. Years and months are rejected because their length is not fixed.
 *
 * @returns Milliseconds, or null when the text is not such a duration.
 */
export function fromIsoDuration(text: string): number | null {
  const pattern = /^P(?=.)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:[.,]\d+)?)S)?)?$/;
  const match = pattern.exec(text);
  if (!match) return null;
  const [weeks, days, hours, minutes, seconds] = match.slice(1).map((part) => Number((part ?? '0').replace(',', '.')));
  return Math.round(weeks! * 7 * DAY + days! * DAY + hours! * HOUR + minutes! * MINUTE + seconds! * SECOND);
}

/**
 * Estimates the time still to go for a job from how long the finished share took, assuming a steady pace.
 *
 * @returns Infinity as long as nothing is done.
 */
export function estimateRemaining(elapsed: number, done: number, total: number): number {
  if (done >= total) return 0;
  if (done <= 0) return Infinity;
  return (elapsed / done) * (total - done);
}

/** A function that tells the current time in milliseconds, so that tests can supply their own. */
export type Clock = () => number;

/** Measures elapsed time across pauses. */
export class Stopwatch {
  private accumulated = 0;
  private startedAt: number | null = null;

  constructor(private readonly clock: Clock) {}

  /** Begins or resumes the measurement; does nothing when it is already running. */
  start(): void {
    this.startedAt ??= this.clock();
  }

  /** Halts the watch and keeps what has accumulated so far. */
  pause(): void {
    this.accumulated = this.elapsed();
    this.startedAt = null;
  }

  /** Time spent running since creation, the current lap included. */
  elapsed(): number {
    const current = this.startedAt === null ? 0 : this.clock() - this.startedAt;
    return this.accumulated + current;
  }
}

/**
 * Runs an asynchronous task and reports how long it took along with what it returned.
 */
export async function timed<T>(task: () => Promise<T>, clock: Clock): Promise<{ result: T; took: number }> {
  const start = clock();
  const result = await task();
  return { result, took: clock() - start };
}
