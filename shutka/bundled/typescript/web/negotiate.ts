/** One alternative of an Accept-style header with the client's preference for it. */
export interface Preference {
  value: string;
  quality: number;
  params: Record<string, string>;
}

/** A media type taken apart, everything in lower case except parameter values. */
export interface MediaType {
  type: string;
  subtype: string;
  params: Record<string, string>;
}

function parseParams(pieces: string[]): Record<string, string> {
  const out: Record<string, string> = {};
  for (const piece of pieces) {
    const eq = piece.indexOf('=');
    if (eq > 0) out[piece.slice(0, eq).trim().toLowerCase()] = piece.slice(eq + 1).trim().replace(/^"(.*)"$/, '$1');
  }
  return out;
}

/**
 * Parses a comma separated header with `q` weights, such as Accept-Language, ordered from most to least wanted.
 * A missing or unreadable weight counts as 1, and ties keep the order in which the client wrote them.
 */
export function parsePreferences(header: string): Preference[] {
  const list: Preference[] = [];
  for (const item of header.split(',')) {
    const [value = '', ...rest] = item.split(';');
    if (value.trim() === '') continue;
    const { q, ...params } = parseParams(rest);
    const weight = q === undefined ? 1 : Number(q);
    const quality = Number.isNaN(weight) ? 1 : Math.min(1, Math.max(0, weight));
    list.push({ value: value.trim(), quality, params });
  }
  return list.sort((a, b) => b.quality - a.quality);
}

/**
 * Takes a Content-Type value apart into type, subtype and parameters.
 * @returns null for text that is not a media type
 * @example
 * parseMediaType('text/html; charset=utf-8')?.params.charset // 'utf-8'
 */
export function parseMediaType(text: string): MediaType | null {
  const [essence = '', ...rest] = text.split(';');
  const m = /^\s*([\w!#$&^.+*-]+)\/([\w!#$&^.+*-]+)\s*$/.exec(essence);
  if (!m) return null;
  return { type: (m[1] ?? '').toLowerCase(), subtype: (m[2] ?? '').toLowerCase(), params: parseParams(rest) };
}

/** Writes a media type as header text, quoting those parameter values that contain anything besides token characters. */
export function formatMediaType(media: MediaType): string {
  let out = `${media.type}/${media.subtype}`;
  for (const [name, value] of Object.entries(media.params)) {
    const safe = /^[\w!#$%&'*+.^`|~-]+$/.test(value);
    out += `; ${name}=${safe ? value : `"${value.replace(/(["\\])/g, '\\$1')}"`}`;
  }
  return out;
}

/** Scores how narrowly an Accept range such as `text/*` covers a concrete content type: 3 for exact, 2 for a subtype wildcard, 1 for anything, 0 for no match. */
export function mediaRangeScore(range: string, contentType: string): 0 | 1 | 2 | 3 {
  const [rangeType, rangeSub] = range.toLowerCase().split('/');
  const [type, sub] = (contentType.toLowerCase().split(';')[0] ?? '').trim().split('/');
  if (rangeType === '*' && rangeSub === '*') return 1;
  if (rangeType !== type) return 0;
  if (rangeSub === '*') return 2;
  return rangeSub === sub ? 3 : 0;
}

/**
 * Picks the representation that best satisfies an Accept header. For every type on offer the most specific matching range decides
 * its quality, and among equals the server's own order wins.
 * @param offers content types that the server can produce, favourites first
 * @returns undefined when nothing is acceptable, which calls for status 406
 */
export function chooseMediaType(accept: string, offers: readonly string[]): string | undefined {
  const wanted = accept.trim() === '' ? parsePreferences('*/*') : parsePreferences(accept);
  let best: string | undefined;
  let bestQuality = 0;
  for (const offer of offers) {
    let score = 0;
    let quality = 0;
    for (const pref of wanted) {
      const s = mediaRangeScore(pref.value, offer);
      if (s > score) [score, quality] = [s, pref.quality];
    }
    if (quality > bestQuality) [best, bestQuality] = [offer, quality];
  }
  return best;
}

