/** A map that associates each key with a set of distinct values. */
export class MultiMap<K, V> {
  private readonly map = new Map<K, Set<V>>();
  private total = 0;

  /** Counts key and value pairs, not keys. */
  get size(): number {
    return this.total;
  }

  /** Links one more value to a key; tells whether the pair was new. */
  add(key: K, value: V): boolean {
    let values = this.map.get(key);
    if (!values) this.map.set(key, (values = new Set()));
    if (values.has(value)) return false;
    values.add(value);
    this.total++;
    return true;
  }

  /** Unlinks a single value, and forgets the key altogether once it has none left. */
  remove(key: K, value: V): boolean {
    const values = this.map.get(key);
    if (!values?.delete(value)) return false;
    this.total--;
    if (values.size === 0) this.map.delete(key);
    return true;
  }

  /** All values linked to a key, an empty set for a key that is unknown. */
  get(key: K): ReadonlySet<V> {
    return this.map.get(key) ?? new Set<V>();
  }

  /** Swaps the roles of keys and values, turning for instance books by author into authors by book. */
  inverse(): MultiMap<V, K> {
    const out = new MultiMap<V, K>();
    for (const [key, values] of this.map) for (const value of values) out.add(value, key);
    return out;
  }
}

/** A dictionary that can be read from either side, because no value is ever shared by two keys. */
export class BiMap<K, V> {
  private readonly forward = new Map<K, V>();
  private readonly backward = new Map<V, K>();

  /** Pairs a key with a value, breaking up any older pair that either of them was part of. */
  set(key: K, value: V): void {
    if (this.forward.has(key)) this.backward.delete(this.forward.get(key) as V);
    if (this.backward.has(value)) this.forward.delete(this.backward.get(value) as K);
    this.forward.set(key, value);
    this.backward.set(value, key);
  }

  /** Looks up from key to value. */
  valueOf(key: K): V | undefined {
    return this.forward.get(key);
  }

  /** Looks up in the reverse direction, from value to key. */
  keyOf(value: V): K | undefined {
    return this.backward.get(value);
  }
}

/** A compact set of small non-negative integers, one bit each, packed in 32-bit words. */
export class BitSet {
  private words = new Uint32Array(1);

  /** Switches a bit on, enlarging the storage if the index lies beyond it. */
  add(index: number): this {
    const word = index >>> 5;
    if (word >= this.words.length) {
      const grown = new Uint32Array(Math.max(word + 1, this.words.length * 2));
      grown.set(this.words);
      this.words = grown;
    }
    this.words[word] = (this.words[word] ?? 0) | (1 << (index & 31));
    return this;
  }

  /** Switches a bit off. */
  delete(index: number): this {
    const word = index >>> 5;
    if (word < this.words.length) this.words[word] = (this.words[word] ?? 0) & ~(1 << (index & 31));
    return this;
  }

  /** Tests a single bit. */
  has(index: number): boolean {
    return (((this.words[index >>> 5] ?? 0) >>> (index & 31)) & 1) === 1;
  }

  /** Population count: how many bits are on in total. */
  count(): number {
    let total = 0;
    for (let word of this.words) {
      word -= (word >>> 1) & 0x55555555;
      word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
      total += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
    }
    return total;
  }

  /** Makes a new bit set of those indices that are on in both operands. */
  intersect(other: BitSet): BitSet {
    const out = new BitSet();
    out.words = this.words.map((word, i) => word & (other.words[i] ?? 0));
    return out;
  }

  /** Walks over the indices that are on, in ascending order, by peeling off the lowest bit of each word. */
  *[Symbol.iterator](): Generator<number, void> {
    for (const [i, start] of this.words.entries()) {
      for (let word = start; word !== 0; word &= word - 1) {
        yield i * 32 + (31 - Math.clz32(word & -word));
      }
    }
  }
}

/** Tallies how often each distinct value occurs, the most frequent first. */
export function histogram<T>(items: Iterable<T>): Array<[T, number]> {
  const counts = new Map<T, number>();
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}
