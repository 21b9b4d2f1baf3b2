const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c >>> 0;
});

/**
 * The CRC-32 of zip, gzip and PNG. Pass an earlier result to continue over data that comes in chunks.
 * @returns an unsigned 32-bit number
 */
export function crc32(bytes: Uint8Array, previous = 0): number {
  let crc = ~previous;
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}

/** Sixteen-bit cyclic redundancy check with the CCITT polynomial and all bits set initially, common on serial links. */
export function crc16Ccitt(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let k = 0; k < 8; k++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc;
}

/** Adler-32 as zlib appends to its streams: two running sums modulo 65521, faster than a CRC and somewhat weaker. */
export function adler32(bytes: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return ((b << 16) | a) >>> 0;
}

/** Sixteen-bit Fletcher sum, which unlike a plain total notices bytes that were swapped. */
export const fletcher16 = (bytes: Uint8Array): number => {
  let low = 0;
  let high = 0;
  for (const byte of bytes) {
    low = (low + byte) % 255;
    high = (high + low) % 255;
  }
  return (high << 8) | low;
};

/** The one's complement sum over 16-bit words that guards IP, TCP and UDP headers; over data including a correct checksum it yields zero. */
export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  return ~sum & 0xffff;
}

/** FNV-1a, a tiny non-cryptographic hash for short keys, in 32 bits. */
export function fnv1a(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** Validates a payment card number by the Luhn formula, ignoring blanks and dashes between the digits. */
export function luhnValid(number: string): boolean {
  const digits = number.replace(/[\s-]/g, '');
  if (!/^\d{2,}$/.test(digits)) return false;
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const d = Number(digits[digits.length - 1 - i]);
    sum += i % 2 === 0 ? d : d > 4 ? 2 * d - 9 : 2 * d;
  }
  return sum % 10 === 0;
}

/** Computes the last digit of an EAN-13 barcode or ISBN-13 from the twelve before it, with weights one and three in turn. */
export function ean13CheckDigit(firstTwelve: string): number {
  if (!/^\d{12}$/.test(firstTwelve)) throw new SyntaxError('Expected twelve digits');
  const sum = [...firstTwelve].reduce((total, d, i) => total + Number(d) * (i % 2 === 0 ? 1 : 3), 0);
  return (10 - (sum % 10)) % 10;
}

/** Checks an old ten-character ISBN, whose last place may be an X for ten. */
export function isbn10Valid(isbn: string): boolean {
  const text = isbn.replace(/[\s-]/g, '').toUpperCase();
  if (!/^\d{9}[\dX]$/.test(text)) return false;
  const sum = [...text].reduce((total, ch, i) => total + (10 - i) * (ch === 'X' ? 10 : Number(ch)), 0);
  return sum % 11 === 0;
}

/** Tests an international bank account number: moves the country and check digits to the end, spells letters as numbers, and takes the remainder by 97. */
export function ibanValid(iban: string): boolean {
  const text = iban.replace(/\s+/g, '').toUpperCase();
  if (!/^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$/.test(text)) return false;
  let remainder = 0;
  for (const ch of text.slice(4) + text.slice(0, 4)) {
    for (const d of parseInt(ch, 36).toString()) remainder = (remainder * 10 + Number(d)) % 97;
  }
  return remainder === 1;
}

/** Single parity bit over a word: 1 if the number of its ones is odd. */
export function parity(word: number): 0 | 1 {
  let x = word;
  for (const shift of [16, 8, 4, 2, 1]) x ^= x >>> shift;
  return (x & 1) === 1 ? 1 : 0;
}

/** Protects four data bits with three parity bits in a Hamming code, arranged so that any single flipped bit can be located. */
export function hammingEncode(nibble: number): number {
  const [a, b, c, d] = [3, 2, 1, 0].map((i) => (nibble >>> i) & 1) as [number, number, number, number];
  const bits = [a ^ b ^ d, a ^ c ^ d, a, b ^ c ^ d, b, c, d];
  return bits.reduce((word, bit) => (word << 1) | bit, 0);
}

/** Recovers the four data bits of a seven-bit Hamming word, repairing one transmission error if there was any. */
export function hammingDecode(word: number): number {
  const bit = (position: number, w: number): number => (w >>> (7 - position)) & 1;
  let syndrome = 0;
  for (let position = 1; position <= 7; position++) if (bit(position, word)) syndrome ^= position;
  const fixed = syndrome === 0 ? word : word ^ (1 << (7 - syndrome));
  return (bit(3, fixed) << 3) | (bit(5, fixed) << 2) | (bit(6, fixed) << 1) | bit(7, fixed);
}
