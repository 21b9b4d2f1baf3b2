/**
 * Lists all primes up to and including the limit with the sieve of Eratosthenes.
 */
export function primesUpTo(limit: number): number[] {
  const composite = new Uint8Array(Math.max(Math.floor(limit), 1) + 1);
  const primes: number[] = [];
  for (let n = 2; n <= limit; n += 1) {
    if (composite[n]) continue;
    primes.push(n);
    for (let multiple = n * n; multiple <= limit; multiple += n) composite[multiple] = 1;
  }
  return primes;
}

/**
 * Decides by trial division whether a whole number has no divisors but one and itself. Fine up to about a million million.
 */
export function isPrime(n: number): boolean {
  if (!Number.isInteger(n) || n < 2) return false;
  if (n < 4) return true;
  if (n % 2 === 0 || n % 3 === 0) return false;
  for (let divisor = 5; divisor * divisor <= n; divisor += 6) {
    if (n % divisor === 0 || n % (divisor + 2) === 0) return false;
  }
  return true;
}

/**
 * Miller–Rabin primality test for big integers. With the first twelve primes as witnesses the verdict is certain below 3·10²³
 * and overwhelmingly probable above.
 */
export function isProbablePrime(n: bigint): boolean {
  const witnesses = [2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n, 23n, 29n, 31n, 37n];
  if (n < 2n) return false;
  for (const p of witnesses) if (n % p === 0n) return n === p;
  let odd = n - 1n;
  let twos = 0;
  for (; odd % 2n === 0n; odd /= 2n) twos += 1;
  return witnesses.every((witness) => {
    let x = powerMod(witness, odd, n);
    if (x === 1n) return true;
    for (let i = 0; i < twos; i += 1, x = (x * x) % n) if (x === n - 1n) return true;
    return false;
  });
}

/**
 * Raises a big integer to a power modulo another by repeated squaring, without ever forming the full power.
 */
export function powerMod(base: bigint, exponent: bigint, modulus: bigint): bigint {
  if (exponent < 0n || modulus < 1n) throw new RangeError('exponent or modulus out of range');
  let result = 1n % modulus;
  let square = ((base % modulus) + modulus) % modulus;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

/**
 * Splits a positive integer into its prime factors and reports with which exponent each occurs, in ascending order.
 *
 * @example
 * primeFactors(360); // Map { 2 => 3, 3 => 2, 5 => 1 }
 */
export function primeFactors(n: number): Map<number, number> {
  if (!Number.isSafeInteger(n) || n < 1) throw new RangeError('expected a positive integer');
  const factors = new Map<number, number>();
  let rest = n;
  for (let divisor = 2; divisor * divisor <= rest; divisor += divisor === 2 ? 1 : 2) {
    while (rest % divisor === 0) {
      factors.set(divisor, (factors.get(divisor) ?? 0) + 1);
      rest /= divisor;
    }
  }
  if (rest > 1) factors.set(rest, 1);
  return factors;
}

/**
 * All numbers that divide `n` without remainder, sorted, itself and one among them.
 */
export function divisors(n: number): number[] {
  if (!Number.isSafeInteger(n) || n < 1) throw new RangeError('expected a positive integer');
  const small: number[] = [];
  const large: number[] = [];
  for (let d = 1; d * d <= n; d += 1) {
    if (n % d !== 0) continue;
    small.push(d);
    if (d * d !== n) large.unshift(n / d);
  }
  return [...small, ...large];
}

/**
 * Greatest common divisor by Euclid's algorithm. Signs are ignored, and the result for two zeros is zero.
 */
export function gcd(a: number, b: number): number {
  let [x, y] = [Math.abs(a), Math.abs(b)];
  while (y !== 0) [x, y] = [y, x % y];
  return x;
}

/**
 * The smallest positive number that is a multiple of every argument, used to find when cycles of different length coincide.
 */
export function lcm(...numbers: number[]): number {
  return numbers.reduce((multiple, n) => (n === 0 ? 0 : Math.abs((multiple / gcd(multiple, n)) * n)), 1);
}

/** Bézout's identity: `a * x + b * y === divisor`. */
export interface Bezout {
  divisor: bigint;
  x: bigint;
  y: bigint;
}

/**
 * Extended Euclid: along with the common divisor it finds the integer coefficients that combine both arguments to it.
 */
export function extendedGcd(a: bigint, b: bigint): Bezout {
  let [divisor, nextDivisor] = [a, b];
  let [x, nextX] = [1n, 0n];
  let [y, nextY] = [0n, 1n];
  while (nextDivisor !== 0n) {
    const quotient = divisor / nextDivisor;
    [divisor, nextDivisor] = [nextDivisor, divisor - quotient * nextDivisor];
    [x, nextX] = [nextX, x - quotient * nextX];
    [y, nextY] = [nextY, y - quotient * nextY];
  }
  return divisor < 0n ? { divisor: -divisor, x: -x, y: -y } : { divisor, x, y };
}

/**
 * The multiplicative inverse in modular arithmetic, which plays the part of division there.
 *
 * @throws RangeError when the value and the modulus share a factor, so that no inverse exists.
 */
export function inverseMod(value: bigint, modulus: bigint): bigint {
  const { divisor, x } = extendedGcd(value, modulus);
  if (divisor !== 1n) throw new RangeError('value is not invertible');
  return ((x % modulus) + modulus) % modulus;
}

/**
 * Euler's totient: how many of the numbers from 1 to `n` are coprime to it.
 */
export function totient(n: number): number {
  let count = n;
  for (const prime of primeFactors(n).keys()) count = (count / prime) * (prime - 1);
  return count;
}

/**
 * Classifies a positive integer by whether its proper divisors sum up to less than, exactly, or more than itself.
 */
export function classifyAbundance(n: number): 'deficient' | 'perfect' | 'abundant' {
  const aliquot = divisors(n).reduce((sum, divisor) => sum + divisor, 0) - n;
  if (aliquot === n) return 'perfect';
  return aliquot < n ? 'deficient' : 'abundant';
}

/**
 * Square root of a big integer rounded down, computed with Newton's iteration on whole numbers.
 */
export function integerSqrt(n: bigint): bigint {
  if (n < 0n) throw new RangeError('square root of a negative number');
  if (n < 2n) return n;
  let estimate = 1n << BigInt((n.toString(2).length + 1) >> 1);
  for (;;) {
    const better = (estimate + n / estimate) >> 1n;
    if (better >= estimate) return estimate;
    estimate = better;
  }
}
