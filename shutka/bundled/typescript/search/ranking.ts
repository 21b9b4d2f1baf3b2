/** For each term, the documents it occurs in and how often. */
export type Postings = Map<string, Map<number, number>>;

/** A document number with the points it scored. */
export interface Scored {
  doc: number;
  score: number;
}

/** An inverted index over documents that are given as lists of terms. */
export class InvertedIndex {
  readonly postings: Postings = new Map();
  readonly lengths: number[] = [];

  /** Indexes one more document and assigns it the next number. */
  add(terms: readonly string[]): number {
    const doc = this.lengths.push(terms.length) - 1;
    for (const term of terms) {
      let list = this.postings.get(term);
      if (!list) this.postings.set(term, (list = new Map()));
      list.set(doc, (list.get(doc) ?? 0) + 1);
    }
    return doc;
  }

  /** Finds the documents that contain every one of the terms, starting from the rarest to keep the candidate list small. */
  matchAll(terms: readonly string[]): number[] {
    const lists = terms.map((term) => this.postings.get(term) ?? new Map<number, number>());
    lists.sort((a, b) => a.size - b.size);
    const [rarest, ...others] = lists;
    if (!rarest) return [];
    return [...rarest.keys()].filter((doc) => others.every((list) => list.has(doc)));
  }

  /**
   * Ranks documents for a query by Okapi BM25, best first.
   * @param k1 how quickly repeated occurrences of a term stop adding to the score
   * @param b how strongly long documents are penalized, 0 to 1
   */
  bm25(terms: readonly string[], k1 = 1.2, b = 0.75): Scored[] {
    const n = this.lengths.length;
    const average = this.lengths.reduce((sum, length) => sum + length, 0) / Math.max(1, n);
    const scores = new Map<number, number>();
    for (const term of new Set(terms)) {
      const list = this.postings.get(term) ?? new Map<number, number>();
      const idf = Math.log(1 + (n - list.size + 0.5) / (list.size + 0.5));
      for (const [doc, tf] of list) {
        const norm = k1 * (1 - b + (b * (this.lengths[doc] ?? 0)) / average);
        scores.set(doc, (scores.get(doc) ?? 0) + (idf * tf * (k1 + 1)) / (tf + norm));
      }
    }
    return [...scores].map(([doc, score]) => ({ doc, score })).sort((x, y) => y.score - x.score || x.doc - y.doc);
  }
}

/** Weighs the words of one document by TF-IDF: frequent here, rare elsewhere. The result is a sparse vector. */
export function tfIdf(terms: readonly string[], documentFrequency: ReadonlyMap<string, number>, documents: number): Map<string, number> {
  const weights = new Map<string, number>();
  for (const term of terms) weights.set(term, (weights.get(term) ?? 0) + 1);
  for (const [term, count] of weights) {
    const idf = Math.log((1 + documents) / (1 + (documentFrequency.get(term) ?? 0))) + 1;
    weights.set(term, (count / terms.length) * idf);
  }
  return weights;
}

/** Measures the angle between two sparse term vectors as a cosine: 1 for the same direction, 0 for no word in common. */
export function cosineSimilarity(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  const norm = (v: ReadonlyMap<string, number>): number => Math.sqrt([...v.values()].reduce((sum, x) => sum + x * x, 0));
  let dot = 0;
  for (const [term, weight] of a) dot += weight * (b.get(term) ?? 0);
  const scale = norm(a) * norm(b);
  return scale === 0 ? 0 : dot / scale;
}

/** Fuses several rankings of the same collection by reciprocal ranks, which needs no comparable scores. */
export function reciprocalRankFusion(rankings: ReadonlyArray<readonly number[]>, k = 60): Scored[] {
  const scores = new Map<number, number>();
  for (const ranking of rankings) {
    ranking.forEach((doc, i) => scores.set(doc, (scores.get(doc) ?? 0) + 1 / (k + i + 1)));
  }
  return [...scores].map(([doc, score]) => ({ doc, score })).sort((a, b) => b.score - a.score);
}

/** Share of the first k results that are relevant. */
export const precisionAt = (results: readonly number[], relevant: ReadonlySet<number>, k: number): number =>
  k < 1 ? 0 : results.slice(0, k).filter((doc) => relevant.has(doc)).length / k;

/** Share of all relevant documents that made it into the first k results. */
export const recallAt = (results: readonly number[], relevant: ReadonlySet<number>, k: number): number => {
  if (relevant.size === 0) return 0;
  return results.slice(0, k).filter((doc) => relevant.has(doc)).length / relevant.size;
};

/** Averages one over the position of the first correct answer across many queries; a query without any adds zero. */
export function meanReciprocalRank(runs: ReadonlyArray<{ results: readonly number[]; relevant: ReadonlySet<number> }>): number {
  let sum = 0;
  for (const { results, relevant } of runs) {
    const position = results.findIndex((doc) => relevant.has(doc));
    if (position >= 0) sum += 1 / (position + 1);
  }
  return runs.length === 0 ? 0 : sum / runs.length;
}

/** Normalized discounted cumulative gain: compares the graded relevance of an ordering with that of the ideal ordering. */
export function ndcg(gains: readonly number[], k = gains.length): number {
  const dcg = (list: readonly number[]): number =>
    list.slice(0, k).reduce((sum, gain, i) => sum + (2 ** gain - 1) / Math.log2(i + 2), 0);
  const ideal = dcg([...gains].sort((a, b) => b - a));
  return ideal === 0 ? 0 : dcg(gains) / ideal;
}

/** Diversifies results by maximal marginal relevance: each pick balances its score against its likeness to those already picked. */
export function diversify(candidates: readonly Scored[], likeness: (a: number, b: number) => number, count: number, lambda = 0.7): number[] {
  const rest = [...candidates];
  const picked: number[] = [];
  const value = (c: Scored): number =>
    lambda * c.score - (1 - lambda) * picked.reduce((most, doc) => Math.max(most, likeness(c.doc, doc)), 0);
  while (picked.length < count && rest.length > 0) {
    let best = 0;
    for (let i = 1; i < rest.length; i++) if (value(rest[i] as Scored) > value(rest[best] as Scored)) best = i;
    picked.push((rest.splice(best, 1)[0] as Scored).doc);
  }
  return picked;
}

/** Lets newer documents rank higher by halving a score for every half-life that has passed since publication. */
export function decayByAge(score: number, ageDays: number, halfLifeDays: number): number {
  return score * 0.5 ** (Math.max(0, ageDays) / halfLifeDays);
}
