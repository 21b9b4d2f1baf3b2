/** The variables captured from a path. */
export type PathParams = Record<string, string>;

/** Answers a request that the router has matched. */
export type Handler<C, R> = (params: PathParams, context: C) => R;

/** Wraps the rest of the chain; calls `next` to let it run. */
export type Middleware<C, R> = (context: C, next: () => Promise<R>) => Promise<R>;

interface Route<C, R> {
  method: string;
  pattern: string;
  handler: Handler<C, R>;
}

/** The outcome of looking a request up in a router. */
export type Lookup<C, R> =
  | { kind: 'found'; handler: Handler<C, R>; params: PathParams }
  | { kind: 'method-not-allowed'; allow: string[] }
  | { kind: 'not-found' };

function segmentsOf(path: string): string[] {
  return path.split('/').filter((s) => s !== '');
}

/**
 * Matches a concrete path against a pattern with `:name` placeholders and an optional trailing `*rest` that swallows everything left.
 * @returns the decoded variables, or null if the path does not fit or is badly encoded
 * @example
 * matchPath('/users/:id', '/users/42') // { id: '42' }
 */
export function matchPath(pattern: string, path: string): PathParams | null {
  const want = segmentsOf(pattern);
  const have = segmentsOf(path);
  const params: PathParams = {};
  try {
    for (const [i, part] of want.entries()) {
      if (part.startsWith('*')) {
        params[part.slice(1) || 'rest'] = have.slice(i).map(decodeURIComponent).join('/');
        return params;
      }
      const segment = have[i];
      if (segment === undefined) return null;
      if (part.startsWith(':')) params[part.slice(1)] = decodeURIComponent(segment);
      else if (part !== segment) return null;
    }
  } catch {
    return null;
  }
  return have.length === want.length ? params : null;
}

/** Fills the placeholders of a route pattern to produce a link, escaping every value; complains about a variable that was not supplied. */
export function buildPath(pattern: string, params: PathParams): string {
  const parts = segmentsOf(pattern).map((part) => {
    if (!/^[:*]/.test(part)) return part;
    const value = params[part.slice(1) || 'rest'];
    if (value === undefined) throw new Error(`Missing path parameter "${part.slice(1)}"`);
    return part.startsWith('*') ? value.split('/').map(encodeURIComponent).join('/') : encodeURIComponent(value);
  });
  return `/${parts.join('/')}`;
}

/** Lists the variable names that occur in a route template, in order, which helps to generate documentation or check for duplicates. */
export function paramNames(pattern: string): string[] {
  return segmentsOf(pattern)
    .filter((part) => part.startsWith(':') || part.startsWith('*'))
    .map((part) => part.slice(1) || 'rest');
}

/** Orders two patterns so that literal segments are tried ahead of placeholders and placeholders ahead of wildcards. Meant for `Array.prototype.sort`. */
export function compareSpecificity(a: string, b: string): number {
  const rank = (part: string | undefined): number =>
    part === undefined ? 3 : part.startsWith('*') ? 2 : part.startsWith(':') ? 1 : 0;
  const left = segmentsOf(a);
  const right = segmentsOf(b);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const diff = rank(left[i]) - rank(right[i]);
    if (diff !== 0) return diff;
  }
  return 0;
}

/** Compiles a route template to an anchored regular expression with named groups, for servers that match by regex alone. */
export function patternToRegExp(pattern: string): RegExp {
  const source = segmentsOf(pattern).map((part) => {
    if (part.startsWith(':')) return `/(?<${part.slice(1)}>[^/]+)`;
    if (part.startsWith('*')) return `(?:/(?<${part.slice(1) || 'rest'}>.*))?`;
    return `/${part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`;
  });
  return new RegExp(`^${source.join('')}/?$`);
}

/** Dispatches requests by method and path to the handler registered for them. */
export class Router<C, R> {
  private routes: Array<Route<C, R>> = [];

  /** Registers a handler for a verb and a path template; more specific templates take precedence whatever the order of registration. */
  on(method: string, pattern: string, handler: Handler<C, R>): this {
    this.routes.push({ method: method.toUpperCase(), pattern, handler });
    this.routes.sort((a, b) => compareSpecificity(a.pattern, b.pattern));
    return this;
  }

  /** Hangs all routes of another router under a prefix, as one does with the parts of a larger application. */
  mount(prefix: string, child: Router<C, R>): this {
    for (const route of child.routes) {
      this.on(route.method, `${prefix.replace(/\/$/, '')}/${route.pattern.replace(/^\//, '')}`, route.handler);
    }
    return this;
  }

  /** Finds who should answer a request. HEAD falls back to GET, and a known path with the wrong verb yields the methods it does allow. */
  lookup(method: string, path: string): Lookup<C, R> {
    const allow = new Set<string>();
    const verbs = method.toUpperCase() === 'HEAD' ? ['HEAD', 'GET'] : [method.toUpperCase()];
    for (const verb of verbs) {
      for (const route of this.routes) {
        const params = matchPath(route.pattern, path);
        if (!params) continue;
        if (route.method === verb) return { kind: 'found', handler: route.handler, params };
        allow.add(route.method);
      }
    }
    return allow.size > 0 ? { kind: 'method-not-allowed', allow: [...allow].sort() } : { kind: 'not-found' };
  }
}

/**
 * Stacks middleware like the layers of an onion around a final handler, the first one outermost.
 * Calling `next` more than once from the same layer is an error.
 */
export function composeMiddleware<C, R>(layers: ReadonlyArray<Middleware<C, R>>, last: (context: C) => Promise<R>): (context: C) => Promise<R> {
  return (context) => {
    let reached = -1;
    const dispatch = async (i: number): Promise<R> => {
      if (i <= reached) throw new Error('next() called more than once');
      reached = i;
      const layer = layers[i];
      return layer ? layer(context, () => dispatch(i + 1)) : last(context);
    };
    return dispatch(0);
  };
}

/** Gives the one spelling of a path to which others should redirect: single slashes, no slash at the end. */
export const normalizePath = (path: string): string => {
  const collapsed = `/${path}`.replace(/\/{2,}/g, '/');
  return collapsed.length > 1 ? collapsed.replace(/\/$/, '') : collapsed;
};

/** Creates a guard that converts one path variable to an integer and rejects anything but plain digits, such as `12abc` or `-1`. */
export function intParam(name: string): (params: PathParams) => number | null {
  return (params) => {
    const text = params[name];
    if (text === undefined || !/^\d{1,15}$/.test(text)) return null;
    return Number(text);
  };
}

/** Tests if a menu entry should be highlighted: the current location equals its target or lies beneath it. */
export function isActivePath(current: string, target: string, exact = false): boolean {
  const have = segmentsOf(current);
  const want = segmentsOf(target);
  if (exact && have.length !== want.length) return false;
  return want.every((segment, i) => have[i] === segment);
}
