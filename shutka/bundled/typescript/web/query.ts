/** A scalar that may stand for one value in a query string. */
export type QueryValue = string | number | boolean | null | undefined;

/** The parts an address falls into, before any of them is percent-decoded. */
export interface AddressParts {
  scheme: string;
  authority: string;
  path: string;
  query: string;
  fragment: string;
}

function decodePlus(text: string): string {
  try {
    return decodeURIComponent(text.replace(/\+/g, ' '));
  } catch {
    return text;
  }
}

/**
 * Reads a query string into a map from each key to every value given for it, in order of appearance.
 * A leading question mark is ignored and malformed percent escapes are kept as they are.
 * @param query the raw text after the path, with or without `?`
 */
export function parseQuery(query: string): Map<string, string[]> {
  const out = new Map<string, string[]>();
  for (const piece of query.replace(/^\?/, '').split('&')) {
    if (piece === '') continue;
    const eq = piece.indexOf('=');
    const key = decodePlus(eq < 0 ? piece : piece.slice(0, eq));
    const value = eq < 0 ? '' : decodePlus(piece.slice(eq + 1));
    const seen = out.get(key);
    if (seen) seen.push(value);
    else out.set(key, [value]);
  }
  return out;
}

/**
 * Serializes an object to `a=1&b=2` form, percent-encoding names and values. Arrays repeat their key,
 * while null and undefined entries are dropped.
 * @example
 * stringifyQuery({ tag: ['x', 'y'], page: 2 }) // 'tag=x&tag=y&page=2'
 */
export function stringifyQuery(params: Record<string, QueryValue | QueryValue[]>): string {
  const pairs: string[] = [];
  for (const [key, raw] of Object.entries(params)) {
    const values = Array.isArray(raw) ? raw : [raw];
    for (const value of values) {
      if (value === null || value === undefined) continue;
      pairs.push(`${encodeURIComponent(key)}=${encodeURIComponent(String(value))}`);
    }
  }
  return pairs.join('&');
}

/** Splits a URI into scheme, authority, path, query and fragment using the regular expression of RFC 3986; absent parts come back empty. */
export function splitAddress(address: string): AddressParts {
  const m = /^(?:([^:/?#]+):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(address);
  return {
    scheme: (m?.[1] ?? '').toLowerCase(),
    authority: m?.[2] ?? '',
    path: m?.[3] ?? '',
    query: m?.[4] ?? '',
    fragment: m?.[5] ?? '',
  };
}

/** Glues the pieces of a URL back together, adding the punctuation only for those that are not empty. */
export function joinAddress(parts: AddressParts): string {
  let out = parts.scheme ? `${parts.scheme}:` : '';
  if (parts.authority) out += `//${parts.authority}`;
  out += parts.path;
  if (parts.query) out += `?${parts.query}`;
  if (parts.fragment) out += `#${parts.fragment}`;
  return out;
}

/**
 * Breaks the authority component `user@host:port` into its pieces, understanding bracketed IPv6 literals.
 * @returns the port is undefined when none was written
 */
export function parseAuthority(authority: string): { userinfo: string; host: string; port: number | undefined } {
  const at = authority.lastIndexOf('@');
  const userinfo = at < 0 ? '' : authority.slice(0, at);
  const rest = authority.slice(at + 1);
  const m = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(rest);
  if (!m) throw new Error(`Malformed authority: ${authority}`);
  const port = m[2] ? Number(m[2]) : undefined;
  return { userinfo, host: (m[1] ?? '').toLowerCase(), port };
}

/**
 * Resolves `.` and `..` segments of a path without ever climbing above its root, as a browser does before sending a request.
 */
export function removeDotSegments(path: string): string {
  const out: string[] = [];
  const segments = path.split('/');
  segments.forEach((segment, i) => {
    const last = i === segments.length - 1;
    if (segment === '..') {
      if (out.length > 1) out.pop();
      if (last) out.push('');
    } else if (segment === '.') {
      if (last) out.push('');
    } else {
      out.push(segment);
    }
  });
  return out.join('/');
}

/** Turns a relative link found in a page into an absolute address by interpreting it against the base address of that page. */
export function resolveReference(base: string, reference: string): string {
  const b = splitAddress(base);
  const r = splitAddress(reference);
  if (r.scheme) return joinAddress({ ...r, path: removeDotSegments(r.path) });
  if (r.authority) return joinAddress({ ...r, scheme: b.scheme, path: removeDotSegments(r.path) });
  if (r.path === '') return joinAddress({ ...b, query: r.query || b.query, fragment: r.fragment });
  const folder = b.path.includes('/') ? b.path.slice(0, b.path.lastIndexOf('/') + 1) : '/';
  const path = removeDotSegments(r.path.startsWith('/') ? r.path : folder + r.path);
  return joinAddress({ ...b, path, query: r.query, fragment: r.fragment });
}

/** Returns the address with one query parameter set to a new value, replacing all earlier occurrences and leaving the hash in place. */
export function withQueryParam(address: string, name: string, value: string): string {
  const parts = splitAddress(address);
  const kept = parts.query.split('&').filter((p) => p !== '' && decodePlus(p.split('=')[0] ?? '') !== name);
  kept.push(`${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  return joinAddress({ ...parts, query: kept.join('&') });
}

/**
 * Strips marketing parameters such as `utm_source`, `gclid` and `fbclid` from a link so that shared addresses stay short and private.
 * @param prefixes names, or beginnings of names, that count as tracking
 */
export const stripTracking = (address: string, prefixes: string[] = ['utm_', 'gclid', 'fbclid', 'mc_eid']): string => {
  const parts = splitAddress(address);
  const kept = parts.query.split('&').filter((pair) => {
    const name = pair.split('=')[0] ?? '';
    return !prefixes.some((prefix) => name.startsWith(prefix));
  });
  return joinAddress({ ...parts, query: kept.join('&') });
};

/** Sorts parameters by name, keeping the relative order of repeated ones, so that equivalent requests share a single cache key. */
export function canonicalQuery(query: string): string {
  const pairs = query.replace(/^\?/, '').split('&').filter((p) => p !== '');
  const name = (pair: string): string => pair.split('=')[0] ?? '';
  return pairs.sort((a, b) => (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0)).join('&');
}

/** Tells whether two addresses have the same origin: scheme, host and port must agree, where the default ports of http and https count as written. */
export function sameOrigin(a: string, b: string): boolean {
  const defaults: Record<string, number> = { http: 80, https: 443, ws: 80, wss: 443 };
  const origin = (address: string): string => {
    const { scheme, authority } = splitAddress(address);
    const { host, port } = parseAuthority(authority);
    return `${scheme}|${host}|${port ?? defaults[scheme] ?? ''}`;
  };
  return origin(a) === origin(b);
}

/**
 * Reads form field names with brackets, like `user[name]=Ann&user[tags][]=x`, into nested objects and arrays.
 * Names that would reach the prototype of an object are skipped.
 */
export function parseNestedQuery(query: string): Record<string, unknown> {
  const root: Record<string, unknown> = {};
  for (const [key, values] of parseQuery(query)) {
    const path = key.split(/[[\]]+/).filter((p) => p !== '');
    if (path.length === 0 || path.some((p) => p === '__proto__' || p === 'constructor' || p === 'prototype')) continue;
    let node = root;
    for (const step of path.slice(0, -1)) {
      const next = node[step];
      node = (typeof next === 'object' && next !== null ? next : (node[step] = {})) as Record<string, unknown>;
    }
    node[path[path.length - 1] ?? ''] = key.endsWith('[]') ? values : values[values.length - 1];
  }
  return root;
}
