/** A sum of money as a whole number of minor units, cents for instance, in an ISO 4217 currency. */
export interface Money {
  readonly minor: bigint;
  readonly currency: string;
}

const DIGITS: Record<string, number> = { JPY: 0, KRW: 0, VND: 0, CLP: 0, ISK: 0, BHD: 3, KWD: 3, TND: 3, OMR: 3, JOD: 3 };

function assertSameCurrency(a: Money, b: Money): void {
  if (a.currency !== b.currency) throw new TypeError(`Cannot mix ${a.currency} and ${b.currency}`);
}

/** How many decimals a currency is subdivided into: none for the yen, three for the Kuwaiti dinar, two for most. */
export function minorDigits(currency: string): number {
  return Object.hasOwn(DIGITS, currency) ? DIGITS[currency] ?? 2 : 2;
}

/**
 * Reads a plain decimal amount like `-12.50` exactly, never going through floating point.
 * @throws if the text is not a number or has more decimals than the currency allows
 */
export function parseMoney(text: string, currency: string): Money {
  const m = /^([+-]?)(\d+)(?:\.(\d+))?$/.exec(text.trim());
  const digits = minorDigits(currency);
  const fraction = m?.[3] ?? '';
  if (!m || fraction.length > digits) throw new SyntaxError(`Not an amount in ${currency}: ${text}`);
  const minor = BigInt(`${m[2]}${fraction.padEnd(digits, '0')}`);
  return { minor: m[1] === '-' ? -minor : minor, currency };
}

/** Writes an amount with the decimals of its currency and a separator between thousands, followed by the currency code. */
export function formatMoney(money: Money, separator = ','): string {
  const digits = minorDigits(money.currency);
  const text = (money.minor < 0n ? -money.minor : money.minor).toString().padStart(digits + 1, '0');
  const whole = text.slice(0, text.length - digits).replace(/\B(?=(?:\d{3})+$)/g, separator);
  const fraction = digits === 0 ? '' : `.${text.slice(-digits)}`;
  return `${money.minor < 0n ? '-' : ''}${whole}${fraction} ${money.currency}`;
}

/** Adds up a list of amounts, refusing to mix currencies. An empty list sums to zero of the stated one. */
export function sumMoney(amounts: Iterable<Money>, currency: string): Money {
  let total: Money = { minor: 0n, currency };
  for (const amount of amounts) {
    assertSameCurrency(total, amount);
    total = { minor: total.minor + amount.minor, currency };
  }
  return total;
}

/** Takes one amount away from another of the same currency; the difference may be negative. */
export const subtractMoney = (a: Money, b: Money): Money => {
  assertSameCurrency(a, b);
  return { minor: a.minor - b.minor, currency: a.currency };
};

/** Orders amounts for sorting, and throws rather than compare different currencies. */
export function compareMoney(a: Money, b: Money): number {
  assertSameCurrency(a, b);
  if (a.minor === b.minor) return 0;
  return a.minor < b.minor ? -1 : 1;
}

/** Divides two integers and rounds half to even, the banker's rounding that does not drift over many operations. */
export function divideHalfEven(numerator: bigint, denominator: bigint): bigint {
  if (denominator === 0n) throw new RangeError('Division by zero');
  const negative = numerator < 0n !== denominator < 0n;
  const n = numerator < 0n ? -numerator : numerator;
  const d = denominator < 0n ? -denominator : denominator;
  let quotient = n / d;
  const twice = (n % d) * 2n;
  if (twice > d || (twice === d && quotient % 2n === 1n)) quotient += 1n;
  return negative ? -quotient : quotient;
}

/** Scales an amount by an exact fraction, three eighths say, with a single rounding at the end. */
export function multiplyMoney(money: Money, numerator: bigint, denominator = 1n): Money {
  return { minor: divideHalfEven(money.minor * numerator, denominator), currency: money.currency };
}

/**
 * Splits an amount in proportion to the given weights so that the parts add up exactly; leftover cents go to the largest remainders.
 * @example
 * allocate({ minor: 100n, currency: 'EUR' }, [1, 1, 1]) // 34, 33 and 33 cents
 */
export function allocate(money: Money, weights: readonly number[]): Money[] {
  const total = weights.reduce((sum, w) => sum + BigInt(w), 0n);
  if (total <= 0n || weights.some((w) => w < 0)) throw new RangeError('Weights must be non-negative with a positive sum');
  const sign = money.minor < 0n ? -1n : 1n;
  const size = money.minor * sign;
  const shares = weights.map((w, i) => ({ i, base: (size * BigInt(w)) / total, rest: (size * BigInt(w)) % total }));
  let left = size - shares.reduce((sum, s) => sum + s.base, 0n);
  for (const share of [...shares].sort((a, b) => (a.rest === b.rest ? a.i - b.i : a.rest > b.rest ? -1 : 1))) {
    if (left-- <= 0n) break;
    share.base += 1n;
  }
  return shares.map((s) => ({ minor: s.base * sign, currency: money.currency }));
}

/**
 * Exchanges into another currency at a rate given as decimal text, minding that the two may have different numbers of decimals.
 * @param rate units of the target currency for one unit of the source
 */
export function convertMoney(money: Money, target: string, rate: string): Money {
  const m = /^(\d+)(?:\.(\d+))?$/.exec(rate);
  if (!m) throw new SyntaxError(`Not an exchange rate: ${rate}`);
  const scale = BigInt(10) ** BigInt((m[2] ?? '').length + minorDigits(money.currency));
  const scaled = money.minor * BigInt(`${m[1]}${m[2] ?? ''}`) * BigInt(10) ** BigInt(minorDigits(target));
  return { minor: divideHalfEven(scaled, scale), currency: target };
}

/** Rounds a price to the nearest multiple of the smallest coin in circulation, as shops do for cash. Halves go up in magnitude. */
export function roundToCoin(money: Money, coin: bigint): Money {
  const size = money.minor < 0n ? -money.minor : money.minor;
  const rounded = ((size + coin / 2n) / coin) * coin;
  return { minor: money.minor < 0n ? -rounded : rounded, currency: money.currency };
}

/** Counts out change in notes and coins, always taking the biggest that fits; maps each denomination to how many are handed over. */
export function makeChange(amount: bigint, denominations: readonly bigint[]): Map<bigint, bigint> {
  const out = new Map<bigint, bigint>();
  let left = amount;
  for (const unit of [...denominations].sort((a, b) => (a > b ? -1 : 1))) {
    if (left < unit) continue;
    out.set(unit, left / unit);
    left %= unit;
  }
  if (left !== 0n) throw new RangeError(`Cannot pay out the remaining ${left}`);
  return out;
}
