/** One position of an invoice; prices are net, in cents. */
export interface LineItem {
  description: string;
  quantity: number;
  unitCents: number;
  taxRate: number;
  discountPercent?: number;
}

/** Sums by tax rate, as they must be printed. */
export interface TaxLine {
  rate: number;
  netCents: number;
  taxCents: number;
}

/** A payment received, in cents. */
export interface Payment {
  cents: number;
  date: Date;
}

const DAY_MS = 86_400_000;

/** Net price of one position after its own discount, rounded to the cent. */
export function lineTotal(item: LineItem): number {
  const gross = item.quantity * item.unitCents;
  return Math.round(gross * (1 - (item.discountPercent ?? 0) / 100));
}

/** Adds up positions per VAT rate and computes the tax once on each sum, instead of rounding on every line. */
export function taxBreakdown(items: readonly LineItem[]): TaxLine[] {
  const nets = new Map<number, number>();
  for (const item of items) nets.set(item.taxRate, (nets.get(item.taxRate) ?? 0) + lineTotal(item));
  return [...nets]
    .sort(([a], [b]) => a - b)
    .map(([rate, netCents]) => ({ rate, netCents, taxCents: Math.round(netCents * rate) }));
}

/** The three figures at the foot of a bill: net, tax and the amount to pay. */
export function invoiceTotals(items: readonly LineItem[]): { net: number; tax: number; due: number } {
  let net = 0;
  let tax = 0;
  for (const row of taxBreakdown(items)) {
    net += row.netCents;
    tax += row.taxCents;
  }
  return { net, tax, due: net + tax };
}

/** Recovers the tax contained in a price that already includes it. */
export const includedTax = (grossCents: number, rate: number): number =>
  grossCents - Math.round(grossCents / (1 + rate));

/**
 * Applies a voucher to an amount due, percentage or fixed, without ever turning the bill into a refund.
 */
export function applyVoucher(dueCents: number, voucher: { percent: number } | { cents: number }): number {
  const reduction = 'percent' in voucher ? Math.round((dueCents * voucher.percent) / 100) : voucher.cents;
  return Math.max(0, dueCents - Math.max(0, reduction));
}

/** Looks up the unit price for a quantity in a scale of volume discounts; buying more than a threshold lowers the price of all pieces. */
export function tierPrice(quantity: number, tiers: ReadonlyArray<{ from: number; unitCents: number }>): number {
  let chosen: { from: number; unitCents: number } | undefined;
  for (const tier of tiers) {
    if (tier.from <= quantity && (!chosen || tier.from > chosen.from)) chosen = tier;
  }
  if (!chosen) throw new RangeError(`No price for a quantity of ${quantity}`);
  return chosen.unitCents;
}

/**
 * Charges usage through graduated brackets, each unit at the price of the bracket that it falls into, the way electricity or income tax is billed.
 * @param brackets upper limits in ascending order, the last one usually infinite
 */
export function graduatedCharge(units: number, brackets: ReadonlyArray<{ upTo: number; centsPerUnit: number }>): number {
  let charged = 0;
  let floor = 0;
  for (const { upTo, centsPerUnit } of brackets) {
    if (units <= floor) break;
    charged += (Math.min(units, upTo) - floor) * centsPerUnit;
    floor = upTo;
  }
  return Math.round(charged);
}

/** Works out when a bill must be paid, so many days after issue and moved on to Monday if that falls on a weekend. */
export function dueDate(issued: Date, termDays: number): Date {
  const due = new Date(issued.getTime() + termDays * DAY_MS);
  const weekday = due.getUTCDay();
  const shift = weekday === 6 ? 2 : weekday === 0 ? 1 : 0;
  return new Date(due.getTime() + shift * DAY_MS);
}

/** Settlement state of an invoice in view of the payments received so far and today's date. */
export function paymentStatus(dueCents: number, payments: readonly Payment[], due: Date, today: Date): 'paid' | 'overpaid' | 'partial' | 'overdue' | 'open' {
  const received = payments.reduce((sum, p) => sum + p.cents, 0);
  if (received > dueCents) return 'overpaid';
  if (received === dueCents) return 'paid';
  if (today.getTime() > due.getTime()) return 'overdue';
  return received > 0 ? 'partial' : 'open';
}

/** Late fee for every day begun past the due date at a yearly rate, on the unpaid sum, counting 365 days to a year. */
export function latePenalty(unpaidCents: number, annualRate: number, due: Date, today: Date): number {
  const days = Math.max(0, Math.ceil((today.getTime() - due.getTime()) / DAY_MS));
  return Math.round((unpaidCents * annualRate * days) / 365);
}

/** Credits a customer for the unused part of a subscription month when the plan is changed on a given day. */
export function prorate(monthlyCents: number, changed: Date): number {
  const daysInMonth = new Date(Date.UTC(changed.getUTCFullYear(), changed.getUTCMonth() + 1, 0)).getUTCDate();
  const unused = daysInMonth - changed.getUTCDate() + 1;
  return Math.round((monthlyCents * unused) / daysInMonth);
}

/** Sorts receivables into ageing buckets of thirty days by how long they have been overdue: current, 1–30, 31–60, 61–90 and older. */
export function ageReceivables(open: ReadonlyArray<{ cents: number; due: Date }>, today: Date): [number, number, number, number, number] {
  const buckets: [number, number, number, number, number] = [0, 0, 0, 0, 0];
  for (const { cents, due } of open) {
    const days = Math.floor((today.getTime() - due.getTime()) / DAY_MS);
    const slot = days <= 0 ? 0 : Math.min(4, Math.ceil(days / 30));
    buckets[slot] = (buckets[slot] ?? 0) + cents;
  }
  return buckets;
}

/** Produces the next number in a yearly series like `2024-0042`, beginning again at one when the year changes. */
export function nextInvoiceNumber(previous: string | undefined, year: number): string {
  const m = /^(\d{4})-(\d+)$/.exec(previous ?? '');
  const counter = m && Number(m[1]) === year ? Number(m[2]) + 1 : 1;
  return `${year}-${String(counter).padStart(4, '0')}`;
}
