/** A word together with the place in the text where it was found. */
export interface Token {
  text: string;
  start: number;
  end: number;
}

const STOP_WORDS = new Set('a an and are as at be but by for from in is it of on or that the to was with'.split(' '));

/** Cuts a text into its words, runs of letters and digits in any script, and notes their offsets for highlighting. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  for (const match of text.matchAll(/[\p{L}\p{N}]+(?:['’]\p{L}+)*/gu)) {
    tokens.push({ text: match[0], start: match.index, end: match.index + match[0].length });
  }
  return tokens;
}

/** Lowercases and removes accents, so that `Café` and `cafe` are found by the same query. */
export const foldText = (text: string): string =>
  text.normalize('NFKD').replace(/\p{M}+/gu, '').toLowerCase();

/** Drops words that are too common to tell documents apart, such as articles and prepositions. */
export function removeStopWords(words: readonly string[], stop: ReadonlySet<string> = STOP_WORDS): string[] {
  return words.filter((word) => !stop.has(word.toLowerCase()));
}

/**
 * Splits an identifier at its humps, underscores and hyphens into lowercase words; acronyms stay whole.
 * @example
 * splitIdentifier('parseHTTPHeader_v2') // ['parse', 'http', 'header', 'v', '2']
 */
export function splitIdentifier(name: string): string[] {
  const parts = name.match(/\p{Lu}+(?=\p{Lu}\p{Ll})|\p{Lu}?\p{Ll}+|\p{Lu}+|\p{N}+/gu);
  return (parts ?? []).map((part) => part.toLowerCase());
}

/** Produces all character n-grams of a word after padding its ends, the usual basis for typo-tolerant lookup. */
export function charNgrams(word: string, n: number): string[] {
  const padded = [...`${' '.repeat(n - 1)}${word}${' '.repeat(n - 1)}`];
  const grams: string[] = [];
  for (let i = 0; i + n <= padded.length; i++) grams.push(padded.slice(i, i + n).join(''));
  return grams;
}

/** Joins neighbouring words to phrases of a given length, letting an index match `new york` as a unit. */
export function shingles(words: readonly string[], length: number): string[] {
  const out: string[] = [];
  for (let i = 0; i + length <= words.length; i++) out.push(words.slice(i, i + length).join(' '));
  return out;
}

/** Reduces an English word towards its stem by cutting off plural and verb endings. A light alternative to a full Porter stemmer. */
export function lightStem(word: string): string {
  if (word.length < 4) return word;
  if (/ies$/.test(word) && word.length > 4) return word.replace(/ies$/, 'y');
  if (/(?:ss|x|ch|sh)es$/.test(word)) return word.slice(0, -2);
  if (/[^su]s$/.test(word)) return word.slice(0, -1);
  const m = /^(.*[aeiouy].*?)(?:ing|ed)$/.exec(word);
  const stem = m?.[1];
  if (stem === undefined || stem.length < 3) return word;
  return /([^aeiouylsz])\1$/.test(stem) ? stem.slice(0, -1) : stem;
}

/** Divides prose into sentences at full stops, question and exclamation marks, without being fooled by initials or the given abbreviations. */
export function splitSentences(text: string, abbreviations: readonly string[] = ['mr', 'mrs', 'dr', 'e.g', 'i.e', 'etc']): string[] {
  const sentences: string[] = [];
  let start = 0;
  for (const m of text.matchAll(/[.!?]+["')\]]*\s+/g)) {
    const word = /\S*$/.exec(text.slice(start, m.index))?.[0] ?? '';
    const isInitial = /^\p{Lu}$/u.test(word);
    if (m[0].startsWith('.') && (isInitial || abbreviations.includes(word.toLowerCase()))) continue;
    sentences.push(text.slice(start, m.index + m[0].length).trim());
    start = m.index + m[0].length;
  }
  const rest = text.slice(start).trim();
  return rest === '' ? sentences : [...sentences, rest];
}

/**
 * Interprets what a user typed in a search box: quoted phrases, words to exclude with a minus, `field:value` filters and plain terms.
 */
export function parseSearchQuery(input: string) {
  const query = { terms: [] as string[], phrases: [] as string[], excluded: [] as string[], filters: [] as Array<[string, string]> };
  for (const [, minus, field, quoted, word] of input.matchAll(/(-)?(?:(\w+):)?(?:"([^"]*)"|([^\s"]+))/g)) {
    const value = quoted ?? word ?? '';
    if (minus) query.excluded.push(value);
    else if (field !== undefined) query.filters.push([field, value]);
    else if (quoted !== undefined) query.phrases.push(value);
    else query.terms.push(value);
  }
  return query;
}

/** Wraps every occurrence of the search words in a text with markers, whole words only and regardless of case. */
export function highlight(text: string, words: Iterable<string>, open = '<mark>', close = '</mark>'): string {
  const wanted = new Set([...words].map(foldText));
  let out = '';
  let at = 0;
  for (const token of tokenize(text)) {
    if (!wanted.has(foldText(token.text))) continue;
    out += text.slice(at, token.start) + open + token.text + close;
    at = token.end;
  }
  return out + text.slice(at);
}

/** Extracts a short excerpt around the densest cluster of matching words, with ellipses where the text was cut. */
export function snippet(text: string, words: Iterable<string>, radius = 60): string {
  const wanted = new Set([...words].map(foldText));
  const hits = tokenize(text).filter((token) => wanted.has(foldText(token.text)));
  const near = (a: Token): number => hits.filter((b) => Math.abs(b.start - a.start) <= radius).length;
  let center = hits[0];
  for (const hit of hits) if (center && near(hit) > near(center)) center = hit;
  const start = Math.max(0, (center?.start ?? 0) - radius);
  const end = Math.min(text.length, (center?.end ?? 0) + radius);
  return `${start > 0 ? '…' : ''}${text.slice(start, end).trim()}${end < text.length ? '…' : ''}`;
}
