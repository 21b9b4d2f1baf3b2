/** One row of a repayment plan. */
export interface Installment {
  period: number;
  payment: number;
  interest: number;
  principal: number;
  balance: number;
}

const toCents = (value: number): number => Math.round(value * 100) / 100;

/** Interest on the original principal alone, proportional to time and never itself bearing interest. */
export const simpleInterest = (principal: number, annualRate: number, years: number): number =>
  principal * annualRate * years;

/**
 * Grows a deposit at a nominal yearly rate that is credited several times a year.
 * @param periodsPerYear 12 for monthly compounding, 1 for yearly
 * @returns the final balance, deposit included
 */
export function compound(principal: number, annualRate: number, years: number, periodsPerYear = 12): number {
  return principal * (1 + annualRate / periodsPerYear) ** (periodsPerYear * years);
}

/** Turns a nominal rate into the effective annual yield, by which offers with different compounding can be compared. */
export function effectiveRate(nominalRate: number, periodsPerYear: number): number {
  return (1 + nominalRate / periodsPerYear) ** periodsPerYear - 1;
}

/** The constant installment that pays a loan back with interest over a number of periods, the annuity formula; a rate of zero is fine. */
export function annuityPayment(principal: number, ratePerPeriod: number, periods: number): number {
  if (periods <= 0) throw new RangeError('periods must be positive');
  if (ratePerPeriod === 0) return principal / periods;
  return (principal * ratePerPeriod) / (1 - (1 + ratePerPeriod) ** -periods);
}

/** Lays out an amortization table rounded to cents, in which the last payment absorbs whatever the rounding left over. */
export function amortize(principal: number, ratePerPeriod: number, periods: number): Installment[] {
  const regular = toCents(annuityPayment(principal, ratePerPeriod, periods));
  const rows: Installment[] = [];
  let balance = principal;
  for (let period = 1; period <= periods; period++) {
    const interest = toCents(balance * ratePerPeriod);
    const payment = period === periods ? toCents(balance + interest) : regular;
    const repaid = toCents(payment - interest);
    balance = toCents(balance - repaid);
    rows.push({ period, payment, interest, principal: repaid, balance });
  }
  return rows;
}

/** What is still owed on an installment loan after some payments have been made, in closed form. */
export function remainingBalance(principal: number, ratePerPeriod: number, periods: number, paid: number): number {
  const payment = annuityPayment(principal, ratePerPeriod, periods);
  if (ratePerPeriod === 0) return principal - payment * paid;
  const growth = (1 + ratePerPeriod) ** paid;
  return principal * growth - (payment * (growth - 1)) / ratePerPeriod;
}

/** Tells how many payments of a chosen size it takes to clear a debt; infinite if they do not even cover the interest. */
export function periodsToRepay(principal: number, ratePerPeriod: number, payment: number): number {
  if (principal <= 0) return 0;
  if (payment <= principal * ratePerPeriod) return Number.POSITIVE_INFINITY;
  if (ratePerPeriod === 0) return Math.ceil(principal / payment);
  const exact = -Math.log(1 - (principal * ratePerPeriod) / payment) / Math.log(1 + ratePerPeriod);
  return Math.ceil(exact - 1e-9);
}

/** Discounts a series of cash flows to today, the first one occurring now and the others one period apart. */
export function netPresentValue(rate: number, cashFlows: readonly number[]): number {
  return cashFlows.reduce((sum, flow, t) => sum + flow / (1 + rate) ** t, 0);
}

/**
 * Finds by bisection the discount rate at which an investment breaks even.
 * @returns undefined if the present value does not change sign between the two bounds
 */
export function internalRateOfReturn(cashFlows: readonly number[], low = -0.99, high = 10): number | undefined {
  let [a, b] = [low, high];
  const atLow = netPresentValue(a, cashFlows);
  if (atLow === 0) return a;
  if (atLow > 0 === netPresentValue(b, cashFlows) > 0) return undefined;
  while (b - a > 1e-10) {
    const middle = (a + b) / 2;
    if (netPresentValue(middle, cashFlows) > 0 === atLow > 0) a = middle;
    else b = middle;
  }
  return (a + b) / 2;
}

/** Projects savings with a regular contribution at the end of every period on top of the starting sum. */
export function savingsPlan(initial: number, contribution: number, ratePerPeriod: number, periods: number): number {
  const growth = (1 + ratePerPeriod) ** periods;
  const paidIn = ratePerPeriod === 0 ? contribution * periods : (contribution * (growth - 1)) / ratePerPeriod;
  return initial * growth + paidIn;
}

/** Removes inflation from a nominal return by the Fisher equation, to show the gain in purchasing power. */
export function realReturn(nominal: number, inflation: number): number {
  return (1 + nominal) / (1 + inflation) - 1;
}

/** Fraction of a year between two dates under the 30/360 convention of bond markets, which pretends that all months have thirty days. */
export function dayCount30360(from: Date, to: Date): number {
  const startDay = Math.min(from.getUTCDate(), 30);
  const endDay = startDay === 30 ? Math.min(to.getUTCDate(), 30) : to.getUTCDate();
  const years = to.getUTCFullYear() - from.getUTCFullYear();
  const months = to.getUTCMonth() - from.getUTCMonth();
  return (360 * years + 30 * months + (endDay - startDay)) / 360;
}
