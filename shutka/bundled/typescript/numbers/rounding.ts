/** How to break the tie when a value lies exactly halfway between two candidates. */
export type HalfRule = 'up' | 'down' | 'even' | 'away';

/**
 * Rounds to a number of decimal places by shifting the decimal exponent in text form, which avoids the usual surprise with 1.005. Ties go away from zero.
 *
 * @param places Digits after the point; a negative number rounds to tens, hundreds and so on.
 */
export function roundTo(value: number, places = 0): number {
  const shift = (x: number, by: number) => {
    const [digits, exponent = '0'] = String(x).split('e');
    return Number(`${digits}e${Number(exponent) + by}`);
  };
  if (!Number.isFinite(value)) return value;
  const rounded = shift(Math.round(shift(Math.abs(value), places)), -places);
  return value < 0 ? -rounded : rounded;
}

/**
 * Rounds to an integer under an explicit rule for halves: towards positive or negative infinity, to the even neighbour, or away from zero.
 */
export function roundHalf(value: number, rule: HalfRule): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return fraction < 0.5 ? floor : floor + 1;
  if (rule === 'up') return floor + 1;
  if (rule === 'down') return floor;
  if (rule === 'even') return floor % 2 === 0 ? floor : floor + 1;
  return value > 0 ? floor + 1 : floor;
}

/**
 * Snaps a value to the closest point of a grid, such as quarter hours or a slider that moves in steps of 5.
 *
 * @param origin A point the grid passes through.
 */
export function snapToStep(value: number, step: number, origin = 0): number {
  if (!(step > 0)) throw new RangeError('step must be positive');
  return origin + Math.round((value - origin) / step) * step;
}

/**
 * Keeps the given count of significant figures, whatever the magnitude of the number.
 *
 * @example
 * toSignificant(0.0123456, 3); // 0.0123
 */
export const toSignificant = (value: number, figures: number): number => Number(value.toPrecision(figures));

/**
 * Forces a value into an interval: below the lower limit gives the lower limit, above the upper one the upper.
 */
export function clamp(value: number, low: number, high: number): number {
  if (low > high) throw new RangeError('low must not exceed high');
  return Math.min(Math.max(value, low), high);
}

/**
 * Brings a number into the half-open range by adding or subtracting whole turns, as for angles and cyclic indices.
 */
export function wrapAround(value: number, low: number, high: number): number {
  const span = high - low;
  const offset = (value - low) % span;
  return low + (offset < 0 ? offset + span : offset);
}

/**
 * Linear interpolation between two endpoints; 0 gives the first, 1 the second, and a fraction beyond these extrapolates.
 */
export function lerp(start: number, end: number, fraction: number): number {
  return start * (1 - fraction) + end * fraction;
}

/**
 * Maps a value proportionally from one scale to another, for example from a sensor reading of 0–1023 to a percentage.
 */
export function rescale(value: number, from: readonly [number, number], to: readonly [number, number]): number {
  const [fromLow, fromHigh] = from;
  if (fromLow === fromHigh) throw new RangeError('source interval is empty');
  return lerp(to[0], to[1], (value - fromLow) / (fromHigh - fromLow));
}

/**
 * Compares floating point results with a tolerance that is relative for large numbers and absolute near zero.
 */
export function nearlyEqual(a: number, b: number, relative = 1e-9, absolute = 1e-12): boolean {
  if (a === b) return true;
  if (!Number.isFinite(a) || !Number.isFinite(b)) return false;
  const gap = Math.abs(a - b);
  return gap <= Math.max(absolute, relative * Math.max(Math.abs(a), Math.abs(b)));
}

/**
 * Picks a pleasant round number (1, 2 or 5 times a power of ten) no smaller than the input, for spacing the ticks of a chart axis.
 */
export function niceCeiling(value: number): number {
  if (!(value > 0) || !Number.isFinite(value)) throw new RangeError('value must be positive and finite');
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= value) ?? 10;
  return factor * power;
}

/**
 * Rounds shares to whole percent so that they still add up to 100, handing the missing points to those with the largest remainders.
 *
 * @param weights Non-negative amounts, of any scale.
 */
export function wholePercentages(weights: readonly number[]): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!(total > 0)) return weights.map(() => 0);
  const exact = weights.map((weight) => (weight / total) * 100);
  const floors = exact.map(Math.floor);
  const missing = Math.round(100 - floors.reduce((sum, share) => sum + share, 0));
  const byRemainder = exact.map((share, i) => ({ i, rest: share - floors[i]! })).sort((a, b) => b.rest - a.rest);
  for (const { i } of byRemainder.slice(0, missing)) floors[i]! += 1;
  return floors;
}

/**
 * Adds floating point numbers while carrying along the low-order bits that each addition loses, in the way of Kahan and Neumaier.
 * Use it where many small terms meet a few large ones.
 */
export function preciseSum(values: Iterable<number>): number {
  let sum = 0;
  let lost = 0;
  for (const value of values) {
    const next = sum + value;
    lost += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum;
    sum = next;
  }
  return sum + lost;
}

/**
 * Shortens a big count for display with a suffix for thousands, millions or billions, keeping at most one decimal.
 *
 * @example
 * abbreviateNumber(1530); // '1.5K'
 */
export function abbreviateNumber(value: number): string {
  const suffixes = ['', 'K', 'M', 'B', 'T'];
  let scaled = Math.abs(value);
  let tier = 0;
  while (tier < suffixes.length - 1 && roundTo(scaled, 1) >= 1000) {
    scaled /= 1000;
    tier += 1;
  }
  return `${value < 0 ? '-' : ''}${roundTo(scaled, 1)}${suffixes[tier]}`;
}
