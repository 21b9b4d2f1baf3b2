/** A source of uniformly distributed numbers, at least 0 and below 1, such as `Math.random`. */
export type RandomSource = () => number;

/**
 * A tiny seeded generator with 32 bits of state (mulberry32). The same seed always replays the same sequence, which makes simulations and tests repeatable.
 * Not for cryptography.
 */
export function mulberry32(seed: number): RandomSource {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Linear congruential generator with the constants from Numerical Recipes: the oldest and plainest kind, kept for reproducing historical output.
 */
export function linearCongruential(seed: number): RandomSource {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Hashes a string to a 32-bit seed with FNV-1a, so that a player name or a date can select the random sequence.
 */
export function seedFromText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}

/**
 * Draws a whole number between two bounds, both of which can come up, like the throw of a die.
 */
export function randomInt(random: RandomSource, low: number, high: number): number {
  if (low > high) throw new RangeError('low must not exceed high');
  return low + Math.floor(random() * (high - low + 1));
}

/**
 * A normally distributed value with the given mean and standard deviation, by the polar method of Marsaglia.
 */
export function gaussian(random: RandomSource, mean = 0, deviation = 1): number {
  for (;;) {
    const x = 2 * random() - 1;
    const y = 2 * random() - 1;
    const square = x * x + y * y;
    if (square === 0 || square >= 1) continue;
    return mean + deviation * x * Math.sqrt((-2 * Math.log(square)) / square);
  }
}

/**
 * Simulates the waiting time until the next event when events arrive at a constant average rate.
 */
export const exponentialDelay = (random: RandomSource, rate: number): number => -Math.log(1 - random()) / rate;

/**
 * How many events happen in one interval if on average `mean` do: a Poisson variate after Knuth, meant for small means.
 */
export function poisson(random: RandomSource, mean: number): number {
  const threshold = Math.exp(-mean);
  let count = 0;
  let product = random();
  while (product > threshold) {
    count += 1;
    product *= random();
  }
  return count;
}

/**
 * Returns a shuffled copy in which all orders are equally likely (Fisher–Yates).
 */
export function shuffle<T>(random: RandomSource, items: readonly T[]): T[] {
  const shuffled = [...items];
  for (let i = shuffled.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
  }
  return shuffled;
}

/**
 * Chooses one element at random with probability proportional to its weight, as in a loot table.
 *
 * @throws RangeError if no weight is positive.
 */
export function weightedPick<T>(random: RandomSource, items: readonly T[], weightOf: (item: T) => number): T {
  const weights = items.map((item) => Math.max(weightOf(item), 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!(total > 0)) throw new RangeError('all weights are zero');
  let ticket = random() * total;
  const index = weights.findIndex((weight) => (ticket -= weight) < 0);
  return items[index >= 0 ? index : weights.findIndex((weight) => weight > 0)]!;
}

/**
 * Reservoir sampling: selects `count` elements uniformly from a stream of unknown length that is read only once.
 */
export function sampleStream<T>(random: RandomSource, stream: Iterable<T>, count: number): T[] {
  const reservoir: T[] = [];
  let seen = 0;
  for (const item of stream) {
    seen += 1;
    if (reservoir.length < count) {
      reservoir.push(item);
      continue;
    }
    const slot = Math.floor(random() * seen);
    if (slot < count) reservoir[slot] = item;
  }
  return reservoir;
}

/**
 * Makes a random identifier of the wanted length from an alphabet. The default leaves out characters that are easily mistaken for one another.
 */
export function randomId(random: RandomSource, length: number, alphabet = '23456789abcdefghjkmnpqrstuvwxyz'): string {
  let id = '';
  for (let i = 0; i < length; i += 1) {
    id += alphabet[Math.floor(random() * alphabet.length)];
  }
  return id;
}

/**
 * Picks a point uniformly from the inside of a circle; taking the root of the radius prevents crowding at the centre.
 */
export function pointInDisk(random: RandomSource, radius: number): { x: number; y: number } {
  const distance = radius * Math.sqrt(random());
  const angle = 2 * Math.PI * random();
  return { x: distance * Math.cos(angle), y: distance * Math.sin(angle) };
}

/**
 * Rolls dice given in tabletop notation, for instance `3d6+2`, and returns the total.
 */
export function rollDice(random: RandomSource, notation: string): number {
  const match = /^(\d*)d(\d+)([+-]\d+)?$/i.exec(notation.replace(/\s/g, ''));
  if (!match) throw new SyntaxError(`bad dice notation: ${notation}`);
  const [, count, sides, bonus] = match;
  let total = Number(bonus ?? 0);
  for (let i = 0; i < Number(count || 1); i += 1) total += randomInt(random, 1, Number(sides));
  return total;
}
