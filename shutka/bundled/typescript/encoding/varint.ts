/** A decoded value and the offset of the first byte after it. */
export interface Decoded<T> {
  value: T;
  next: number;
}

/** Encodes an unsigned integer in LEB128: seven bits per byte, least significant first, the high bit announcing that more follow. */
export function encodeVarint(value: number): number[] {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError('Expected a non-negative safe integer');
  const out: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    out.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  out.push(rest);
  return out;
}

/** Decodes a variable-length unsigned integer starting at an offset, failing if the buffer ends in the middle of it. */
export function decodeVarint(bytes: Uint8Array, offset = 0): Decoded<number> {
  let value = 0;
  let scale = 1;
  for (let at = offset; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    value += (byte & 0x7f) * scale;
    if (value > Number.MAX_SAFE_INTEGER) throw new RangeError('Varint too large');
    if (byte < 0x80) return { value, next: at + 1 };
    scale *= 0x80;
  }
  throw new RangeError('Truncated varint');
}

/** Tells in advance how many bytes an integer will take as a varint, for sizing a buffer. */
export const varintLength = (value: number): number => {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
};

/** Interleaves negative with positive integers, 0, -1, 1, -2 and so on, so that small magnitudes get small codes. */
export const zigzag = (value: number): number => (value < 0 ? -2 * value - 1 : 2 * value);

/** Restores the sign of an integer from its interleaved code. */
export const unzigzag = (code: number): number => (code % 2 === 0 ? code / 2 : -(code + 1) / 2);

/** Stores a sequence as its first element followed by the differences between neighbours, which are small for sorted or slowly varying data. */
export function deltaEncode(values: readonly number[]): number[] {
  return values.map((value, i) => (i === 0 ? value : value - (values[i - 1] ?? 0)));
}

/** Rebuilds a sequence from differences by a running sum. */
export function deltaDecode(deltas: readonly number[]): number[] {
  let sum = 0;
  return deltas.map((delta) => (sum += delta));
}

/** Packs a list of integers of any sign into bytes, as signed differences in variable length behind a count. */
export function packIntegers(values: readonly number[]): Uint8Array {
  const out = encodeVarint(values.length);
  for (const delta of deltaEncode(values)) out.push(...encodeVarint(zigzag(delta)));
  return Uint8Array.from(out);
}

/** Unpacks what the integer packer has produced, checking that no stray bytes remain. */
export function unpackIntegers(bytes: Uint8Array): number[] {
  let { value: count, next } = decodeVarint(bytes);
  const deltas: number[] = [];
  while (count-- > 0) {
    const decoded = decodeVarint(bytes, next);
    deltas.push(unzigzag(decoded.value));
    next = decoded.next;
  }
  if (next !== bytes.length) throw new RangeError('Unexpected bytes after the list');
  return deltaDecode(deltas);
}

/** Concatenates messages to one stream with the length of each in front, so that a reader can tell where one ends. */
export function frameMessages(messages: readonly Uint8Array[]): Uint8Array {
  const out: number[] = [];
  for (const message of messages) {
    out.push(...encodeVarint(message.length));
    for (const byte of message) out.push(byte);
  }
  return Uint8Array.from(out);
}

/** Splits a received stream at its length prefixes into complete messages and returns the unfinished remainder for the next read. */
export function unframeMessages(stream: Uint8Array): { messages: Uint8Array[]; rest: Uint8Array } {
  const messages: Uint8Array[] = [];
  let at = 0;
  while (stream.subarray(at).some((byte) => byte < 0x80)) {
    const { value: length, next } = decodeVarint(stream, at);
    if (next + length > stream.length) break;
    messages.push(stream.slice(next, next + length));
    at = next + length;
  }
  return { messages, rest: stream.slice(at) };
}

/** Appends values of a few bits each to a byte array, most significant bit first. */
export class BitWriter {
  private readonly bytes: number[] = [];
  private used = 0;

  /** Writes the lowest bits of a value. */
  write(value: number, width: number): void {
    for (let i = width - 1; i >= 0; i--) {
      if (this.used % 8 === 0) this.bytes.push(0);
      const bit = (value >>> i) & 1;
      this.bytes[this.bytes.length - 1] = (this.bytes[this.bytes.length - 1] ?? 0) | (bit << (7 - (this.used % 8)));
      this.used++;
    }
  }

  /** Hands over the bytes, the last one filled up with zero bits. */
  finish(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }
}

/** Creates a function that consumes the next so many bits of a buffer as an unsigned number, the counterpart of the bit writer. */
export function bitReader(bytes: Uint8Array): (width: number) => number {
  let at = 0;
  return (width) => {
    if (at + width > bytes.length * 8) throw new RangeError('Read past the end of the bits');
    let value = 0;
    for (let i = 0; i < width; i++, at++) value = value * 2 + (((bytes[at >>> 3] ?? 0) >>> (7 - (at & 7))) & 1);
    return value;
  };
}
