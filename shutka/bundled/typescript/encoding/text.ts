const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

function encodeBits(bytes: Uint8Array, alphabet: string, width: number): string {
  let out = '';
  let buffer = 0;
  let bits = 0;
  for (const byte of bytes) {
    buffer = ((buffer << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= width) {
      bits -= width;
      out += alphabet[(buffer >>> bits) & ((1 << width) - 1)];
    }
  }
  if (bits > 0) out += alphabet[(buffer << (width - bits)) & ((1 << width) - 1)];
  return out;
}

function decodeBits(text: string, alphabet: string, width: number): Uint8Array {
  const out = new Uint8Array(Math.floor((text.length * width) / 8));
  let buffer = 0;
  let bits = 0;
  let at = 0;
  for (const ch of text) {
    const value = alphabet.indexOf(ch);
    if (value < 0) throw new SyntaxError(`Unexpected character "${ch}"`);
    buffer = ((buffer << width) | value) & 0xffff;
    bits += width;
    if (bits < 8) continue;
    bits -= 8;
    out[at++] = (buffer >>> bits) & 0xff;
  }
  return out;
}

/** Writes bytes in standard base64 with padding, four characters for every three bytes. */
export function toBase64(bytes: Uint8Array): string {
  const text = encodeBits(bytes, BASE64, 6);
  return text.padEnd(Math.ceil(text.length / 4) * 4, '=');
}

/** Reads base64 back into bytes; accepts the URL-safe alphabet as well, missing padding, and line breaks. */
export function fromBase64(text: string): Uint8Array {
  const clean = text.replace(/\s+/g, '').replace(/={1,2}$/, '').replace(/-/g, '+').replace(/_/g, '/');
  if (clean.length % 4 === 1) throw new SyntaxError('Truncated base64');
  return decodeBits(clean, BASE64, 6);
}

/** Variant of base64 without padding whose characters need no escaping in addresses or file names, as used in web tokens. */
export const toBase64Url = (bytes: Uint8Array): string =>
  encodeBits(bytes, BASE64, 6).replace(/\+/g, '-').replace(/\//g, '_');

/** Renders bytes as lowercase hexadecimal, two digits each. */
export function toHex(bytes: Uint8Array, separator = ''): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(separator);
}

/**
 * Parses a string of hex digits, in either case and with an optional `0x` in front.
 * @throws on an odd number of digits or any other character
 */
export function fromHex(text: string): Uint8Array {
  const digits = text.replace(/^0x/i, '');
  if (digits.length % 2 !== 0 || /[^0-9a-f]/i.test(digits)) throw new SyntaxError('Malformed hex string');
  const out = new Uint8Array(digits.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return out;
}

/** Encodes with the 32 letters and digits of RFC 4648, padded, the form in which authenticator secrets are handed out. */
export function toBase32(bytes: Uint8Array): string {
  const text = encodeBits(bytes, BASE32, 5);
  return text.padEnd(Math.ceil(text.length / 8) * 8, '=');
}

/** Decodes the 32-character alphabet of one-time password secrets, ignoring case, blanks and padding. */
export function fromBase32(text: string): Uint8Array {
  return decodeBits(text.toUpperCase().replace(/\s+/g, '').replace(/=+$/, ''), BASE32, 5);
}

/** Spells a non-negative integer in Crockford's alphabet, which leaves out letters that are easily confused when read aloud. */
export function toCrockford(value: bigint): string {
  if (value < 0n) throw new RangeError('Expected a non-negative integer');
  let out = '';
  let rest = value;
  do {
    out = CROCKFORD.charAt(Number(rest % 32n)) + out;
    rest /= 32n;
  } while (rest > 0n);
  return out;
}

/** Encodes bytes in base58 as Bitcoin addresses are, every leading zero byte becoming a `1`. */
export function toBase58(bytes: Uint8Array): string {
  let value = 0n;
  for (const byte of bytes) value = value * 256n + BigInt(byte);
  let out = '';
  for (; value > 0n; value /= 58n) out = BASE58.charAt(Number(value % 58n)) + out;
  const firstNonZero = bytes.findIndex((byte) => byte !== 0);
  const zeros = firstNonZero < 0 ? bytes.length : firstNonZero;
  return '1'.repeat(zeros) + out;
}

/** Converts a string to UTF-8 bytes by hand, for runtimes without a text encoder. Lone surrogates become the replacement character. */
export function utf8Encode(text: string): Uint8Array {
  const out: number[] = [];
  for (const ch of text) {
    let code = ch.codePointAt(0) ?? 0;
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
    if (code < 0x80) out.push(code);
    else if (code < 0x800) out.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000) out.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else out.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  return Uint8Array.from(out);
}

/** Prints binary data the way a hex editor shows it: offset, sixteen bytes, and the printable characters at the side. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const ascii = Array.from(row, (b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : '.')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}  ${toHex(row, ' ').padEnd(47)}  ${ascii}`);
  }
  return lines.join('\n');
}
