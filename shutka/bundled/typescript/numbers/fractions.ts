function commonDivisor(a: bigint, b: bigint): bigint {
  let [x, y] = [a < 0n ? -a : a, b < 0n ? -b : b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

/** An exact rational number. It is always in lowest terms and its denominator is positive. */
export class Fraction {
  readonly numerator: bigint;
  readonly denominator: bigint;

  constructor(numerator: bigint, denominator = 1n) {
    if (denominator === 0n) throw new RangeError('denominator is zero');
    const divisor = commonDivisor(numerator, denominator) * (denominator < 0n ? -1n : 1n);
    this.numerator = numerator / divisor;
    this.denominator = denominator / divisor;
  }

  /** Sum of two rationals, brought over a shared denominator. */
  add(other: Fraction): Fraction {
    const numerator = this.numerator * other.denominator + other.numerator * this.denominator;
    return new Fraction(numerator, this.denominator * other.denominator);
  }

  /** Takes another rational away from this one. */
  subtract(other: Fraction): Fraction {
    return this.add(new Fraction(-other.numerator, other.denominator));
  }

  /** Product: tops times tops over bottoms times bottoms. */
  multiply(other: Fraction): Fraction {
    return new Fraction(this.numerator * other.numerator, this.denominator * other.denominator);
  }

  /**
   * Quotient of two rationals, by multiplying with the reciprocal.
   *
   * @throws RangeError on division by zero.
   */
  divide(other: Fraction): Fraction {
    return new Fraction(this.numerator * other.denominator, this.denominator * other.numerator);
  }

  /** Orders two rationals exactly by cross multiplication, with a negative, zero or positive answer. */
  compare(other: Fraction): number {
    const cross = this.numerator * other.denominator - other.numerator * this.denominator;
    return cross < 0n ? -1 : cross > 0n ? 1 : 0;
  }

  /**
   * Raises to an integer power; a negative exponent inverts the fraction first.
   */
  power(exponent: number): Fraction {
    const size = BigInt(Math.abs(exponent));
    const [top, bottom] = [this.numerator ** size, this.denominator ** size];
    return exponent < 0 ? new Fraction(bottom, top) : new Fraction(top, bottom);
  }

  /** A floating point approximation, good enough for display and approximate work. */
  toNumber(): number {
    const whole = this.numerator / this.denominator;
    const rest = this.numerator % this.denominator;
    const scale = 10n ** 20n;
    return Number(whole) + Number((rest * scale) / this.denominator) / 1e20;
  }

  /** Writes the value as `n/d`, or as a bare integer if nothing is left below the line. */
  toString(): string {
    return this.denominator === 1n ? `${this.numerator}` : `${this.numerator}/${this.denominator}`;
  }
}

/**
 * Reads a rational from text such as `3/4`, `-2`, `0.125` or the mixed number `1 1/2`.
 *
 * @throws SyntaxError if the text is none of these.
 */
export function parseFraction(text: string): Fraction {
  const match = /^\s*([+-]?)(?:(?:(\d+)\s+)?(\d+)\/(\d+)|(\d+)(?:\.(\d+))?)\s*$/.exec(text);
  if (!match) throw new SyntaxError(`not a fraction: ${text}`);
  const [, sign, whole = '0', top, bottom, integer = '0', decimals = ''] = match;
  const size =
    top !== undefined && bottom !== undefined
      ? new Fraction(BigInt(whole)).add(new Fraction(BigInt(top), BigInt(bottom)))
      : new Fraction(BigInt(integer + decimals), 10n ** BigInt(decimals.length));
  return sign === '-' ? new Fraction(-size.numerator, size.denominator) : size;
}

/**
 * Expands a number into its continued fraction: the whole part, then the whole part of the reciprocal of what remains, and so on.
 *
 * @param terms Stop after this many, as rounding errors soon take over.
 */
export function continuedFraction(value: number, terms = 12): number[] {
  const parts: number[] = [];
  let rest = value;
  while (parts.length < terms) {
    const whole = Math.floor(rest);
    parts.push(whole);
    const fraction = rest - whole;
    if (fraction < 1e-10) break;
    rest = 1 / fraction;
  }
  return parts;
}

/**
 * Finds the closest simple ratio to a decimal among those whose denominator does not exceed the bound, by descending the Stern–Brocot tree.
 * Useful to show 0.333 as one third.
 *
 * @returns Numerator and denominator.
 */
export function approximateRatio(value: number, maxDenominator: number): [number, number] {
  const whole = Math.floor(value);
  const target = value - whole;
  let [lowTop, lowBottom, highTop, highBottom] = [0, 1, 1, 1];
  while (lowBottom + highBottom <= maxDenominator) {
    const [top, bottom] = [lowTop + highTop, lowBottom + highBottom];
    if (target === top / bottom) return [whole * bottom + top, bottom];
    if (target > top / bottom) [lowTop, lowBottom] = [top, bottom];
    else [highTop, highBottom] = [top, bottom];
  }
  const nearerLow = target - lowTop / lowBottom <= highTop / highBottom - target;
  return nearerLow ? [whole * lowBottom + lowTop, lowBottom] : [whole * highBottom + highTop, highBottom];
}

/**
 * Long division that detects the repeating block of digits and encloses it in parentheses.
 *
 * @example
 * repeatingDecimal(1, 6); // '0.1(6)'
 */
export function repeatingDecimal(numerator: number, denominator: number): string {
  if (denominator === 0) throw new RangeError('denominator is zero');
  const sign = numerator !== 0 && numerator < 0 !== denominator < 0 ? '-' : '';
  const [top, bottom] = [Math.abs(numerator), Math.abs(denominator)];
  const seen = new Map<number, number>();
  let digits = '';
  let rest = top % bottom;
  for (; rest !== 0 && !seen.has(rest); rest = (rest * 10) % bottom) {
    seen.set(rest, digits.length);
    digits += Math.floor((rest * 10) / bottom);
  }
  const start = seen.get(rest);
  if (start !== undefined) digits = `${digits.slice(0, start)}(${digits.slice(start)})`;
  return `${sign}${Math.floor(top / bottom)}${digits && `.${digits}`}`;
}

/**
 * Decomposes a proper fraction into distinct unit fractions the way ancient Egyptian scribes wrote it, taking the largest possible one each time.
 *
 * @returns The denominators in increasing order.
 */
export function egyptianFraction(fraction: Fraction): bigint[] {
  const { numerator, denominator } = fraction;
  if (numerator < 0n || numerator >= denominator) throw new RangeError('expected a value from 0 up to 1');
  const units: bigint[] = [];
  for (let rest = fraction; rest.numerator > 0n; ) {
    const unit = (rest.denominator + rest.numerator - 1n) / rest.numerator;
    units.push(unit);
    rest = rest.subtract(new Fraction(1n, unit));
  }
  return units;
}

/**
 * Enumerates in ascending order all reduced fractions between 0 and 1 whose denominator is at most `order`: the Farey sequence.
 */
export function* fareySequence(order: number): Generator<[number, number]> {
  let [a, b, c, d] = [0, 1, 1, order];
  yield [a, b];
  while (c <= order) {
    const k = Math.floor((order + b) / d);
    [a, b, c, d] = [c, d, k * c - a, k * d - b];
    yield [a, b];
  }
}
