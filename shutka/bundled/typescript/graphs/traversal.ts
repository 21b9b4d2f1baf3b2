/** A directed graph given by its adjacency: each node with the nodes its edges lead to. Nodes that are only led to need no entry. */
export type Graph<N> = ReadonlyMap<N, readonly N[]>;

/** A connection from one node to another. */
export type Edge<N> = readonly [from: N, to: N];

/** Answers which nodes can be reached in one step; lets algorithms run on graphs too large to store. */
export type Neighbours<N> = (node: N) => Iterable<N>;

/** Builds an adjacency map from a list of directed edges, giving every endpoint an entry even if nothing leaves it. */
export function fromEdges<N>(edges: Iterable<Edge<N>>): Map<N, N[]> {
  const graph = new Map<N, N[]>();
  for (const [from, to] of edges) {
    if (!graph.has(from)) graph.set(from, []);
    if (!graph.has(to)) graph.set(to, []);
    graph.get(from)!.push(to);
  }
  return graph;
}

/** Lists all connections of an adjacency map as pairs. */
export const toEdges = <N>(graph: Graph<N>): [N, N][] =>
  [...graph].flatMap(([from, targets]) => targets.map((to): [N, N] => [from, to]));

/** Every node that occurs in a graph, whether as the start or only as the target of an edge. */
export function nodesOf<N>(graph: Graph<N>): Set<N> {
  const nodes = new Set<N>();
  for (const [node, targets] of graph) {
    nodes.add(node);
    for (const target of targets) nodes.add(target);
  }
  return nodes;
}

/** Reverses the direction of every edge, so that one can ask who points here instead of where this points. */
export function transpose<N>(graph: Graph<N>): Map<N, N[]> {
  const reversed = new Map<N, N[]>();
  for (const node of nodesOf(graph)) reversed.set(node, []);
  for (const [from, targets] of graph) {
    for (const to of targets) reversed.get(to)!.push(from);
  }
  return reversed;
}

/** Makes a directed graph undirected by adding the missing opposite of each edge; duplicates are merged. */
export function symmetrize<N>(graph: Graph<N>): Map<N, N[]> {
  const links = new Map<N, Set<N>>();
  for (const node of nodesOf(graph)) links.set(node, new Set());
  for (const [from, targets] of graph) {
    for (const to of targets) {
      links.get(from)!.add(to);
      links.get(to)!.add(from);
    }
  }
  return new Map([...links].map(([node, others]) => [node, [...others]]));
}

/**
 * Visits everything reachable in waves of growing distance from the start, the breadth-first order, yielding each node
 * together with the number of steps it lies away.
 */
export function* breadthFirst<N>(start: N, neighbours: Neighbours<N>): Generator<[node: N, distance: number]> {
  const seen = new Set([start]);
  let frontier = [start];
  for (let distance = 0; frontier.length > 0; distance++) {
    const next: N[] = [];
    for (const node of frontier) {
      yield [node, distance];
      for (const neighbour of neighbours(node)) {
        if (seen.has(neighbour)) continue;
        seen.add(neighbour);
        next.push(neighbour);
      }
    }
    frontier = next;
  }
}

/** Explores as deep as possible along each branch before backing up, yielding nodes when first entered. Uses its own stack, so long chains do no harm. */
export function* depthFirst<N>(start: N, neighbours: Neighbours<N>): Generator<N> {
  const seen = new Set<N>();
  const stack = [start];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    yield node;
    stack.push(...[...neighbours(node)].reverse());
  }
}

/**
 * Lists the reachable nodes in the order they are left for good: a node appears only after everything first discovered below it.
 * This is the finishing order that dependency algorithms build on.
 */
export function finishingOrder<N>(starts: Iterable<N>, neighbours: Neighbours<N>): N[] {
  const seen = new Set<N>();
  const order: N[] = [];
  const visit = (node: N): void => {
    if (seen.has(node)) return;
    seen.add(node);
    for (const neighbour of neighbours(node)) visit(neighbour);
    order.push(node);
  };
  for (const start of starts) visit(start);
  return order;
}

/**
 * Asks whether any route at all leads from one node to another; a node always reaches itself.
 *
 * @returns true as soon as the target turns up, without exploring the rest
 */
export function isReachable<N>(graph: Graph<N>, from: N, to: N): boolean {
  for (const node of depthFirst(from, (current) => graph.get(current) ?? [])) {
    if (node === to) return true;
  }
  return false;
}

/** Counts the incoming and outgoing edges of every node, for spotting sources, sinks and hubs. */
export function degrees<N>(graph: Graph<N>): Map<N, { incoming: number; outgoing: number }> {
  const counts = new Map<N, { incoming: number; outgoing: number }>();
  for (const node of nodesOf(graph)) counts.set(node, { incoming: 0, outgoing: 0 });
  for (const [from, to] of toEdges(graph)) {
    counts.get(from)!.outgoing++;
    counts.get(to)!.incoming++;
  }
  return counts;
}

/**
 * Cuts the graph down to a chosen set of nodes, keeping only edges with both ends inside.
 *
 * @param keep - the nodes of the induced subgraph
 */
export function inducedSubgraph<N>(graph: Graph<N>, keep: ReadonlySet<N>): Map<N, N[]> {
  const result = new Map<N, N[]>();
  for (const node of nodesOf(graph)) {
    if (keep.has(node)) result.set(node, (graph.get(node) ?? []).filter((to) => keep.has(to)));
  }
  return result;
}

/**
 * Enumerates every simple path between two nodes, one that never visits a node twice. Their number can explode, so take only as many as needed.
 *
 * @example
 * const [first] = simplePaths(graph, 'home', 'office');
 */
export function* simplePaths<N>(graph: Graph<N>, from: N, to: N, path: readonly N[] = [from]): Generator<N[]> {
  if (from === to) {
    yield [...path];
    return;
  }
  for (const next of new Set(graph.get(from) ?? [])) {
    if (!path.includes(next)) yield* simplePaths(graph, next, to, [...path, next]);
  }
}

/** Computes for each node the set of all nodes it can get to in one or more steps, so that later queries are a single look-up. */
export function transitiveClosure<N>(graph: Graph<N>): Map<N, Set<N>> {
  const closure = new Map<N, Set<N>>();
  for (const node of nodesOf(graph)) {
    const reached = new Set<N>();
    const stack = [...(graph.get(node) ?? [])];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      if (reached.has(next)) continue;
      reached.add(next);
      stack.push(...(graph.get(next) ?? []));
    }
    closure.set(node, reached);
  }
  return closure;
}
