/**
 * Breaks an identifier or phrase into its lower-cased words, whatever convention it was written in.
 * Humps, underscores, hyphens, dots and spaces all count as borders, and an acronym such as `HTML` stays in one piece.
 *
 * @example
 * splitWords('parseHTMLDocument_v2'); // ['parse', 'html', 'document', 'v2']
 */
export function splitWords(text: string): string[] {
  const spaced = text
    .replace(/(\p{Ll}|\p{N})(\p{Lu})/gu, '$1 $2')
    .replace(/(\p{Lu})(\p{Lu}\p{Ll})/gu, '$1 $2');
  const words = spaced.match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.map((word) => word.toLowerCase());
}

/**
 * Uppercases the first character and leaves the rest as it was.
 * Works on code points, so letters outside the basic plane are not cut in half.
 */
export function capitalize(text: string): string {
  const [first] = text;
  if (first === undefined) return '';
  return first.toUpperCase() + text.slice(first.length);
}

/**
 * Turns the leading letter small, for putting a class name to use as a variable or a sentence in the middle of another.
 */
export function uncapitalize(text: string): string {
  const [first] = text;
  if (first === undefined) return '';
  return first.toLowerCase() + text.slice(first.length);
}

/**
 * Rewrites any identifier in the style of JavaScript variables: no separators, each word after the first starting with a capital.
 */
export function camelCase(text: string): string {
  return splitWords(text)
    .map((word, index) => (index === 0 ? word : capitalize(word)))
    .join('');
}

/**
 * Produces a name fit for a class or a component, every word capitalised and glued to the next.
 */
export const pascalCase = (text: string): string => splitWords(text).map(capitalize).join('');

/**
 * Lowercase words joined with underscores, the usual spelling of database columns and Python names.
 */
export function snakeCase(text: string): string {
  return splitWords(text).join('_');
}

/**
 * Lowercase words joined with hyphens, as in CSS properties, HTML attributes and command line flags.
 */
export const kebabCase = (text: string): string => splitWords(text).join('-');

/**
 * Spells a name in capitals with underscores between the words, the way environment variables and constants are written.
 */
export function constantCase(text: string): string {
  const upper = splitWords(text).map((word) => word.toUpperCase());
  return upper.join('_');
}

const MINOR_WORDS = new Set(['a', 'an', 'and', 'as', 'at', 'but', 'by', 'for', 'in', 'nor', 'of', 'on', 'or', 'the', 'to', 'up', 'via']);

/**
 * Formats a headline: the important words get a capital, while articles, conjunctions and short prepositions stay small
 * unless they open or close the title.
 *
 * @param text A sentence with words divided by white space.
 * @param minor The words to keep in lower case, all given in lower case.
 */
export function titleCase(text: string, minor: ReadonlySet<string> = MINOR_WORDS): string {
  const words = text.trim().split(/\s+/);
  return words
    .map((word, index) => {
      const lower = word.toLowerCase();
      const inside = index > 0 && index < words.length - 1;
      return inside && minor.has(lower) ? lower : capitalize(lower);
    })
    .join(' ');
}

/**
 * Makes the first letter of each sentence large and everything else small, which calms down text that was typed with caps lock on.
 */
export function sentenceCase(text: string): string {
  return text
    .toLowerCase()
    .replace(/(^\s*|[.!?]\s+)(\p{L})/gu, (_, lead: string, letter: string) => lead + letter.toUpperCase());
}

/**
 * Flips every letter to the opposite case; digits and punctuation pass through untouched.
 */
export function swapCase(text: string): string {
  let swapped = '';
  for (const char of text) {
    const lower = char.toLowerCase();
    swapped += char === lower ? char.toUpperCase() : lower;
  }
  return swapped;
}

/**
 * Builds a URL-friendly slug from a title by dropping accents, replacing runs of other characters with one hyphen and trimming the ends.
 *
 * @param maxLength Longest slug to return; a cut is made at a word border where there is one.
 */
export function slugify(title: string, maxLength = Infinity): string {
  const plain = title.normalize('NFKD').replace(/\p{M}+/gu, '').toLowerCase();
  const slug = plain.replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '');
  if (slug.length <= maxLength) return slug;
  const border = slug.lastIndexOf('-', maxLength);
  return slug.slice(0, border > 0 ? border : maxLength);
}

/**
 * Renames all keys of a plain object tree with the given converter, reaching into arrays and nested objects.
 * Handy for translating an API response from one naming convention to another.
 */
export function convertKeys(value: unknown, convert: (key: string) => string): unknown {
  if (Array.isArray(value)) return value.map((item) => convertKeys(item, convert));
  if (value === null || typeof value !== 'object') return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [convert(key), convertKeys(item, convert)]));
}
