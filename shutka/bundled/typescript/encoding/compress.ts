import { BitWriter, bitReader } from './varint';

/** A node of a Huffman tree; leaves carry a symbol. */
export type HuffmanNode = { weight: number; symbol: number } | { weight: number; left: HuffmanNode; right: HuffmanNode };

/** A back reference into text already seen, or a literal character. */
export type LzToken = { distance: number; length: number } | string;

/**
 * Collapses repeats into pairs of a value and how many times it occurs in a row.
 * @example
 * runLengthEncode(['a', 'a', 'b']) // [['a', 2], ['b', 1]]
 */
export function runLengthEncode<T>(items: Iterable<T>): Array<[T, number]> {
  const runs: Array<[T, number]> = [];
  for (const item of items) {
    const last = runs[runs.length - 1];
    if (last && Object.is(last[0], item)) last[1]++;
    else runs.push([item, 1]);
  }
  return runs;
}

/** Expands pairs of value and count to the full sequence. */
export function runLengthDecode<T>(runs: Iterable<readonly [T, number]>): T[] {
  const out: T[] = [];
  for (const [item, count] of runs) for (let i = 0; i < count; i++) out.push(item);
  return out;
}

/** Compresses bytes with the PackBits scheme of TIFF images: literal stretches up to 128 bytes and repeats up to 128, each behind a header byte. */
export function packBits(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  let literal: number[] = [];
  const flush = (): void => {
    if (literal.length > 0) out.push(literal.length - 1, ...literal);
    literal = [];
  };
  for (let i = 0; i < bytes.length; ) {
    let run = 1;
    while (run < 128 && i + run < bytes.length && bytes[i + run] === bytes[i]) run++;
    if (run > 2) flush();
    if (run > 2) out.push(257 - run, bytes[i] ?? 0);
    else for (let k = 0; k < run; k++) if (literal.push(bytes[i] ?? 0) === 128) flush();
    i += run;
  }
  flush();
  return Uint8Array.from(out);
}

/** Decompresses PackBits data, skipping the no-op header 128. */
export function unpackBits(packed: Uint8Array): Uint8Array {
  const out: number[] = [];
  for (let i = 0; i < packed.length; ) {
    const header = packed[i++] ?? 128;
    if (header < 128) {
      for (let k = 0; k <= header && i < packed.length; k++) out.push(packed[i++] ?? 0);
    } else if (header > 128) {
      const byte = packed[i++] ?? 0;
      for (let k = 0; k < 257 - header; k++) out.push(byte);
    }
  }
  return Uint8Array.from(out);
}

/** Builds an optimal prefix tree from symbol frequencies by joining the two lightest nodes until one is left; ties are broken by age. */
export function huffmanTree(frequencies: ReadonlyMap<number, number>): HuffmanNode | undefined {
  const forest: HuffmanNode[] = [...frequencies].map(([symbol, weight]) => ({ weight, symbol }));
  while (forest.length > 1) {
    forest.sort((a, b) => a.weight - b.weight);
    const [left, right] = forest.splice(0, 2) as [HuffmanNode, HuffmanNode];
    forest.push({ weight: left.weight + right.weight, left, right });
  }
  return forest[0];
}

/** Reads the depth of each symbol off a Huffman tree, which is the number of bits its code will have. A lone symbol still gets one bit. */
export function codeLengths(tree: HuffmanNode): Map<number, number> {
  const lengths = new Map<number, number>();
  const walk = (node: HuffmanNode, depth: number): void => {
    if ('symbol' in node) {
      lengths.set(node.symbol, Math.max(1, depth));
      return;
    }
    walk(node.left, depth + 1);
    walk(node.right, depth + 1);
  };
  walk(tree, 0);
  return lengths;
}

