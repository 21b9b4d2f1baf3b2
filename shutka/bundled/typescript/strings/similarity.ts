/**
 * Counts the fewest insertions, deletions and substitutions of single characters that turn one string into the other.
 * Keeps only one row of the table in memory.
 */
export function levenshtein(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/**
 * Edit distance in which swapping two neighbouring letters costs one step rather than two, a better model of how people mistype.
 * This is the optimal string alignment variant: no substring is edited twice.
 */
export function damerauLevenshtein(a: string, b: string): number {
  const table = Array.from({ length: a.length + 1 }, (_, i) => [i]);
  for (let j = 0; j <= b.length; j += 1) table[0]![j] = j;
  for (let i = 1; i <= a.length; i += 1) {
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(table[i - 1]![j]! + 1, table[i]![j - 1]! + 1, table[i - 1]![j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) best = Math.min(best, table[i - 2]![j - 2]! + 1);
      table[i]![j] = best;
    }
  }
  return table[a.length]![b.length]!;
}

/**
 * The number of positions at which two codes of equal length disagree.
 *
 * @throws RangeError if the lengths differ.
 */
export function hammingDistance(a: string, b: string): number {
  if (a.length !== b.length) throw new RangeError('strings must have the same length');
  let differing = 0;
  for (let i = 0; i < a.length; i += 1) {
    if (a[i] !== b[i]) differing += 1;
  }
  return differing;
}

/**
 * Scores two short strings such as personal names from 0 to 1 by the letters they share within a sliding range and by how many of those are out of order.
 */
export function jaroSimilarity(a: string, b: string): number {
  if (a === b) return 1;
  const range = Math.max(Math.floor(Math.max(a.length, b.length) / 2) - 1, 0);
  const taken = new Set<number>();
  const matchedA: string[] = [];
  [...a.split('')].forEach((char, i) => {
    for (let j = Math.max(0, i - range); j <= Math.min(b.length - 1, i + range); j += 1) {
      if (b[j] !== char || taken.has(j)) continue;
      taken.add(j);
      matchedA.push(char);
      return;
    }
  });
  const matches = matchedA.length;
  if (matches === 0) return 0;
  const matchedB = [...taken].sort((x, y) => x - y).map((j) => b[j]);
  const transpositions = matchedA.filter((char, i) => char !== matchedB[i]).length / 2;
  return (matches / a.length + matches / b.length + (matches - transpositions) / matches) / 3;
}

/**
 * Raises the Jaro score of strings that begin alike, since the start of a name is rarely misspelt.
 *
 * @param weight What each shared leading character adds, for up to four of them; no more than 0.25.
 */
export function jaroWinkler(a: string, b: string, weight = 0.1): number {
  const jaro = jaroSimilarity(a, b);
  const prefix = Math.min(commonPrefix(a, b).length, 4);
  return jaro + prefix * weight * (1 - jaro);
}

/**
 * Returns the longest beginning that both strings have in common.
 */
export function commonPrefix(a: string, b: string): string {
  let length = 0;
  const limit = Math.min(a.length, b.length);
  while (length < limit && a[length] === b[length]) length += 1;
  return a.slice(0, length);
}

/**
 * Finds the longest run of adjacent characters that occurs in both texts. Among equally long ones the first in `a` wins.
 */
export function longestCommonSubstring(a: string, b: string): string {
  let lengths: number[] = [];
  let best = 0;
  let end = 0;
  for (let i = 0; i < a.length; i += 1) {
    const next: number[] = [];
    for (let j = 0; j < b.length; j += 1) {
      const run = a[i] === b[j] ? (lengths[j - 1] ?? 0) + 1 : 0;
      next.push(run);
      if (run > best) [best, end] = [run, i + 1];
    }
    lengths = next;
  }
  return a.slice(end - best, end);
}

/**
 * Slides a window of `n` characters over a string and tallies how often each fragment turns up.
 *
 * @returns A map from n-gram to its frequency.
 */
export function ngrams(text: string, n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= text.length; i += 1) {
    const gram = text.slice(i, i + n);
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}

/**
 * The Sørensen–Dice coefficient over letter pairs: twice the shared bigrams divided by the total in both texts.
 * Insensitive to moved words, so it suits comparing titles.
 */
export function diceCoefficient(a: string, b: string): number {
  if (a === b) return 1;
  const total = Math.max(a.length - 1, 0) + Math.max(b.length - 1, 0);
  if (total === 0) return 0;
  const right = ngrams(b, 2);
  let shared = 0;
  for (const [pair, count] of ngrams(a, 2)) shared += Math.min(count, right.get(pair) ?? 0);
  return (2 * shared) / total;
}

/**
 * Cosine of the angle between the n-gram frequency vectors of two documents, from 0 for nothing in common to 1 for the same proportions.
 */
export function cosineSimilarity(a: string, b: string, n = 3): number {
  const left = ngrams(a, n);
  const right = ngrams(b, n);
  const norm = (grams: Map<string, number>) => Math.hypot(...grams.values());
  let dot = 0;
  for (const [gram, count] of left) dot += count * (right.get(gram) ?? 0);
  return dot === 0 ? 0 : dot / (norm(left) * norm(right));
}

const SOUNDEX_CODES: Record<string, string> = {
  B: '1', F: '1', P: '1', V: '1', C: '2', G: '2', J: '2', K: '2', Q: '2', S: '2', X: '2', Z: '2',
  D: '3', T: '3', L: '4', M: '5', N: '5', R: '6',
};

/**
 * Encodes an English surname by its sound, a letter followed by three digits, so that Robert and Rupert fall into the same bucket.
 *
 * @example
 * soundex('Ashcraft'); // 'A261'
 */
export function soundex(name: string): string {
  const letters = name.toUpperCase().replace(/[^A-Z]/g, '');
  let code = letters.charAt(0);
  let previous = SOUNDEX_CODES[code] ?? '';
  for (const letter of letters.slice(1)) {
    if (letter === 'H' || letter === 'W') continue;
    const digit = SOUNDEX_CODES[letter] ?? '';
    if (digit !== '' && digit !== previous) code += digit;
    previous = digit;
  }
  return code === '' ? '' : code.slice(0, 4).padEnd(4, '0');
}

/**
 * Picks the candidate nearest to a mistyped word, as in "did you mean …?", or undefined if every one is too far away.
 *
 * @param maxDistance The number of typing errors that are forgiven.
 */
export function suggest(word: string, candidates: Iterable<string>, maxDistance = 2): string | undefined {
  let best: string | undefined;
  let bestDistance = maxDistance + 1;
  for (const candidate of candidates) {
    const distance = damerauLevenshtein(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/**
 * Fuzzy filter of a command palette: true when the letters of the query appear in the text in order, with anything in between.
 */
export function isSubsequence(query: string, text: string): boolean {
  let position = 0;
  for (const char of query.toLowerCase()) {
    const found = text.toLowerCase().indexOf(char, position);
    if (found < 0) return false;
    position = found + char.length;
  }
  return true;
}
