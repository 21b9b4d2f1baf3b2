/** The classic five numbers behind a box plot. */
export interface FiveNumbers {
  min: number;
  q1: number;
  median: number;
  q3: number;
  max: number;
}

function sorted(values: Iterable<number>): number[] {
  return [...values].sort((a, b) => a - b);
}

/** Arithmetic average of the observations. An empty sample has none, so the result is NaN then. */
export function mean(values: readonly number[]): number {
  let total = 0;
  for (const value of values) {
    total += value;
  }
  return total / values.length;
}

/**
 * Value below which a given share of the sample lies, interpolating linearly between order statistics as spreadsheets do.
 *
 * @param p - the share, from 0 for the minimum to 1 for the maximum
 * @example
 * quantile([1, 2, 3, 4], 0.5); // 2.5
 */
export function quantile(values: readonly number[], p: number): number {
  if (!(p >= 0 && p <= 1)) {
    throw new RangeError('the share must lie between 0 and 1');
  }
  const ordered = sorted(values);
  const position = (ordered.length - 1) * p;
  const below = ordered[Math.floor(position)] ?? NaN;
  const above = ordered[Math.ceil(position)] ?? NaN;
  return below + (above - below) * (position - Math.floor(position));
}

/** Unbiased spread of a sample around its average, with Bessel's n − 1 in the denominator. Fewer than two observations give NaN. */
export function variance(values: readonly number[]): number {
  if (values.length < 2) {
    return NaN;
  }
  const center = mean(values);
  const squares = values.reduce((total, v) => total + (v - center) ** 2, 0);
  return squares / (values.length - 1);
}

/** Most frequent values, all of them if several share the highest count; useful for categorical data, where averages make no sense. */
export function modes<T>(values: Iterable<T>): T[] {
  const counts = new Map<T, number>();
  let highest = 0;
  for (const value of values) {
    const count = (counts.get(value) ?? 0) + 1;
    counts.set(value, count);
    highest = Math.max(highest, count);
  }
  return [...counts].filter(([, count]) => count === highest).map(([value]) => value);
}

/** Minimum, quartiles and maximum in one go, everything one needs to draw a box-and-whisker plot. */
export function fiveNumberSummary(values: readonly number[]): FiveNumbers {
  return {
    min: quantile(values, 0),
    q1: quantile(values, 0.25),
    median: quantile(values, 0.5),
    q3: quantile(values, 0.75),
    max: quantile(values, 1),
  };
}

/**
 * Observations outside Tukey's fences, that is, more than some multiple of the interquartile range beyond the quartiles.
 *
 * @param reach - the multiple, 1.5 for suspects and 3 for extreme cases
 */
export function outliers(values: readonly number[], reach = 1.5): number[] {
  const { q1, q3 } = fiveNumberSummary(values);
  const fence = (q3 - q1) * reach;
  return values.filter((v) => v < q1 - fence || v > q3 + fence);
}

/** Median absolute deviation: a measure of spread that a few wild readings cannot upset. */
export function medianAbsoluteDeviation(values: readonly number[]): number {
  const center = quantile(values, 0.5);
  const deviations = values.map((v) => Math.abs(v - center));
  return quantile(deviations, 0.5);
}

/**
 * Average after discarding the same share of the smallest and of the largest readings, as judges' scores are treated in some sports.
 *
 * @param share - fraction cut off at each end, below one half
 */
export function trimmedMean(values: readonly number[], share = 0.1): number {
  if (!(share >= 0 && share < 0.5)) {
    throw new RangeError('the trimmed share must be at least 0 and below one half');
  }
  const drop = Math.floor(values.length * share);
  const kept = sorted(values).slice(drop, values.length - drop);
  return mean(kept);
}

/** Rescales data to zero mean and unit standard deviation, so that variables with different units become comparable. A constant sample maps to zeros. */
export function standardize(values: readonly number[]): number[] {
  const center = mean(values);
  const spread = Math.sqrt(variance(values));
  if (!(spread > 0)) {
    return values.map(() => 0);
  }
  return values.map((v) => (v - center) / spread);
}

/**
 * Counts how many observations fall in each of several bins of equal width between the smallest and the largest.
 *
 * @returns the lower edge and the count of every bin; the maximum itself belongs to the last one
 */
export function histogram(values: readonly number[], bins: number): { from: number; count: number }[] {
  const min = values.reduce((a, b) => Math.min(a, b), Infinity);
  const max = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (values.length === 0) {
    return [];
  }
  const width = (max - min) / bins || 1;
  const result = Array.from({ length: bins }, (_, i) => ({ from: min + i * width, count: 0 }));
  for (const v of values) {
    result[Math.min(bins - 1, Math.floor((v - min) / width))]!.count++;
  }
  return result;
}

/** Accumulates mean and spread over a stream in constant memory, by Welford's numerically stable recurrence. */
export class RunningStats {
  private n = 0;
  private average = 0;
  private m2 = 0;

  /** Takes one more measurement into account without storing it. */
  push(value: number): void {
    this.n++;
    const delta = value - this.average;
    this.average += delta / this.n;
    this.m2 += delta * (value - this.average);
  }

  /** Folds in what another accumulator has gathered, so that parts of a stream can be processed in parallel. */
  merge(other: RunningStats): void {
    const total = this.n + other.n;
    if (total === 0) return;
    const delta = other.average - this.average;
    this.m2 += other.m2 + (delta * delta * this.n * other.n) / total;
    this.average += (delta * other.n) / total;
    this.n = total;
  }

  /** Present state: how many values have come in, their mean, and their sample standard deviation (NaN before the second one). */
  snapshot(): { count: number; mean: number; deviation: number } {
    const deviation = this.n < 2 ? NaN : Math.sqrt(this.m2 / (this.n - 1));
    const center = this.n === 0 ? NaN : this.average;
    return { count: this.n, mean: center, deviation };
  }
}
