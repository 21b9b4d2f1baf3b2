/** Any value that can be written down as JSON. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A step into a JSON document: an object key or an array index. */
export type PathStep = string | number;

const STRING_OR_COMMENT = /"(?:\\.|[^"\\])*"|\/\/[^\r\n]*|\/\*[\s\S]*?\*\//g;

/**
 * Blanks out line and block comments in relaxed JSON while leaving comment-like text inside strings alone.
 * Every removed character is replaced by a space, so offsets and line numbers in later error messages still fit the original.
 */
export function stripComments(text: string): string {
  return text.replace(STRING_OR_COMMENT, (match) =>
    match.startsWith('"') ? match : match.replace(/[^\r\n]/g, ' '),
  );
}

/** Removes the dangling comma people leave after the last element of an array or object, which strict JSON forbids. Expects comments to be gone. */
export function stripTrailingCommas(text: string): string {
  return text.replace(/("(?:\\.|[^"\\])*")|,(?=\s*[\]}])/g, (_match, literal: string | undefined) => literal ?? ' ');
}

/**
 * Parses a configuration file written in JSON with comments, allowing trailing commas and a leading byte order mark,
 * the dialect editors use for their settings.
 *
 * @throws SyntaxError when the rest is not valid JSON
 */
export function parseJsonc(text: string): Json {
  const body = text.startsWith('\uFEFF') ? text.slice(1) : text;
  return JSON.parse(stripTrailingCommas(stripComments(body))) as Json;
}

/**
 * Attempts to parse strict JSON and hands back a fallback instead of throwing when the text is malformed.
 *
 * @param fallback - what to return for broken input
 */
export const parseJsonOr = <T>(text: string, fallback: T): Json | T => {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return fallback;
  }
};

/** Collects the wording of every comment in a relaxed JSON file, without the slashes and stars, in reading order. */
export function extractComments(text: string): string[] {
  const matches = text.match(STRING_OR_COMMENT) ?? [];
  return matches
    .filter((match) => !match.startsWith('"'))
    .map((match) => (match.startsWith('//') ? match.slice(2) : match.slice(2, -2)).trim());
}

/**
 * Decodes newline-delimited JSON, one document per line, skipping blank lines. A bad record is reported with its line number.
 *
 * @example
 * parseJsonLines('{"a":1}\n\n{"a":2}\n'); // [{ a: 1 }, { a: 2 }]
 */
export function parseJsonLines(text: string): Json[] {
  const documents: Json[] = [];
  text.split(/\r?\n/).forEach((line, i) => {
    if (line.trim() === '') return;
    try {
      documents.push(JSON.parse(line) as Json);
    } catch (cause) {
      throw new SyntaxError(`line ${i + 1} is not valid JSON`, { cause });
    }
  });
  return documents;
}

/**
 * Serialises a value with object keys in sorted order at every level, so that equal data always gives the same text.
 * Good for hashing, caching and comparing snapshots.
 */
export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key]!)}`);
  return `{${members.join(',')}}`;
}

/**
 * Follows an RFC 6901 pointer such as `/servers/0/host` into a document, decoding the `~1` and `~0` escapes.
 *
 * @returns the value found, or `undefined` where the path leads nowhere
 */
export function resolvePointer(document: Json, pointer: string): Json | undefined {
  if (pointer === '') return document;
  let current: Json | undefined = document;
  for (const raw of pointer.split('/').slice(1)) {
    const key = raw.replaceAll('~1', '/').replaceAll('~0', '~');
    if (current === null || typeof current !== 'object') return undefined;
    if (Array.isArray(current)) current = /^(?:0|[1-9]\d*)$/.test(key) ? current[Number(key)] : undefined;
    else current = Object.hasOwn(current, key) ? current[key] : undefined;
  }
  return current;
}

/** Writes a list of keys and indices as a JSON Pointer, escaping slashes and tildes inside the keys. */
export function formatPointer(path: readonly PathStep[]): string {
  return path.map((step) => '/' + String(step).replaceAll('~', '~0').replaceAll('/', '~1')).join('');
}

/**
 * Applies an RFC 7386 merge patch: members of the patch overwrite those of the target, nested objects are combined,
 * and a null in the patch deletes the key. Neither argument is modified.
 */
export function mergePatch(target: Json, patch: Json): Json {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch;
  const base = target !== null && typeof target === 'object' && !Array.isArray(target) ? target : {};
  const result: { [key: string]: Json } = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key] ?? null, value);
  }
  return result;
}

/** Walks a document and yields each scalar leaf together with the path of keys and indices that leads to it. */
export function* leaves(value: Json, path: readonly PathStep[] = []): Generator<[readonly PathStep[], null | boolean | number | string]> {
  if (value === null || typeof value !== 'object') {
    yield [path, value];
  } else if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield* leaves(item, [...path, i]);
  } else {
    for (const [key, item] of Object.entries(value)) yield* leaves(item, [...path, key]);
  }
}

/** Detects how a JSON file is indented, by its first indented line, so that saving it back keeps the author's layout. */
export function detectIndent(text: string, fallback = '  '): string {
  return /\n([ \t]+)\S/.exec(text)?.[1] ?? fallback;
}

/**
 * Compares two documents and lists the pointers of all places where they disagree; an added or removed member counts as one place.
 */
export function diffPaths(left: Json | undefined, right: Json | undefined, path: readonly PathStep[] = []): string[] {
  if (isContainer(left) && isContainer(right) && Array.isArray(left) === Array.isArray(right)) {
    const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
    return [...keys].flatMap((key) => diffPaths(member(left, key), member(right, key), [...path, key]));
  }
  return left === right ? [] : [formatPointer(path)];
}

function isContainer(value: Json | undefined): value is Json[] | { [key: string]: Json } {
  return typeof value === 'object' && value !== null;
}

function member(container: Json[] | { [key: string]: Json }, key: string): Json | undefined {
  return Object.hasOwn(container, key) ? (container as { [key: string]: Json })[key] : undefined;
}
