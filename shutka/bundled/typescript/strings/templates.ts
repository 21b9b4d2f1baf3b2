/** The values that placeholders of a template may refer to; nested objects are reached with dots. */
export interface TemplateValues {
  readonly [name: string]: unknown;
}

/** A piece of a parsed template: text to copy, or the name of a value to insert. */
export type TemplatePart = { kind: 'text'; text: string } | { kind: 'slot'; name: string };

/**
 * Parses a template with `{{name}}` placeholders once into literal and slot parts, so that it can be filled many times cheaply.
 */
export function parseTemplate(source: string): TemplatePart[] {
  const parts: TemplatePart[] = [];
  let position = 0;
  for (const match of source.matchAll(/\{\{\s*([\w.$-]+)\s*\}\}/g)) {
    const start = match.index ?? 0;
    if (start > position) parts.push({ kind: 'text', text: source.slice(position, start) });
    parts.push({ kind: 'slot', name: match[1]! });
    position = start + match[0].length;
  }
  if (position < source.length) parts.push({ kind: 'text', text: source.slice(position) });
  return parts;
}

/**
 * Follows a dotted path such as `user.address.city` through nested objects and gives what it finds, or undefined when a step is missing.
 * Only own properties are looked at, so a template cannot reach into prototypes.
 */
export function lookupPath(values: unknown, path: string): unknown {
  let current = values;
  for (const step of path.split('.')) {
    if (current === null || typeof current !== 'object' || !Object.hasOwn(current, step)) return undefined;
    current = (current as Record<string, unknown>)[step];
  }
  return current;
}

/**
 * Fills in the placeholders of a template string and returns the finished text. A missing value throws, because a silent blank is hard to spot.
 *
 * @param escape Applied to each inserted value, for instance to make it safe in markup.
 * @throws ReferenceError when a placeholder has no value.
 */
export function renderTemplate(source: string, values: TemplateValues, escape = (text: string) => text): string {
  let output = '';
  for (const part of parseTemplate(source)) {
    if (part.kind === 'text') {
      output += part.text;
      continue;
    }
    const value = lookupPath(values, part.name);
    if (value === undefined || value === null) throw new ReferenceError(`no value for {{${part.name}}}`);
    output += escape(String(value));
  }
  return output;
}

/**
 * Lists which variables a template asks for, each one once and in the order of first appearance.
 */
export function templateVariables(source: string): string[] {
  const names = new Set<string>();
  for (const part of parseTemplate(source)) {
    if (part.kind === 'slot') names.add(part.name);
  }
  return [...names];
}

/**
 * Substitutes numbered markers `{0}`, `{1}` and so on with the arguments, in the manner of message catalogues.
 * A marker without an argument stays in the text, and doubled braces stand for single ones.
 */
export function formatPositional(pattern: string, ...args: unknown[]): string {
  return pattern.replace(/\{\{|\}\}|\{(\d+)\}/g, (marker, digits?: string) => {
    if (digits === undefined) return marker.charAt(0);
    const index = Number(digits);
    return index < args.length ? String(args[index]) : marker;
  });
}

const HTML_ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/**
 * Replaces the five characters that have a meaning in markup by their entities, making untrusted text safe inside an element or a quoted attribute.
 */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => HTML_ENTITIES[char] ?? char);
}

/**
 * Puts a backslash before all characters that are special in a regular expression, so that user input is searched for literally.
 */
export const escapeRegExp = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

/**
 * A template literal tag that escapes the interpolated values for HTML and leaves the literal parts alone.
 *
 * @example
 * safeHtml`<b>${name}</b>`;
 */
export function safeHtml(strings: TemplateStringsArray, ...values: unknown[]): string {
  return strings.reduce((html, chunk, i) => html + escapeHtml(String(values[i - 1] ?? '')) + chunk);
}

/** The forms of a word that a language distinguishes by number. */
export interface PluralForms {
  one: string;
  other: string;
  zero?: string;
}

/**
 * Chooses the singular or the plural wording for a count and writes the number in place of `#`.
 *
 * @example
 * pluralize(3, { zero: 'no files', one: '# file', other: '# files' }); // '3 files'
 */
export function pluralize(count: number, forms: PluralForms): string {
  const form = count === 0 ? (forms.zero ?? forms.other) : Math.abs(count) === 1 ? forms.one : forms.other;
  return form.replaceAll('#', () => String(count));
}

/**
 * Joins items into an English enumeration, with commas between them and a conjunction before the final one.
 */
export function joinList(items: readonly string[], conjunction = 'and'): string {
  const last = items.at(-1);
  if (last === undefined) return '';
  if (items.length === 1) return last;
  if (items.length === 2) return `${items[0]} ${conjunction} ${last}`;
  return `${items.slice(0, -1).join(', ')}, ${conjunction} ${last}`;
}

/**
 * Expands shell-like `$NAME` and `${NAME:-fallback}` references from a table of variables; an unset one without a fallback becomes empty.
 */
export function expandVariables(text: string, variables: Readonly<Record<string, string | undefined>>): string {
  return text.replace(/\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})/g, (_, bare?: string, braced?: string, fallback?: string) => {
    const name = bare ?? braced ?? '';
    const value = Object.hasOwn(variables, name) ? variables[name] : undefined;
    return value || fallback || '';
  });
}

/**
 * Reads the values back out of a text that was made from a template: the inverse of rendering.
 * Gives null if the text does not fit the pattern.
 */
export function matchTemplate(source: string, text: string): Record<string, string> | null {
  const parts = parseTemplate(source);
  const body = parts.map((part) => (part.kind === 'text' ? escapeRegExp(part.text) : '(.*?)')).join('');
  const match = new RegExp(`^${body}$`, 's').exec(text);
  if (!match) return null;
  const slots = parts.flatMap((part) => (part.kind === 'slot' ? [part.name] : []));
  return Object.fromEntries(slots.map((name, i) => [name, match[i + 1] ?? '']));
}