/** Assigns canonical codes from lengths alone, shorter ones first and numerically within a length, so that no tree need be transmitted. */
export function canonicalCodes(lengths: ReadonlyMap<number, number>): Map<number, { code: number; length: number }> {
  const ordered = [...lengths].sort((a, b) => a[1] - b[1] || a[0] - b[0]);
  const codes = new Map<number, { code: number; length: number }>();
  let code = 0;
  let width = ordered[0]?.[1] ?? 0;
  for (const [symbol, length] of ordered) {
    code <<= length - width;
    width = length;
    codes.set(symbol, { code: code++, length });
  }
  return codes;
}

/** Packs bytes to a bit stream with the prefix codes that suit their own frequencies; returns the code lengths needed to read it again. */
export function huffmanEncode(bytes: Uint8Array): { lengths: Map<number, number>; data: Uint8Array } {
  const frequencies = new Map<number, number>();
  for (const byte of bytes) frequencies.set(byte, (frequencies.get(byte) ?? 0) + 1);
  const tree = huffmanTree(frequencies);
  const lengths = tree ? codeLengths(tree) : new Map<number, number>();
  const codes = canonicalCodes(lengths);
  const writer = new BitWriter();
  for (const byte of bytes) {
    const entry = codes.get(byte);
    if (entry) writer.write(entry.code, entry.length);
  }
  return { lengths, data: writer.finish() };
}

/** Decodes a Huffman bit stream one bit at a time until the given number of bytes has come out. */
export function huffmanDecode(data: Uint8Array, lengths: ReadonlyMap<number, number>, count: number): Uint8Array {
  const symbols = new Map([...canonicalCodes(lengths)].map(([symbol, { code, length }]) => [`${length}:${code}`, symbol]));
  const read = bitReader(data);
  const out = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    let code = 0;
    let symbol: number | undefined;
    for (let length = 1; symbol === undefined; length++) {
      code = code * 2 + read(1);
      symbol = symbols.get(`${length}:${code}`);
    }
    out[i] = symbol;
  }
  return out;
}

/** Shannon entropy in bits per byte, the bound below which no symbol-by-symbol code can compress the data. */
export function entropy(bytes: Uint8Array): number {
  const counts = new Array<number>(256).fill(0);
  for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1;
  return counts.reduce((bits, count) => (count === 0 ? bits : bits - (count / bytes.length) * Math.log2(count / bytes.length)), 0);
}

/**
 * Replaces repeated passages by references to their earlier occurrence, in the manner of LZ77.
 * @param window how far back a reference may reach
 */
export function lz77Encode(text: string, window = 4096, minLength = 4): LzToken[] {
  const tokens: LzToken[] = [];
  for (let at = 0; at < text.length; ) {
    let best = { distance: 0, length: 0 };
    for (let from = Math.max(0, at - window); from < at; from++) {
      let length = 0;
      while (at + length < text.length && text[from + length] === text[at + length]) length++;
      if (length >= best.length) best = { distance: at - from, length };
    }
    if (best.length >= minLength) tokens.push(best);
    else tokens.push(text.charAt(at));
    at += best.length >= minLength ? best.length : 1;
  }
  return tokens;
}

/** Reconstructs text from literals and back references, which may overlap the place that they are copied to. */
export function lz77Decode(tokens: Iterable<LzToken>): string {
  let out = '';
  for (const token of tokens) {
    if (typeof token === 'string') {
      out += token;
      continue;
    }
    if (token.distance < 1 || token.distance > out.length) throw new RangeError('Reference before the start of the text');
    for (let i = 0; i < token.length; i++) out += out.charAt(out.length - token.distance);
  }
  return out;
}

/** Moves every byte to the front of a list as it is seen and emits its former position, turning local repetition into small numbers. */
export function moveToFront(bytes: Uint8Array): Uint8Array {
  const order = Array.from({ length: 256 }, (_, i) => i);
  return bytes.map((byte) => {
    const position = order.indexOf(byte);
    order.splice(position, 1);
    order.unshift(byte);
    return position;
  });
}
