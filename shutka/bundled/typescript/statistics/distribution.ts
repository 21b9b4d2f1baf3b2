/**
 * Natural logarithm of the gamma function for positive arguments, by the Lanczos approximation.
 * Working with logarithms keeps factorials of large numbers from overflowing.
 */
export function logGamma(x: number): number {
  const coefficients = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 0.001208650973866179, -0.000005395239384953];
  let series = 1.000000000190015;
  coefficients.forEach((c, i) => {
    series += c / (x + 1 + i);
  });
  const t = x + 5.5;
  return (x + 0.5) * Math.log(t) - t + Math.log((2.5066282746310005 * series) / x);
}

/** Gauss error function, with an absolute error below 2e-7 (Abramowitz and Stegun, formula 7.1.26). */
export function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  const magnitude = 1 - poly * Math.exp(-x * x);
  return x < 0 ? -magnitude : magnitude;
}

/** Height of the bell curve at a point. */
export function normalDensity(x: number, mu = 0, sigma = 1): number {
  const z = (x - mu) / sigma;
  const peak = 1 / (sigma * Math.sqrt(2 * Math.PI));
  return peak * Math.exp(-0.5 * z * z);
}

/** Probability that a normally distributed quantity stays at or below `x`, given its mean and standard deviation. */
export function normalCdf(x: number, mu = 0, sigma = 1): number {
  const z = (x - mu) / sigma;
  const symmetric = erf(z / Math.SQRT2);
  return 0.5 * (1 + symmetric);
}

/**
 * Inverse of the cumulative normal: the threshold that is undershot with probability `p`, such as 1.96 for 0.975.
 * Found by bisection, hence slow but dependable.
 *
 * @param p - a probability strictly between 0 and 1
 */
export function normalQuantile(p: number, mu = 0, sigma = 1): number {
  if (!(p > 0 && p < 1)) {
    throw new RangeError('probability must lie strictly between 0 and 1');
  }
  let low = -9;
  let high = 9;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (normalCdf(middle) < p) low = middle;
    else high = middle;
  }
  return mu + (sigma * (low + high)) / 2;
}

/**
 * Number of ways to choose `k` items out of `n` regardless of order. Multiplies and divides in turn, so that intermediate results stay whole.
 *
 * @example
 * binomialCoefficient(5, 2); // 10
 */
export function binomialCoefficient(n: number, k: number): number {
  if (k < 0 || k > n) {
    return 0;
  }
  let result = 1;
  for (let i = 1; i <= Math.min(k, n - k); i++) {
    result = (result * (n - i + 1)) / i;
  }
  return Math.round(result);
}

/** Chance of exactly `k` successes in `n` independent trials that each succeed with probability `p`. */
export function binomialProbability(k: number, n: number, p: number): number {
  if (!Number.isInteger(k) || k < 0 || k > n) {
    return 0;
  }
  if (p === 0 || p === 1) {
    return k === n * p ? 1 : 0;
  }
  const logWays = logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
  return Math.exp(logWays + k * Math.log(p) + (n - k) * Math.log(1 - p));
}

/** Probability of seeing `k` events in an interval when they arrive independently at an average rate of `lambda`, e.g. calls per minute. */
export function poissonProbability(k: number, lambda: number): number {
  if (!Number.isInteger(k) || k < 0) {
    return 0;
  }
  if (lambda === 0) {
    return k === 0 ? 1 : 0;
  }
  return Math.exp(k * Math.log(lambda) - lambda - logGamma(k + 1));
}

/** Probability that the waiting time until the next event of a memoryless process is at most `t`. */
export function exponentialCdf(t: number, rate: number): number {
  if (t <= 0) {
    return 0;
  }
  return -Math.expm1(-rate * t);
}

/**
 * How many attempts it takes until the first success: the chance that it comes precisely on attempt number `k`, counting from one.
 *
 * @param p - chance of success in a single attempt
 */
export function geometricProbability(k: number, p: number): number {
  if (!Number.isInteger(k) || k < 1) {
    return 0;
  }
  const failures = (1 - p) ** (k - 1);
  return failures * p;
}

/** Lower regularized incomplete gamma function P(a, x) by its power series, the building block of the chi-squared distribution. */
export function incompleteGamma(a: number, x: number): number {
  if (x <= 0) return 0;
  if (x > a + 40 * Math.sqrt(a) + 200) return 1;
  let term = 1 / a;
  let series = term;
  for (let n = 1; n < 10000 && term > series * 1e-15; n++) {
    term *= x / (a + n);
    series += term;
  }
  const scaled = series * Math.exp(a * Math.log(x) - x - logGamma(a));
  return Math.min(1, scaled);
}

/**
 * Upper tail of the chi-squared distribution, i.e. the p-value of a goodness-of-fit statistic.
 *
 * @param statistic - sum of squared deviations divided by expectations
 * @param degrees - degrees of freedom
 */
export function chiSquaredPValue(statistic: number, degrees: number): number {
  if (degrees <= 0) {
    throw new RangeError('degrees of freedom must be positive');
  }
  return 1 - incompleteGamma(degrees / 2, statistic / 2);
}

/** Information content of a discrete distribution in bits (Shannon entropy): zero for a certain outcome, largest when all are equally likely. */
export const entropy = (probabilities: readonly number[]): number => {
  let bits = 0;
  for (const p of probabilities) {
    if (p > 0) bits -= p * Math.log2(p);
  }
  return bits;
};
