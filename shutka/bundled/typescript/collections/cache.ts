/** Running totals that tell how well a cache is doing. */
export interface CacheStats {
  hits: number;
  misses: number;
  evictions: number;
}

/** A bounded cache that throws out the entry which has gone unused for the longest time. */
export class LruCache<K, V> {
  private readonly map = new Map<K, V>();
  readonly stats: CacheStats = { hits: 0, misses: 0, evictions: 0 };

  constructor(readonly capacity: number, private readonly onEvict?: (key: K, value: V) => void) {
    if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError('capacity must be a positive integer');
  }

  /** Looks a key up and marks it as the most recently used. */
  get(key: K): V | undefined {
    if (!this.map.has(key)) {
      this.stats.misses++;
      return undefined;
    }
    const value = this.map.get(key) as V;
    this.map.delete(key);
    this.map.set(key, value);
    this.stats.hits++;
    return value;
  }

  /** Stores a value, evicting the least recently used entry when the cache is full. */
  set(key: K, value: V): void {
    this.map.delete(key);
    this.map.set(key, value);
    if (this.map.size <= this.capacity) return;
    const [oldKey, oldValue] = this.map.entries().next().value as [K, V];
    this.map.delete(oldKey);
    this.stats.evictions++;
    this.onEvict?.(oldKey, oldValue);
  }

  /** Returns what is cached under a key without refreshing its place in the eviction order. */
  peek(key: K): V | undefined {
    return this.map.get(key);
  }

  /** Keys from the coldest, next to be evicted, to the hottest. */
  keysByAge(): K[] {
    return [...this.map.keys()];
  }
}

/** A cache whose entries expire a fixed time after they were written; the clock is passed in so that tests can turn it. */
export class TtlCache<K, V> {
  private readonly map = new Map<K, { value: V; expiresAt: number }>();

  constructor(private readonly ttlMs: number, private readonly now: () => number) {}

  /** Writes an entry that lives for the default time to live, or for its own if one is given. */
  set(key: K, value: V, ttlMs = this.ttlMs): void {
    this.map.set(key, { value, expiresAt: this.now() + ttlMs });
  }

  /** Reads an entry, treating one past its expiry as absent and dropping it on the way. */
  get(key: K): V | undefined {
    const entry = this.map.get(key);
    if (!entry) return undefined;
    if (this.now() < entry.expiresAt) return entry.value;
    this.map.delete(key);
    return undefined;
  }

  /** Sweeps out everything that has expired and reports how many entries were freed. */
  prune(): number {
    const now = this.now();
    let removed = 0;
    for (const [key, { expiresAt }] of this.map) {
      if (now >= expiresAt && this.map.delete(key)) removed++;
    }
    return removed;
  }

  /** Milliseconds that an entry has left to live, zero if it is gone. */
  remaining(key: K): number {
    const entry = this.map.get(key);
    return entry ? Math.max(0, entry.expiresAt - this.now()) : 0;
  }
}

/** Fraction of lookups that were answered from the cache, between 0 and 1; a cache nobody asked scores 0. */
export const hitRate = (stats: CacheStats): number => {
  const total = stats.hits + stats.misses;
  return total === 0 ? 0 : stats.hits / total;
};

/**
 * Returns the cached value for a key, or loads it asynchronously and stores it for the next time. Failed loads are not cached.
 * @param load called only on a miss
 */
export async function getOrLoad<K, V>(
  cache: { get(key: K): V | undefined; set(key: K, value: V): void },
  key: K,
  load: (key: K) => Promise<V>,
): Promise<V> {
  const cached = cache.get(key);
  if (cached !== undefined) return cached;
  const value = await load(key);
  cache.set(key, value);
  return value;
}

/**
 * Serves the old value at once when it is stale and refreshes it in the background; only the very first request for a key has to wait.
 * @param maxAgeMs age beyond which an entry triggers a refresh
 */
export function staleWhileRevalidate<K, V>(load: (key: K) => Promise<V>, maxAgeMs: number, now: () => number): (key: K) => Promise<V> {
  const entries = new Map<K, { value: V; at: number }>();
  const refreshing = new Set<K>();
  const refresh = async (key: K): Promise<V> => {
    const value = await load(key);
    entries.set(key, { value, at: now() });
    return value;
  };
  return async (key) => {
    const entry = entries.get(key);
    if (!entry) return refresh(key);
    if (now() - entry.at > maxAgeMs && !refreshing.has(key)) {
      refreshing.add(key);
      refresh(key).catch(() => undefined).finally(() => refreshing.delete(key));
    }
    return entry.value;
  };
}

/** Layers a small fast cache over a large slow one: a hit in the lower tier is copied up to the upper. */
export function tiered<K, V>(upper: { get(k: K): V | undefined; set(k: K, v: V): void }, lower: { get(k: K): V | undefined; set(k: K, v: V): void }) {
  return {
    get(key: K): V | undefined {
      const fast = upper.get(key);
      if (fast !== undefined) return fast;
      const slow = lower.get(key);
      if (slow !== undefined) upper.set(key, slow);
      return slow;
    },
    set(key: K, value: V): void {
      upper.set(key, value);
      lower.set(key, value);
    },
  };
}

/** Spreads expiry times by a random share of the time to live, so that entries written together do not all run out at the same instant. */
export function jitteredTtl(ttlMs: number, share: number, random: () => number): number {
  const spread = ttlMs * Math.min(1, Math.max(0, share));
  return Math.round(ttlMs - spread / 2 + spread * random());
}