/** Selects a compression such as `br` or `gzip` from Accept-Encoding; falls back to `identity` unless the client ruled that out. */
export function chooseEncoding(acceptEncoding: string, supported: readonly string[]): string | undefined {
  const quality = new Map(parsePreferences(acceptEncoding).map((p) => [p.value.toLowerCase(), p.quality]));
  const star = quality.get('*');
  let best: string | undefined;
  let bestQuality = 0;
  for (const coding of supported) {
    const q = quality.get(coding) ?? star ?? 0;
    if (q > bestQuality) [best, bestQuality] = [coding, q];
  }
  if (best !== undefined) return best;
  return (quality.get('identity') ?? star ?? 1) > 0 ? 'identity' : undefined;
}

/** Shortens a language tag step by step, `zh-Hant-TW` to `zh-Hant` to `zh`, giving the chain that locale lookup walks through. */
export function languageFallbacks(tag: string): string[] {
  const parts = tag.split('-');
  const chain: string[] = [];
  while (parts.length > 0) {
    chain.push(parts.join('-'));
    parts.pop();
    if (parts[parts.length - 1]?.length === 1) parts.pop();
  }
  return chain;
}

/** Chooses a translation for a visitor: tries each preferred language, then its less specific relatives, before settling for the default. */
export function chooseLanguage(acceptLanguage: string, available: readonly string[], fallback: string): string {
  const known = new Map(available.map((tag) => [tag.toLowerCase(), tag]));
  for (const { value, quality } of parsePreferences(acceptLanguage)) {
    if (quality === 0) continue;
    if (value === '*') return fallback;
    for (const tag of languageFallbacks(value.toLowerCase())) {
      const hit = known.get(tag);
      if (hit !== undefined) return hit;
    }
  }
  return fallback;
}

/** Reports the character set declared for a body, assuming UTF-8 for JSON and text that declares none. */
export const charsetOf = (contentType: string): string | undefined => {
  const media = parseMediaType(contentType);
  if (!media) return undefined;
  const declared = media.params['charset'];
  if (declared !== undefined) return declared.toLowerCase();
  const isText = media.type === 'text' || media.subtype === 'json' || media.subtype.endsWith('+json');
  return isText ? 'utf-8' : undefined;
};

/** True for any content type that a JSON parser can read, vendor types with the `+json` suffix included. */
export function isJsonType(contentType: string): boolean {
  const media = parseMediaType(contentType);
  if (!media) return false;
  return media.subtype === 'json' || media.subtype.endsWith('+json');
}

/** Guesses the MIME type of a static file from its extension; unknown ones are served as opaque binary data. */
export function mimeFromFilename(filename: string): string {
  const types: Record<string, string> = {
    html: 'text/html', css: 'text/css', js: 'text/javascript', json: 'application/json', svg: 'image/svg+xml',
    png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif', webp: 'image/webp',
    txt: 'text/plain', xml: 'application/xml', pdf: 'application/pdf', wasm: 'application/wasm', woff2: 'font/woff2',
  };
  const extension = /\.([^./\\]+)$/.exec(filename)?.[1]?.toLowerCase() ?? '';
  return Object.hasOwn(types, extension) ? types[extension] ?? '' : 'application/octet-stream';
}

/** Adds field names to a `Vary` header without duplicates, so that caches keep negotiated variants apart. */
export function appendVary(current: string, ...fields: string[]): string {
  const names = current.split(',').map((f) => f.trim()).filter((f) => f !== '');
  if (names.includes('*') || fields.includes('*')) return '*';
  for (const field of fields) {
    if (!names.some((n) => n.toLowerCase() === field.toLowerCase())) names.push(field);
  }
  return names.join(', ');
}
