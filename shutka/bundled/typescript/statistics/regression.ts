import { mean, variance } from './summary';

/** A fitted straight line. */
export interface Line {
  slope: number;
  intercept: number;
}

function requireSameLength(xs: readonly unknown[], ys: readonly unknown[]): void {
  if (xs.length !== ys.length) {
    throw new RangeError(`paired samples differ in length: ${xs.length} and ${ys.length}`);
  }
}

/** How two paired variables vary together, as the sample covariance; positive when large values of one go with large values of the other. */
export function covariance(xs: readonly number[], ys: readonly number[]): number {
  requireSameLength(xs, ys);
  const meanX = mean(xs);
  const meanY = mean(ys);
  const products = xs.reduce((total, x, i) => total + (x - meanX) * (ys[i]! - meanY), 0);
  return products / (xs.length - 1);
}

/**
 * Pearson's correlation coefficient: strength of the linear relation of two variables on a scale from −1 to 1.
 * If either of them never changes the coefficient is undefined and NaN comes back.
 */
export function pearson(xs: readonly number[], ys: readonly number[]): number {
  const shared = covariance(xs, ys);
  const spread = Math.sqrt(variance(xs) * variance(ys));
  return spread === 0 ? NaN : shared / spread;
}

/**
 * Replaces every observation by its rank starting at 1; tied values share the average of the ranks they occupy.
 *
 * @example
 * ranks([30, 10, 10]); // [3, 1.5, 1.5]
 */
export function ranks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((i, j) => values[i]! - values[j]!);
  const result = new Array<number>(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end]!] === values[order[start]!]) {
      end++;
    }
    for (let i = start; i < end; i++) {
      result[order[i]!] = (start + 1 + end) / 2;
    }
    start = end;
  }
  return result;
}

/** Spearman's rank correlation, which detects any monotone relation, straight or curved, and shrugs off outliers. */
export function spearman(xs: readonly number[], ys: readonly number[]): number {
  const rankedX = ranks(xs);
  const rankedY = ranks(ys);
  return pearson(rankedX, rankedY);
}

/**
 * Ordinary least squares: the straight line that minimizes the sum of squared vertical misses.
 *
 * @param xs - the explanatory variable; must not be constant
 * @param ys - the response, paired with it
 */
export function linearFit(xs: readonly number[], ys: readonly number[]): Line {
  const spread = variance(xs);
  if (!(spread > 0)) {
    throw new RangeError('a line needs at least two different x values');
  }
  const slope = covariance(xs, ys) / spread;
  return { slope, intercept: mean(ys) - slope * mean(xs) };
}

/** Theil-Sen estimator: takes the median of the slopes between all pairs of points, so that up to a quarter of the data may be garbage. */
export function robustFit(xs: readonly number[], ys: readonly number[]): Line {
  requireSameLength(xs, ys);
  const slopes: number[] = [];
  for (let i = 0; i < xs.length; i++) {
    for (let j = i + 1; j < xs.length; j++) {
      if (xs[i] !== xs[j]) slopes.push((ys[j]! - ys[i]!) / (xs[j]! - xs[i]!));
    }
  }
  const slope = middle(slopes);
  return { slope, intercept: middle(ys.map((y, i) => y - slope * xs[i]!)) };
}

function middle(values: readonly number[]): number {
  const s = [...values].sort((a, b) => a - b);
  const half = s.length >> 1;
  return s.length % 2 === 1 ? s[half]! : (s[half - 1]! + s[half]!) / 2;
}

/** Share of the variation in the data that a model's predictions account for (R²): 1 is a perfect fit, 0 no better than always guessing the mean. */
export function rSquared(observed: readonly number[], predicted: readonly number[]): number {
  requireSameLength(observed, predicted);
  const center = mean(observed);
  let residual = 0;
  let total = 0;
  observed.forEach((y, i) => {
    residual += (y - predicted[i]!) ** 2;
    total += (y - center) ** 2;
  });
  return 1 - residual / total;
}

/** Typical size of prediction errors in the units of the data, large misses counting more than proportionally. */
export function rootMeanSquareError(observed: readonly number[], predicted: readonly number[]): number {
  requireSameLength(observed, predicted);
  const squares = observed.map((y, i) => (y - predicted[i]!) ** 2);
  return Math.sqrt(mean(squares));
}

/**
 * Solves a square system of linear equations by Gaussian elimination with partial pivoting. The inputs are not modified.
 *
 * @returns the unknowns, or undefined when the matrix is singular
 */
export function solveLinearSystem(matrix: readonly (readonly number[])[], right: readonly number[]): number[] | undefined {
  const n = right.length;
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  for (let k = 0; k < n; k++) {
    const pivot = rows.slice(k).reduce((best, row, i) => (Math.abs(row[k]!) > Math.abs(rows[best]![k]!) ? k + i : best), k);
    [rows[k], rows[pivot]] = [rows[pivot]!, rows[k]!];
    if (rows[k]![k] === 0) return undefined;
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = rows[i]![k]! / rows[k]![k]!;
      rows[i] = rows[i]!.map((value, j) => value - factor * rows[k]![j]!);
    }
  }
  return rows.map((row, i) => row[n]! / row[i]!);
}

/**
 * Fits a polynomial of given degree through noisy points by least squares (normal equations).
 *
 * @returns the coefficients, constant term first
 */
export function polynomialFit(xs: readonly number[], ys: readonly number[], degree: number): number[] {
  requireSameLength(xs, ys);
  const powers = Array.from({ length: degree + 1 }, (_, i) => i);
  const moment = (k: number): number => xs.reduce((total, x) => total + x ** k, 0);
  const matrix = powers.map((i) => powers.map((j) => moment(i + j)));
  const right = powers.map((i) => xs.reduce((total, x, n) => total + x ** i * ys[n]!, 0));
  const coefficients = solveLinearSystem(matrix, right);
  if (!coefficients || new Set(xs).size <= degree) {
    throw new RangeError('too few distinct x values for this degree');
  }
  return coefficients;
}

/** Smooths a noisy time series by exponential weighting; a larger `alpha` follows recent readings more closely. */
export function exponentialSmoothing(series: readonly number[], alpha: number): number[] {
  const smoothed: number[] = [];
  for (const value of series) {
    const previous = smoothed[smoothed.length - 1] ?? value;
    smoothed.push(previous + alpha * (value - previous));
  }
  return smoothed;
}

/**
 * Correlation of a time series with a copy of itself delayed by `lag` steps, which reveals seasonality.
 *
 * @param lag - whole number of steps to shift by
 */
export function autocorrelation(series: readonly number[], lag: number): number {
  const center = mean(series);
  let shifted = 0;
  let total = 0;
  series.forEach((value, i) => {
    total += (value - center) ** 2;
    if (i >= lag) {
      shifted += (value - center) * (series[i - lag]! - center);
    }
  });
  return shifted / total;
}
