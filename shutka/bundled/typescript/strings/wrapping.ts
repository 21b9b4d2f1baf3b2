/** Where the text sits inside a column that is wider than it. */
export type Alignment = 'left' | 'right' | 'center';

/** Settings of a paragraph filler. */
export interface WrapOptions {
  /** The most characters a line may hold, indentation included. */
  width: number;
  /** Put in front of the first line. */
  firstIndent?: string;
  /** Put in front of every other line. */
  restIndent?: string;
}

/**
 * Fills a paragraph greedily, breaking at white space so that no line runs past the width.
 * A single word longer than the line is left whole and sticks out.
 *
 * @returns The lines, without newline characters.
 */
export function wrapText(text: string, options: WrapOptions): string[] {
  const { width, firstIndent = '', restIndent = '' } = options;
  const lines: string[] = [];
  let line = firstIndent;
  let empty = true;
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (!empty && line.length + 1 + word.length > width) {
      lines.push(line);
      line = restIndent;
      empty = true;
    }
    line += empty ? word : ` ${word}`;
    empty = false;
  }
  return empty ? lines : [...lines, line];
}

/**
 * Cuts a string into pieces of exactly `size` characters with no regard for words, the last piece being whatever is left.
 * Meant for hexadecimal dumps, base64 bodies and other unbroken data.
 */
export function hardWrap(text: string, size: number): string[] {
  if (!Number.isInteger(size) || size < 1) throw new RangeError('size must be a positive integer');
  const pieces: string[] = [];
  for (let start = 0; start < text.length; start += size) {
    pieces.push(text.slice(start, start + size));
  }
  return pieces;
}

/**
 * Shortens a string that is too long and marks the loss with an ellipsis at the end, the mark counting towards the limit.
 */
export function truncate(text: string, limit: number, mark = '…'): string {
  if (text.length <= limit) return text;
  if (limit <= mark.length) return mark.slice(0, Math.max(limit, 0));
  return text.slice(0, limit - mark.length).trimEnd() + mark;
}

/**
 * Keeps both ends of a long value and drops its middle, so that a file path or a hash remains recognisable in a narrow space.
 *
 * @example
 * truncateMiddle('/home/ada/projects/report.txt', 17); // '/home/ad…port.txt'
 */
export function truncateMiddle(text: string, limit: number, mark = '…'): string {
  if (text.length <= limit) return text;
  const room = Math.max(limit - mark.length, 0);
  const head = Math.ceil(room / 2);
  const tail = room - head;
  return text.slice(0, head) + mark + text.slice(text.length - tail);
}

/**
 * Adds a prefix to the start of each line, leaving blank lines bare so that no trailing spaces appear.
 */
export function indent(text: string, prefix = '  '): string {
  return text.replace(/^(?=[^\r\n]*\S)/gm, prefix);
}

/**
 * Strips the margin that all non-blank lines have in common, which lets a multi-line literal follow the indentation of the code around it.
 */
export function dedent(text: string): string {
  const lines = text.split('\n');
  let margin: string | undefined;
  for (const line of lines) {
    if (line.trim() === '') continue;
    const lead = /^[ \t]*/.exec(line)![0];
    margin = margin === undefined ? lead : sharedStart(margin, lead);
  }
  const cut = margin?.length ?? 0;
  return lines.map((line) => (line.trim() === '' ? '' : line.slice(cut))).join('\n');
}

function sharedStart(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return a.slice(0, length);
}

/**
 * Pads text to a column of the given width, to the left, to the right or around it. An odd space left over by centring goes to the right.
 */
export function align(text: string, width: number, alignment: Alignment, fill = ' '): string {
  if (alignment === 'left') return text.padEnd(width, fill);
  if (alignment === 'right') return text.padStart(width, fill);
  const spare = Math.max(width - text.length, 0);
  return text.padStart(text.length + Math.floor(spare / 2), fill).padEnd(width, fill);
}

/**
 * Stretches a line to both margins by widening the gaps between its words, the leftmost gaps first.
 * A line with a single word comes back unchanged.
 */
export function justifyLine(line: string, width: number): string {
  const words = line.split(/\s+/).filter(Boolean);
  const gaps = words.length - 1;
  if (gaps < 1) return line;
  const letters = words.reduce((sum, word) => sum + word.length, 0);
  const spaces = Math.max(width - letters, gaps);
  const base = Math.floor(spaces / gaps);
  const wider = spaces % gaps;
  return words.map((word, i) => (i === gaps ? word : word + ' '.repeat(base + (i < wider ? 1 : 0)))).join('');
}

/**
 * Lays rows of cells out as a plain text table whose columns are as wide as their longest entry.
 *
 * @param alignments One setting for each column; columns without one are flush left.
 */
export function formatColumns(rows: string[][], alignments: Alignment[] = [], gap = '  '): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return rows
    .map((row) => row.map((cell, i) => align(cell, widths[i] ?? 0, alignments[i] ?? 'left')).join(gap).trimEnd())
    .join('\n');
}

/**
 * Squeezes every run of spaces, tabs and line breaks into one space and trims the ends, as a browser does when it shows text.
 */
export const collapseWhitespace = (text: string): string => text.trim().replace(/\s+/g, ' ');

/**
 * Frames a block of text with line-drawing characters, for a notice that should stand out in a terminal.
 */
export function drawBox(text: string): string {
  const lines = text.split('\n');
  const width = Math.max(...lines.map((line) => line.length));
  const bar = '─'.repeat(width + 2);
  const body = lines.map((line) => `│ ${line.padEnd(width)} │`);
  return [`┌${bar}┐`, ...body, `└${bar}┘`].join('\n');
}

/**
 * Replaces tab characters by as many spaces as it takes to reach the next tab stop, counted from the start of each line.
 */
export function expandTabs(text: string, tabSize = 8): string {
  let column = 0;
  let expanded = '';
  for (const char of text) {
    if (char === '\t') {
      const spaces = tabSize - (column % tabSize);
      expanded += ' '.repeat(spaces);
      column += spaces;
    } else {
      expanded += char;
      column = char === '\n' ? 0 : column + 1;
    }
  }
  return expanded;
}
