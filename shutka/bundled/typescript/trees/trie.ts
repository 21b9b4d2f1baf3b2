/** A node of a prefix tree: the branches by character, and the value stored for the word that ends here, if one does. */
export interface TrieNode<V> {
  readonly children: Map<string, TrieNode<V>>;
  entry?: { value: V };
}

/** Creates an empty prefix tree. */
export const emptyTrie = <V>(): TrieNode<V> => ({ children: new Map() });

/** Associates a value with a word, adding nodes for the letters that are not yet in the tree. An earlier value is overwritten. */
export function trieSet<V>(root: TrieNode<V>, word: string, value: V): void {
  let node = root;
  for (const char of word) {
    let child = node.children.get(char);
    if (!child) {
      child = emptyTrie<V>();
      node.children.set(char, child);
    }
    node = child;
  }
  node.entry = { value };
}

/** Walks down along the letters of a prefix and returns the node reached, whether or not a word ends there. */
export function descend<V>(root: TrieNode<V>, prefix: string): TrieNode<V> | undefined {
  let node: TrieNode<V> | undefined = root;
  for (const char of prefix) {
    node = node.children.get(char);
    if (!node) return undefined;
  }
  return node;
}

/** Reads the value stored for exactly this word; a mere prefix of a stored word gives `undefined`. */
export function trieGet<V>(root: TrieNode<V>, word: string): V | undefined {
  return descend(root, word)?.entry?.value;
}

/**
 * Takes a word out of the dictionary and prunes the branches that no longer lead to any other word.
 *
 * @returns whether the word had been stored
 */
export function trieDelete<V>(root: TrieNode<V>, word: string): boolean {
  const chars = [...word];
  const path = [root];
  for (const char of chars) {
    const next = path.at(-1)!.children.get(char);
    if (!next) return false;
    path.push(next);
  }
  const had = path.at(-1)!.entry !== undefined;
  delete path.at(-1)!.entry;
  for (let depth = chars.length; depth > 0; depth--) {
    const node = path[depth]!;
    if (node.entry || node.children.size > 0) break;
    path[depth - 1]!.children.delete(chars[depth - 1]!);
  }
  return had;
}

/** Enumerates the stored words below a node, each preceded by the given prefix, in the order in which branches were created. */
export function* words<V>(node: TrieNode<V>, prefix = ''): Generator<[word: string, value: V]> {
  if (node.entry) yield [prefix, node.entry.value];
  for (const [char, child] of node.children) yield* words(child, prefix + char);
}

/**
 * Suggests completions for what a user has typed so far, best score first.
 *
 * @param limit - the most suggestions wanted
 * @example
 * complete(cities, 'ber', 2); // ['berlin', 'bern'], if the former has the larger number
 */
export function complete(root: TrieNode<number>, typed: string, limit: number): string[] {
  const start = descend(root, typed);
  if (!start) return [];
  const candidates = [...words(start, typed)].sort((a, b) => b[1] - a[1]);
  return candidates.slice(0, limit).map(([word]) => word);
}

/** Finds the longest stored word that the text begins with, as routers do to choose the most specific matching prefix. */
export function longestPrefix<V>(root: TrieNode<V>, text: string): [word: string, value: V] | undefined {
  let node: TrieNode<V> | undefined = root;
  let walked = '';
  let best: [string, V] | undefined = root.entry && ['', root.entry.value];
  for (const char of text) {
    node = node.children.get(char);
    if (!node) break;
    walked += char;
    if (node.entry) best = [walked, node.entry.value];
  }
  return best;
}

/** Looks up words by a pattern in which a question mark stands for any one letter, as in crossword solvers. */
export function* matchPattern<V>(node: TrieNode<V>, pattern: string, prefix = ''): Generator<string> {
  const [first, ...others] = pattern;
  if (first === undefined) {
    if (node.entry) yield prefix;
    return;
  }
  const rest = others.join('');
  for (const [char, child] of node.children) {
    if (first === '?' || first === char) yield* matchPattern(child, rest, prefix + char);
  }
}

/**
 * Collects the words within a small number of typing errors of the given one, where an error is a missing, extra or wrong letter.
 * One row of the edit distance table is carried down the tree, so common prefixes are compared only once.
 *
 * @param maxErrors - the largest edit distance to accept
 */
export function fuzzyFind<V>(root: TrieNode<V>, word: string, maxErrors: number): Map<string, number> {
  const letters = [...word];
  const found = new Map<string, number>();
  const visit = (node: TrieNode<V>, prefix: string, row: readonly number[]): void => {
    const distance = row.at(-1)!;
    if (node.entry && distance <= maxErrors) found.set(prefix, distance);
    if (Math.min(...row) > maxErrors) return;
    for (const [char, child] of node.children) {
      const next = [row[0]! + 1];
      letters.forEach((letter, i) => {
        next.push(Math.min(next[i]! + 1, row[i + 1]! + 1, row[i]! + (letter === char ? 0 : 1)));
      });
      visit(child, prefix + char, next);
    }
  };
  visit(root, '', [...letters.keys(), letters.length]);
  return found;
}

/** The beginning that all stored words have in common: follows the tree down while there is just one way to go. */
export function sharedPrefix<V>(root: TrieNode<V>): string {
  let prefix = '';
  let node = root;
  while (!node.entry && node.children.size === 1) {
    const [[char, child]] = [...node.children] as [[string, TrieNode<V>]];
    prefix += char;
    node = child;
  }
  return prefix;
}

/**
 * For each word gives the shortest abbreviation that no other stored word starts with, the way command line tools accept unambiguous short forms.
 * A word that begins another one has no such form and stands for itself.
 */
export function uniqueAbbreviations(vocabulary: Iterable<string>): Map<string, string> {
  const counts = new Map<string, number>();
  const distinct = new Set(vocabulary);
  for (const word of distinct) {
    for (let end = 1; end <= word.length; end++) {
      const prefix = word.slice(0, end);
      counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
    }
  }
  const shortest = (word: string): string => {
    let end = 1;
    while (end < word.length && counts.get(word.slice(0, end))! > 1) end++;
    return word.slice(0, end);
  };
  return new Map([...distinct].map((word) => [word, shortest(word)]));
}

/**
 * Breaks text without spaces into dictionary words, trying long words first and backtracking out of dead ends.
 *
 * @returns one possible segmentation, or `undefined` when none covers the whole text
 */
export function segment<V>(root: TrieNode<V>, text: string, dead = new Set<number>(), from = 0): string[] | undefined {
  if (from === text.length) return [];
  if (dead.has(from)) return undefined;
  const ends: number[] = [];
  let node: TrieNode<V> | undefined = root;
  let end = from;
  for (const char of text.slice(from)) {
    node = node.children.get(char);
    if (!node) break;
    end += char.length;
    if (node.entry) ends.push(end);
  }
  for (const stop of ends.reverse()) {
    const rest = segment(root, text, dead, stop);
    if (rest) return [text.slice(from, stop), ...rest];
  }
  dead.add(from);
  return undefined;
}

/** Counts the nodes of a prefix tree including its root, a measure of its memory use compared with a plain list. */
export function trieSize<V>(node: TrieNode<V>): number {
  let total = 1;
  for (const child of node.children.values()) total += trieSize(child);
  return total;
}
