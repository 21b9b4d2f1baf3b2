/** A list of name and value pairs as they came over the wire. */
export type HeaderList = ReadonlyArray<readonly [string, string]>;

/** What a server may ask of the browser besides remembering a cookie's value. */
export interface CookieOptions {
  maxAge?: number;
  expires?: Date;
  path?: string;
  domain?: string;
  secure?: boolean;
  httpOnly?: boolean;
  sameSite?: 'Strict' | 'Lax' | 'None';
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** A multi-valued collection of HTTP headers whose names are looked up without regard to letter case. */
export class HeaderMap {
  private readonly entries = new Map<string, { name: string; values: string[] }>();

  constructor(list: HeaderList = []) {
    for (const [name, value] of list) this.append(name, value);
  }

  /** Adds a value next to those that the header already has, which is what `Set-Cookie` needs. */
  append(name: string, value: string): this {
    if (!TOKEN.test(name)) throw new TypeError(`Invalid header name: ${name}`);
    const entry = this.entries.get(name.toLowerCase());
    if (entry) entry.values.push(value.trim());
    else this.entries.set(name.toLowerCase(), { name, values: [value.trim()] });
    return this;
  }

  /** Overwrites whatever was stored under this header with a single value. */
  set(name: string, value: string): this {
    this.entries.delete(name.toLowerCase());
    return this.append(name, value);
  }

  /** Fetches a header as one string, its repeated values combined with a comma, or undefined if it was not sent. */
  get(name: string): string | undefined {
    return this.entries.get(name.toLowerCase())?.values.join(', ');
  }

  /** Lists all pairs in their original spelling, one per value, ready to be written to a response. */
  toList(): Array<[string, string]> {
    const out: Array<[string, string]> = [];
    for (const { name, values } of this.entries.values()) {
      for (const value of values) out.push([name, value]);
    }
    return out;
  }
}

/**
 * Parses the `Cookie` request header into a plain record. When a name occurs twice the first one wins,
 * because browsers send the most specific path first.
 */
export function parseCookies(header: string): Record<string, string> {
  const jar: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const part of header.split(';')) {
    const eq = part.indexOf('=');
    if (eq < 1) continue;
    const name = part.slice(0, eq).trim();
    const raw = part.slice(eq + 1).trim().replace(/^"(.*)"$/, '$1');
    if (name in jar) continue;
    try {
      jar[name] = decodeURIComponent(raw);
    } catch {
      jar[name] = raw;
    }
  }
  return jar;
}

/**
 * Builds the text of a `Set-Cookie` response header with its attributes.
 * @param options attributes to add; `maxAge` is a lifetime in seconds
 * @throws if the name is not a valid token, or if `SameSite=None` is asked for without `secure`
 */
export function serializeCookie(name: string, value: string, options: CookieOptions = {}): string {
  if (!TOKEN.test(name)) throw new TypeError(`Invalid cookie name: ${name}`);
  if (options.sameSite === 'None' && !options.secure) throw new TypeError('SameSite=None requires Secure');
  const out = [`${name}=${encodeURIComponent(value)}`];
  if (options.maxAge !== undefined) out.push(`Max-Age=${Math.trunc(options.maxAge)}`);
  if (options.expires) out.push(`Expires=${options.expires.toUTCString()}`);
  if (options.domain) out.push(`Domain=${options.domain}`);
  if (options.path) out.push(`Path=${options.path}`);
  if (options.secure) out.push('Secure');
  if (options.httpOnly) out.push('HttpOnly');
  if (options.sameSite) out.push(`SameSite=${options.sameSite}`);
  return out.join('; ');
}

/** Makes the header that tells a browser to forget a cookie at once, by giving it an expiry date in the past. */
export const expireCookie = (name: string, path = '/', domain?: string): string =>
  serializeCookie(name, '', domain === undefined
    ? { maxAge: 0, expires: new Date(0), path }
    : { maxAge: 0, expires: new Date(0), path, domain });

/** Decides if a cookie stored for a domain should be sent to this host: either the same name or one of its subdomains. */
export function cookieDomainMatches(host: string, domain: string): boolean {
  const h = host.toLowerCase();
  const d = domain.toLowerCase().replace(/^\./, '');
  if (h === d) return true;
  const isAddress = /^[\d.]+$/.test(h) || h.includes(':');
  return !isAddress && d !== '' && h.endsWith(`.${d}`);
}

/**
 * Interprets a `Cache-Control` header as a record of directives; those with numeric arguments become numbers and bare ones become true.
 * @example
 * parseCacheControl('public, max-age=60') // { public: true, 'max-age': 60 }
 */
export function parseCacheControl(header: string): Record<string, string | number | true> {
  const out: Record<string, string | number | true> = {};
  for (const [, name = '', quoted, bare] of header.matchAll(/([\w-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,;]+)))?/g)) {
    const value = quoted ?? bare;
    if (value === undefined) out[name.toLowerCase()] = true;
    else out[name.toLowerCase()] = /^\d+$/.test(value) ? Number(value) : value;
  }
  return out;
}

/** Computes for how many more seconds a shared cache may reuse a response of the given age without asking the origin server; never negative. */
export function freshnessLeft(cacheControl: string, ageSeconds: number): number {
  const directives = parseCacheControl(cacheControl);
  if (directives['no-store'] || directives['no-cache'] || directives['private']) return 0;
  const limit = directives['s-maxage'] ?? directives['max-age'];
  return typeof limit === 'number' ? Math.max(0, limit - ageSeconds) : 0;
}

/**
 * Checks `If-None-Match` against the entity tag of a resource with the weak comparison, so that the server can answer 304 Not Modified.
 * @param header the header's value, perhaps a list or `*`
 * @param etag the current tag including its quotes
 */
export function etagMatches(header: string, etag: string): boolean {
  if (header.trim() === '*') return true;
  const opaque = (tag: string): string => tag.trim().replace(/^W\//, '');
  const tags = header.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return tags.some((tag) => opaque(tag) === opaque(etag));
}

/** Works out the inclusive byte spans that a `Range` request wants from a body of known size, or null when none can be satisfied. */
export function parseByteRange(header: string, size: number): Array<{ start: number; end: number }> | null {
  const m = /^bytes=(.+)$/.exec(header.trim());
  if (!m) return null;
  const ranges: Array<{ start: number; end: number }> = [];
  for (const spec of (m[1] ?? '').split(',')) {
    const [, first = '', last = ''] = /^\s*(\d*)-(\d*)\s*$/.exec(spec) ?? [];
    if (first === '' && last === '') return null;
    const start = first === '' ? Math.max(0, size - Number(last)) : Number(first);
    const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1);
    if (start <= end) ranges.push({ start, end });
  }
  return ranges.length > 0 ? ranges : null;
}

/** Extracts pagination targets from a `Link` header, keyed by their relation such as `next`, `prev` or `last`. */
export function parseLinkHeader(header: string): Map<string, string> {
  const links = new Map<string, string>();
  for (const [, target = '', params = ''] of header.matchAll(/<([^>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^\s;,]+))*)/g)) {
    const rel = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,]+))/i.exec(params);
    for (const name of (rel?.[1] ?? rel?.[2] ?? '').split(/\s+/)) {
      if (name !== '' && !links.has(name)) links.set(name, target);
    }
  }
  return links;
}

/** Finds how long to wait before trying again, in milliseconds, from a `Retry-After` header that holds either seconds or an HTTP date. */
export function retryAfterMs(header: string, now: number): number | undefined {
  const text = header.trim();
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
