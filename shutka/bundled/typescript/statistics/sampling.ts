/** A source of uniform random numbers from 0 up to but not including 1. */
export type Random = () => number;

/** Small seeded generator (mulberry32) that makes experiments repeatable: the same seed always yields the same stream. Not for cryptography. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Whole number drawn uniformly from `low` to `high`, both ends included, like the throw of a die. */
export function randomInteger(low: number, high: number, random: Random = Math.random): number {
  const span = high - low + 1;
  if (!(span >= 1)) {
    throw new RangeError('the upper limit is below the lower one');
  }
  return low + Math.floor(random() * span);
}

/**
 * Puts a copy of the list in random order by the Fisher-Yates method, under which every permutation is equally likely.
 *
 * @param random - source of randomness; pass a seeded one for repeatable results
 */
export function shuffled<T>(items: readonly T[], random: Random = Math.random): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}

/**
 * Draws `size` items uniformly from a stream of unknown length in a single pass (reservoir sampling), without ever holding more than the sample.
 * A stream that is shorter than requested is returned whole.
 */
export async function reservoirSample<T>(stream: AsyncIterable<T> | Iterable<T>, size: number, random: Random = Math.random): Promise<T[]> {
  const reservoir: T[] = [];
  let seen = 0;
  for await (const item of stream) {
    seen++;
    if (reservoir.length < size) {
      reservoir.push(item);
      continue;
    }
    const slot = Math.floor(random() * seen);
    if (slot < size) reservoir[slot] = item;
  }
  return reservoir;
}

/**
 * Picks one item with probability proportional to its weight, as a loot table or a load balancer does.
 *
 * @param weight - tells the weight of an item; negative ones are an error
 * @returns the chosen item, or undefined if all weights are zero
 */
export function weightedChoice<T>(items: readonly T[], weight: (item: T) => number, random: Random = Math.random): T | undefined {
  const weights = items.map(weight);
  if (weights.some((w) => w < 0)) {
    throw new RangeError('weights must not be negative');
  }
  let ticket = random() * weights.reduce((a, b) => a + b, 0);
  const candidates = items.map((item, i) => ({ item, w: weights[i]! })).filter(({ w }) => w > 0);
  for (const { item, w } of candidates) {
    ticket -= w;
    if (ticket < 0) return item;
  }
  return candidates[candidates.length - 1]?.item;
}

/** Draws from a bell curve by the Box-Muller transform. */
export function gaussian(mu = 0, sigma = 1, random: Random = Math.random): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  const angle = 2 * Math.PI * random();
  return mu + sigma * radius * Math.cos(angle);
}

/** Random waiting time between independent arrivals at a given average rate, by inverting the exponential distribution. */
export function exponentialVariate(rate: number, random: Random = Math.random): number {
  if (!(rate > 0)) {
    throw new RangeError('rate must be positive');
  }
  return -Math.log(1 - random()) / rate;
}

/** Simulated count of events per interval under a Poisson law (Knuth's product method); meant for small averages, since the effort grows with them. */
export function poissonVariate(lambda: number, random: Random = Math.random): number {
  const limit = Math.exp(-lambda);
  let product = random();
  let count = 0;
  while (product > limit) {
    product *= random();
    count++;
  }
  return count;
}

/**
 * Percentile bootstrap: resamples the data with replacement many times and reports the range in which a statistic falls most of the time.
 *
 * @param statistic - what to compute from a sample, e.g. a median
 * @param confidence - coverage wanted, 0.95 by default
 * @returns lower and upper end of the interval
 */
export function bootstrapInterval<T>(
  data: readonly T[],
  statistic: (sample: readonly T[]) => number,
  confidence = 0.95,
  rounds = 1000,
  random: Random = Math.random,
): [number, number] {
  const results = Array.from({ length: rounds }, () => {
    const resample = data.map(() => data[Math.floor(random() * data.length)]!);
    return statistic(resample);
  });
  results.sort((a, b) => a - b);
  const tail = Math.floor(((1 - confidence) / 2) * rounds);
  return [results[tail]!, results[rounds - 1 - tail]!];
}

/**
 * Splits records at random into a training and a test part, the latter receiving the given fraction.
 *
 * @param testFraction - share of the records to hold out, from 0 to 1
 */
export function trainTestSplit<T>(records: readonly T[], testFraction = 0.2, random: Random = Math.random): { train: T[]; test: T[] } {
  const mixed = shuffled(records, random);
  const held = Math.round(records.length * testFraction);
  return { test: mixed.slice(0, held), train: mixed.slice(held) };
}

/** Takes up to `perGroup` random members of every stratum, so that rare groups are represented as well as common ones. */
export function stratifiedSample<T, K>(items: Iterable<T>, stratum: (item: T) => K, perGroup: number, random: Random = Math.random): T[] {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = stratum(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return [...groups.values()].flatMap((group) => shuffled(group, random).slice(0, perGroup));
}

/** Every n-th element after a random start, the way an auditor goes through a ledger. */
export function systematicSample<T>(items: readonly T[], interval: number, random: Random = Math.random): T[] {
  if (!Number.isInteger(interval) || interval < 1) {
    throw new RangeError('interval must be a positive whole number');
  }
  const start = Math.floor(random() * interval);
  return items.filter((_, i) => i >= start && (i - start) % interval === 0);
}

/**
 * Two-sided permutation test: how often would a random relabelling of the groups make their means differ at least as much as observed?
 * A small p-value speaks against mere chance.
 */
export function permutationTest(a: readonly number[], b: readonly number[], rounds = 2000, random: Random = Math.random): number {
  const average = (values: readonly number[]): number => values.reduce((x, y) => x + y, 0) / values.length;
  const observed = Math.abs(average(a) - average(b));
  const pool = [...a, ...b];
  let extreme = 0;
  for (let i = 0; i < rounds; i++) {
    const mixed = shuffled(pool, random);
    const gap = Math.abs(average(mixed.slice(0, a.length)) - average(mixed.slice(a.length)));
    if (gap >= observed - 1e-12) extreme++;
  }
  return (extreme + 1) / (rounds + 1);
}
