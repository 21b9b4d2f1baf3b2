/** A fuzzy hit with its score and the positions of the matched characters. */
export interface FuzzyMatch {
  score: number;
  positions: number[];
}

/**
 * Levenshtein distance: the least number of single-character insertions, deletions and substitutions between two strings. Uses two rows of memory.
 */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      row.push(Math.min((row[j - 1] ?? 0) + 1, (previous[j] ?? 0) + 1, (previous[j - 1] ?? 0) + cost));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}

/** Like the edit distance, but a swap of two adjacent letters counts as a single typo instead of two. */
export function transpositionDistance(a: string, b: string): number {
  const d = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  const at = (i: number, j: number): number => d[i]?.[j] ?? 0;
  for (let j = 0; j <= b.length; j++) (d[0] as number[])[j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, at(i - 2, j - 2) + 1);
      (d[i] as number[])[j] = best;
    }
  }
  return at(a.length, b.length);
}

/** Number of positions at which two strings of equal length differ. */
export function hammingDistance(a: string, b: string): number {
  if (a.length !== b.length) throw new RangeError('Strings must have the same length');
  let different = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) different++;
  return different;
}

/** Overlap of the letter pairs of two words by the Dice coefficient, from 0 to 1; forgiving about word order and small slips. */
export function bigramSimilarity(a: string, b: string): number {
  const pairs = new Map<string, number>();
  for (let i = 0; i + 2 <= a.length; i++) pairs.set(a.slice(i, i + 2), (pairs.get(a.slice(i, i + 2)) ?? 0) + 1);
  let shared = 0;
  for (let i = 0; i + 2 <= b.length; i++) {
    const left = pairs.get(b.slice(i, i + 2)) ?? 0;
    if (left > 0) shared++;
    pairs.set(b.slice(i, i + 2), left - 1);
  }
  const total = Math.max(0, a.length - 1) + Math.max(0, b.length - 1);
  return total === 0 ? Number(a === b) : (2 * shared) / total;
}

/** Jaro similarity of short strings such as person names: counts letters that match within a sliding window and penalizes those out of order. */
export function jaro(a: string, b: string): number {
  if (a === b) return 1;
  const reach = Math.max(0, Math.floor(Math.max(a.length, b.length) / 2) - 1);
  const taken = new Array<boolean>(b.length).fill(false);
  const fromA = [...a.split('')].filter((ch, i) => {
    for (let j = Math.max(0, i - reach); j <= Math.min(b.length - 1, i + reach); j++) {
      if (!taken[j] && b[j] === ch) return (taken[j] = true);
    }
    return false;
  });
  const fromB = b.split('').filter((_, j) => taken[j]);
  const m = fromA.length;
  if (m === 0) return 0;
  const swaps = fromA.filter((ch, k) => ch !== fromB[k]).length / 2;
  return (m / a.length + m / b.length + (m - swaps) / m) / 3;
}

/** Jaro similarity with a bonus for a common prefix of up to four letters, after Winkler. */
export const jaroWinkler = (a: string, b: string, bonus = 0.1): number => {
  const base = jaro(a, b);
  let prefix = 0;
  while (prefix < Math.min(4, a.length, b.length) && a[prefix] === b[prefix]) prefix++;
  return base + prefix * bonus * (1 - base);
};

/** Checks whether the letters of the query appear in the target in order, with gaps allowed, the quick test of a file finder. */
export function isSubsequence(query: string, target: string): boolean {
  const wanted = [...query];
  let i = 0;
  for (const ch of target) {
    if (ch === wanted[i]) i++;
  }
  return i === wanted.length;
}

/**
 * Matches an abbreviated query against a candidate as command palettes do, with extra points for consecutive letters and for starts of words.
 * @returns null unless all letters of the query can be found in order
 */
export function fuzzyMatch(query: string, candidate: string): FuzzyMatch | null {
  const haystack = candidate.toLowerCase();
  const positions: number[] = [];
  let score = 0;
  for (const ch of query.toLowerCase()) {
    const last = positions[positions.length - 1] ?? -1;
    const at = haystack.indexOf(ch, last + 1);
    if (at < 0) return null;
    const startsWord = at === 0 || /[\s/_.-]/.test(candidate[at - 1] ?? '') || /[a-z][A-Z]/.test(candidate.slice(at - 1, at + 1));
    score += 1 + (positions.length > 0 && at === last + 1 ? 3 : 0) + (startsWord ? 2 : 0);
    positions.push(at);
  }
  return { score: score - haystack.length / 100, positions };
}

/** Filters and sorts a list of strings by how well they fuzzily match what was typed. */
export function fuzzyFilter(query: string, candidates: readonly string[]): string[] {
  return candidates
    .map((text) => ({ text, match: fuzzyMatch(query, text) }))
    .filter((row) => row.match !== null)
    .sort((a, b) => (b.match?.score ?? 0) - (a.match?.score ?? 0))
    .map((row) => row.text);
}

/** Suggests the closest known word for a misspelled one, for a "did you mean" message; undefined if nothing is near enough. */
export function didYouMean(word: string, known: Iterable<string>, maxDistance = Math.ceil(word.length / 3)): string | undefined {
  let best: string | undefined;
  let bestDistance = maxDistance + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = transpositionDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Encodes an English surname by its sound with the American Soundex rules, so that Robert and Rupert share the code R163. */
export function soundex(name: string): string {
  const letters = name.toUpperCase().replace(/[^A-Z]/g, '');
  if (letters === '') return '';
  const digit = (ch: string): string => '01230120022455012623010202'[ch.charCodeAt(0) - 65] ?? '0';
  let code = letters.charAt(0);
  let last = digit(code);
  for (const ch of letters.slice(1)) {
    const d = digit(ch);
    if (d !== '0' && d !== last) code += d;
    if (ch !== 'H' && ch !== 'W') last = d;
  }
  return code.slice(0, 4).padEnd(4, '0');
}
