/** The five classes of accounts in double-entry bookkeeping. */
export type AccountKind = 'asset' | 'liability' | 'equity' | 'income' | 'expense';

/** One leg of a journal entry: positive cents debit the account, negative cents credit it. */
export interface Posting {
  account: string;
  cents: number;
}

/** A dated entry of the journal; its postings must sum to zero. */
export interface JournalEntry {
  date: string;
  memo: string;
  postings: readonly Posting[];
}

/** A line of a bank statement. */
export interface BankLine {
  date: string;
  cents: number;
}

/** Verifies that debits equal credits, the golden rule of bookkeeping, and that at least two accounts take part. */
export function isBalanced(entry: JournalEntry): boolean {
  const sum = entry.postings.reduce((total, posting) => total + posting.cents, 0);
  return sum === 0 && new Set(entry.postings.map((p) => p.account)).size >= 2;
}

/** Shorthand for the commonest entry, moving a sum out of one account into another. */
export const transfer = (date: string, memo: string, from: string, to: string, cents: number): JournalEntry => ({
  date,
  memo,
  postings: [{ account: to, cents }, { account: from, cents: -cents }],
});

/** An append-only journal that refuses unbalanced entries. */
export class Ledger {
  private readonly entries: JournalEntry[] = [];

  /** Books an entry and returns its position in the journal. */
  post(entry: JournalEntry): number {
    if (!isBalanced(entry)) throw new Error(`Entry does not balance: ${entry.memo}`);
    return this.entries.push(entry) - 1;
  }

  /** Cancels an earlier entry by booking its mirror image, since the journal itself must not be altered. */
  reverse(index: number, date: string): number {
    const entry = this.entries[index];
    if (!entry) throw new RangeError(`No entry number ${index}`);
    const postings = entry.postings.map((p) => ({ account: p.account, cents: -p.cents }));
    return this.post({ date, memo: `Reversal of: ${entry.memo}`, postings });
  }

  /** Net of all debits and credits of an account up to and including a day; sub-accounts such as `assets:bank` count towards `assets`. */
  balance(account: string, until = '9999-12-31'): number {
    let total = 0;
    for (const entry of this.entries) {
      if (entry.date > until) continue;
      for (const p of entry.postings) if (p.account === account || p.account.startsWith(`${account}:`)) total += p.cents;
    }
    return total;
  }

  /** Lists every movement of one account by date with the balance after each, like a passbook. */
  statement(account: string): Array<{ date: string; memo: string; cents: number; balance: number }> {
    const rows: Array<{ date: string; memo: string; cents: number; balance: number }> = [];
    let balance = 0;
    for (const entry of [...this.entries].sort((a, b) => (a.date < b.date ? -1 : a.date > b.date ? 1 : 0))) {
      for (const p of entry.postings) {
        if (p.account !== account) continue;
        balance += p.cents;
        rows.push({ date: entry.date, memo: entry.memo, cents: p.cents, balance });
      }
    }
    return rows;
  }

  /** Totals of all accounts that are not zero; the column must sum to nothing, which shows that no posting was lost. */
  trialBalance(): Map<string, number> {
    const totals = new Map<string, number>();
    for (const { postings } of this.entries) {
      for (const p of postings) totals.set(p.account, (totals.get(p.account) ?? 0) + p.cents);
    }
    for (const [account, cents] of totals) if (cents === 0) totals.delete(account);
    return totals;
  }
}

/** Turns a raw debit-minus-credit figure into the sign that readers expect, where income, debts and equity grow on the credit side. */
export function naturalBalance(kind: AccountKind, cents: number): number {
  const creditSide = kind === 'liability' || kind === 'equity' || kind === 'income';
  return creditSide ? 0 - cents : cents;
}

/** Profit or loss of a period: what was earned less what was spent, from a trial balance and a classification of the accounts. */
export function netIncome(totals: ReadonlyMap<string, number>, kindOf: (account: string) => AccountKind): number {
  let result = 0;
  for (const [account, cents] of totals) {
    const kind = kindOf(account);
    if (kind === 'income' || kind === 'expense') result -= cents;
  }
  return result;
}

/** Builds the closing entry that zeroes the income and expense accounts and carries the result over to retained earnings. */
export function closingEntry(date: string, totals: ReadonlyMap<string, number>, kindOf: (account: string) => AccountKind, retained: string): JournalEntry {
  const postings: Posting[] = [];
  for (const [account, cents] of totals) {
    const kind = kindOf(account);
    if (kind === 'income' || kind === 'expense') postings.push({ account, cents: -cents });
  }
  postings.push({ account: retained, cents: -netIncome(totals, kindOf) });
  return { date, memo: 'Closing', postings };
}

/**
 * Reconciles the books with a bank statement by pairing lines of equal amount that lie within a few days of each other.
 * @returns what could not be matched on either side
 */
export function reconcile(book: readonly BankLine[], bank: readonly BankLine[], toleranceDays = 3): { onlyBook: BankLine[]; onlyBank: BankLine[] } {
  const onlyBank = [...bank];
  const onlyBook: BankLine[] = [];
  for (const line of book) {
    const at = onlyBank.findIndex((other) =>
      other.cents === line.cents && Math.abs(Date.parse(other.date) - Date.parse(line.date)) <= toleranceDays * 86_400_000);
    if (at >= 0) onlyBank.splice(at, 1);
    else onlyBook.push(line);
  }
  return { onlyBook, onlyBank };
}

/** Writes an asset off in equal yearly amounts from cost down to salvage value; cents that do not divide go to the last year. */
export function straightLineDepreciation(costCents: number, salvageCents: number, years: number): number[] {
  const base = costCents - salvageCents;
  const yearly = Math.floor(base / years);
  return Array.from({ length: years }, (_, i) => (i === years - 1 ? base - yearly * (years - 1) : yearly));
}

/** Nets mutual debts in a group and proposes few payments that settle them, always from the deepest debtor to the biggest creditor. */
export function settleUp(balances: ReadonlyMap<string, number>): Array<{ from: string; to: string; cents: number }> {
  const open = [...balances].map(([name, cents]) => ({ name, cents }));
  const payments: Array<{ from: string; to: string; cents: number }> = [];
  for (;;) {
    open.sort((a, b) => a.cents - b.cents);
    const debtor = open[0];
    const creditor = open[open.length - 1];
    if (!debtor || !creditor || debtor.cents >= 0 || creditor.cents <= 0) return payments;
    const cents = Math.min(-debtor.cents, creditor.cents);
    payments.push({ from: debtor.name, to: creditor.name, cents });
    debtor.cents += cents;
    creditor.cents -= cents;
  }
}
