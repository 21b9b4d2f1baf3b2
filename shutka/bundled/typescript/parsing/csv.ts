/** How a delimited file is written: the field separator and the character that wraps fields with special content. */
export interface CsvDialect {
  delimiter: string;
  quote: string;
}

/** The comma and double quote convention of RFC 4180, used wherever no other dialect is given. */
export const RFC4180: CsvDialect = { delimiter: ',', quote: '"' };

/**
 * Parses comma-separated text into rows of string fields. Quoted fields may contain delimiters, line breaks and doubled quotes,
 * and both Unix and Windows line endings are understood.
 *
 * @param text - the content of the file; a trailing line break does not produce an empty row
 * @param dialect - separator and quote character, comma and double quote by default
 */
export function parseCsv(text: string, dialect: CsvDialect = RFC4180): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let field = '';
  let quoted = false;
  const endField = () => { row.push(field); field = ''; };
  const endRow = () => { endField(); rows.push(row); row = []; };
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (quoted) {
      if (char !== dialect.quote) field += char;
      else if (text[i + 1] === dialect.quote) field += text[++i]!;
      else quoted = false;
    } else if (char === dialect.quote && field === '') quoted = true;
    else if (char === dialect.delimiter) endField();
    else if (char === '\n') endRow();
    else if (!(char === '\r' && text[i + 1] === '\n')) field += char;
  }
  if (field !== '' || row.length > 0 || text.endsWith(dialect.quote)) endRow();
  return rows;
}

/** Wraps a value in quotes only when it needs them, doubling any quote inside, so that it survives as one cell of a CSV line. */
export function escapeField(value: string, dialect: CsvDialect = RFC4180): string {
  const { delimiter, quote } = dialect;
  const special = [delimiter, quote, '\n', '\r'].some((char) => value.includes(char));
  return special ? quote + value.replaceAll(quote, quote + quote) + quote : value;
}

/**
 * Serialises a table of cells to CSV text with CRLF line ends, the form spreadsheets import without questions.
 * Null and undefined cells are written as empty.
 */
export function stringifyCsv(rows: readonly (readonly unknown[])[], dialect: CsvDialect = RFC4180): string {
  return rows
    .map((row) => row.map((cell) => escapeField(String(cell ?? ''), dialect)).join(dialect.delimiter) + '\r\n')
    .join('');
}

/**
 * Turns rows into objects keyed by the header line. Missing cells become empty strings and cells beyond the header are ignored.
 *
 * @example
 * toRecords([['id', 'name'], ['7', 'Ada']]); // [{ id: '7', name: 'Ada' }]
 */
export function toRecords(rows: readonly (readonly string[])[]): Record<string, string>[] {
  const [header, ...body] = rows;
  if (!header) return [];
  return body.map((row) => Object.fromEntries(header.map((name, i) => [name, row[i] ?? ''])));
}

/** Flattens objects to a table with a header line that is the union of all their keys, in order of first appearance. */
export function fromRecords(records: readonly Record<string, unknown>[]): string[][] {
  const header = [...new Set(records.flatMap((record) => Object.keys(record)))];
  const body = records.map((record) => header.map((key) => String(record[key] ?? '')));
  return header.length === 0 ? [] : [header, ...body];
}

/**
 * Guesses whether a sample was separated by commas, semicolons, tabs or pipes by picking the candidate that splits its lines
 * into the most columns while giving every line the same count.
 *
 * @returns the delimiter, a comma when nothing else fits
 */
export function sniffDelimiter(sample: string, candidates: readonly string[] = [',', ';', '\t', '|']): string {
  let best = ',';
  let bestWidth = 1;
  for (const delimiter of candidates) {
    const widths = parseCsv(sample, { delimiter, quote: '"' }).map((row) => row.length);
    const width = widths[0] ?? 0;
    if (width > bestWidth && widths.every((other) => other === width)) {
      best = delimiter;
      bestWidth = width;
    }
  }
  return best;
}

/** Converts a raw cell to the most specific scalar its spelling allows: number, boolean, null for blank, or the text itself. */
export const inferCell = (cell: string): string | number | boolean | null => {
  const text = cell.trim();
  if (text === '') return null;
  if (/^(?:true|false)$/i.test(text)) return text.toLowerCase() === 'true';
  return /^[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : cell;
};

/** The kinds of data a column can be declared to hold. */
export type ColumnType = 'number' | 'boolean' | 'text' | 'empty';

/** Decides on one type for a whole column: blanks are disregarded and a single stray word makes the column text. */
export function columnType(cells: Iterable<string>): ColumnType {
  let found: ColumnType = 'empty';
  for (const cell of cells) {
    const value = inferCell(cell);
    if (value === null) continue;
    const kind = typeof value === 'number' ? 'number' : typeof value === 'boolean' ? 'boolean' : 'text';
    if (found !== 'empty' && found !== kind) return 'text';
    found = kind;
  }
  return found;
}

/** Lists the line numbers, counted from one, whose number of fields differs from the header. Run it before trusting an uploaded file. */
export function raggedRows(rows: readonly (readonly string[])[]): number[] {
  const width = rows[0]?.length ?? 0;
  return rows.flatMap((row, i) => (row.length === width ? [] : [i + 1]));
}

/**
 * Pulls a single named column out of a parsed table, without the header cell.
 *
 * @throws RangeError when the header has no such name
 */
export function pickColumn(rows: readonly (readonly string[])[], name: string): string[] {
  const index = rows[0]?.indexOf(name) ?? -1;
  if (index === -1) throw new RangeError(`no column named ${name}`);
  return rows.slice(1).map((row) => row[index] ?? '');
}

/** Makes header names unique by numbering the repeats, so that two columns both called `total` become `total` and `total_2`. */
export function uniqueHeaders(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    let candidate = name;
    for (let n = 2; taken.has(candidate); n++) candidate = `${name}_${n}`;
    taken.add(candidate);
    return candidate;
  });
}

/**
 * Defuses formula injection: a cell starting with `=`, `+`, `-`, `@`, a tab or a carriage return gets a leading apostrophe,
 * so that a spreadsheet shows it instead of running it. Plain signed numbers pass unchanged.
 */
export function neutralizeFormula(cell: string): string {
  const isNumber = /^[+-]?\d+(?:\.\d+)?$/.test(cell);
  return /^[=+\-@\t\r]/.test(cell) && !isNumber ? `'${cell}` : cell;
}

/**
 * Reads a well-formed CSV that arrives in pieces, yielding each complete row as soon as its line ends, even if a chunk boundary
 * falls inside a quoted field. Suited to files too large to hold in memory.
 */
export async function* streamRows(
  chunks: AsyncIterable<string> | Iterable<string>,
  dialect: CsvDialect = RFC4180,
): AsyncGenerator<string[]> {
  let line = '';
  let quoted = false;
  for await (const chunk of chunks) {
    for (const char of chunk) {
      line += char;
      if (char === dialect.quote) quoted = !quoted;
      if (char === '\n' && !quoted) {
        yield* parseCsv(line, dialect);
        line = '';
      }
    }
  }
  yield* parseCsv(line, dialect);
}
