function digitSum(n: number): number {
  return Math.floor(n / 10) + (n % 10);
}

/**
 * Practical plausibility test for an email address: one at sign, a sane local part of at most 64 characters and a dotted domain.
 * It cannot tell whether the mailbox exists.
 */
export function isEmail(text: string): boolean {
  const at = text.lastIndexOf('@');
  const local = text.slice(0, Math.max(0, at));
  const domain = text.slice(at + 1);
  if (at < 1 || local.length > 64 || text.length > 254) {
    return false;
  }
  const atom = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+";
  return new RegExp(`^${atom}(?:\\.${atom})*$`, 'i').test(local) && domain.includes('.') && isHostname(domain);
}

/** Tells whether a text is a legal DNS host name: labels of letters, digits and inner hyphens, 63 characters each and 253 in all. */
export function isHostname(text: string): boolean {
  if (text.length === 0 || text.length > 253) {
    return false;
  }
  const label = /^[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?$/i;
  return text.split('.').every((part) => label.test(part));
}

/**
 * Verifies the check digit of a payment card number with the Luhn algorithm, which catches any single mistyped digit.
 * Blanks and hyphens between groups are ignored.
 *
 * @example
 * isCardNumber('4111 1111 1111 1111'); // true
 */
export function isCardNumber(text: string): boolean {
  const digits = text.replace(/[ -]/g, '');
  if (!/^\d{12,19}$/.test(digits)) {
    return false;
  }
  const sum = [...digits].reverse().reduce((total, d, i) => {
    return total + (i % 2 === 1 ? digitSum(Number(d) * 2) : Number(d));
  }, 0);
  return sum % 10 === 0;
}

/** Guesses the issuing network of a credit card from its leading digits, for showing the right logo while the customer types. */
export function cardBrand(text: string): 'visa' | 'mastercard' | 'amex' | 'discover' | undefined {
  const digits = text.replace(/\D/g, '');
  if (/^4/.test(digits)) return 'visa';
  if (/^3[47]/.test(digits)) return 'amex';
  if (/^(?:6011|65|64[4-9])/.test(digits)) return 'discover';
  const prefix = Number(digits.slice(0, 4));
  if (/^5[1-5]/.test(digits) || (prefix >= 2221 && prefix <= 2720)) return 'mastercard';
  return undefined;
}

/**
 * Checks an international bank account number: country code, two check digits and a remainder of one modulo 97.
 * Country-specific lengths are not looked up.
 */
export function isIban(text: string): boolean {
  const compact = text.replace(/\s/g, '').toUpperCase();
  if (!/^[A-Z]{2}\d{2}[A-Z\d]{11,30}$/.test(compact)) {
    return false;
  }
  let remainder = 0;
  for (const character of compact.slice(4) + compact.slice(0, 4)) {
    const value = parseInt(character, 36);
    remainder = (remainder * (value > 9 ? 100 : 10) + value) % 97;
  }
  return remainder === 1;
}

/** Validates a book number in either the old ten-digit form, where the last sign may be X for ten, or the newer form with thirteen digits. */
export function isIsbn(text: string): boolean {
  const compact = text.replace(/[\s-]/g, '').toUpperCase();
  if (/^\d{9}[\dX]$/.test(compact)) {
    const sum = [...compact].reduce((total, c, i) => total + (10 - i) * (c === 'X' ? 10 : Number(c)), 0);
    return sum % 11 === 0;
  }
  if (/^97[89]\d{10}$/.test(compact)) {
    const sum = [...compact].reduce((total, c, i) => total + Number(c) * (i % 2 === 0 ? 1 : 3), 0);
    return sum % 10 === 0;
  }
  return false;
}

/** Recognizes a dotted IPv4 address with four decimal octets; leading zeros are refused because some parsers read them as octal. */
export function isIpv4(text: string): boolean {
  const octets = text.split('.');
  if (octets.length !== 4) {
    return false;
  }
  return octets.every((octet) => /^(?:0|[1-9]\d{0,2})$/.test(octet) && Number(octet) <= 255);
}

/** Whether a text names a day that really exists in the calendar as YYYY-MM-DD, so that the 30th of February is caught. */
export function isCalendarDate(text: string): boolean {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text);
  if (!match) {
    return false;
  }
  const [year, month, day] = match.slice(1).map(Number) as [number, number, number];
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const lengths = [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
  return day >= 1 && day <= (lengths[month - 1] ?? 0);
}

/** Universally unique identifier in the canonical hyphenated form, optionally of one particular version. */
export const isUuid = (text: string, version?: number): boolean => {
  const shape = /^[\da-f]{8}-[\da-f]{4}-([\da-f])[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/i;
  const match = shape.exec(text);
  return match !== null && (version === undefined || parseInt(match[1]!, 16) === version);
};

/**
 * Lists what a password still lacks, for live hints below the input field. An empty list means that it is acceptable.
 *
 * @param minimum - required number of characters
 */
export function passwordWeaknesses(password: string, minimum = 10): string[] {
  const missing: string[] = [];
  if ([...password].length < minimum) missing.push(`at least ${minimum} characters`);
  if (!/\p{Ll}/u.test(password)) missing.push('a lowercase letter');
  if (!/\p{Lu}/u.test(password)) missing.push('an uppercase letter');
  if (!/\p{Nd}/u.test(password)) missing.push('a digit');
  if (/(.)\1{2}/u.test(password)) missing.push('no character three times in a row');
  return missing;
}

/** Brings a telephone number to the international E.164 notation, prefixing the default country code to national numbers. Implausible input gives undefined. */
export function normalizePhone(text: string, countryCode: string): string | undefined {
  if (!/^\+?[\d\s()./-]+$/.test(text.trim())) {
    return undefined;
  }
  const digits = text.replace(/\D/g, '');
  let full = countryCode + digits.replace(/^0/, '');
  if (text.trim().startsWith('+')) full = digits;
  else if (digits.startsWith('00')) full = digits.slice(2);
  return /^[1-9]\d{6,14}$/.test(full) ? `+${full}` : undefined;
}

/**
 * Semantic version such as 1.4.0-beta.2+build5, with three numeric parts and optional prerelease and build tags.
 *
 * @returns true if the whole text is a valid version
 */
export function isSemver(text: string): boolean {
  const numeric = '(?:0|[1-9]\\d*)';
  const prerelease = `(?:${numeric}|\\d*[a-zA-Z-][\\da-zA-Z-]*)`;
  const build = '[\\da-zA-Z-]+';
  const pattern = `^${numeric}(?:\\.${numeric}){2}(?:-${prerelease}(?:\\.${prerelease})*)?(?:\\+${build}(?:\\.${build})*)?$`;
  return new RegExp(pattern).test(text);
}

/**
 * Hides all but the last four digits of an account or card number before it is logged or displayed, leaving separators in place.
 *
 * @example
 * maskDigits('4111-1111-1111-1234'); // '••••-••••-••••-1234'
 */
export function maskDigits(text: string, visible = 4): string {
  const total = text.replace(/\D/g, '').length;
  let seen = 0;
  return text.replace(/\d/g, (digit) => {
    seen++;
    return seen > total - visible ? digit : '•';
  });
}
