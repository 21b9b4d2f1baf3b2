/** A graph with lengths on its edges: for every node, the neighbours and what it costs to go there. */
export type WeightedGraph<N> = ReadonlyMap<N, ReadonlyMap<N, number>>;

/** The result of a single-source search: the distance to each reached node and the node visited just before it. */
export interface PathTree<N> {
  distance: Map<N, number>;
  previous: Map<N, N>;
}

/** A route through a graph with its total length. */
export interface Route<N> {
  nodes: N[];
  cost: number;
}

/** Builds a weighted graph from triples of origin, destination and length; of parallel edges the shortest is kept. */
export function weightedFromTriples<N>(triples: Iterable<readonly [N, N, number]>): Map<N, Map<N, number>> {
  const graph = new Map<N, Map<N, number>>();
  for (const [from, to, weight] of triples) {
    if (!graph.has(to)) graph.set(to, new Map());
    const edges = graph.get(from) ?? new Map<N, number>();
    edges.set(to, Math.min(weight, edges.get(to) ?? Infinity));
    graph.set(from, edges);
  }
  return graph;
}

/** A priority queue whose entries may be pushed again with a smaller key; stale copies are skipped by the reader. */
class MinHeap<T> {
  private readonly entries: [key: number, item: T][] = [];

  push(key: number, item: T): void {
    let i = this.entries.push([key, item]) - 1;
    for (let up = (i - 1) >> 1; i > 0 && this.entries[up]![0] > key; up = (i - 1) >> 1) {
      this.entries[i] = this.entries[up]!;
      this.entries[up] = [key, item];
      i = up;
    }
  }

  pop(): [key: number, item: T] | undefined {
    const top = this.entries[0];
    const last = this.entries.pop();
    if (!last || this.entries.length === 0) return top;
    let i = 0;
    for (let child = 1; child < this.entries.length; child = 2 * i + 1) {
      if (child + 1 < this.entries.length && this.entries[child + 1]![0] < this.entries[child]![0]) child++;
      if (this.entries[child]![0] >= last[0]) break;
      this.entries[i] = this.entries[child]!;
      i = child;
    }
    this.entries[i] = last;
    return top;
  }
}

/**
 * Finds the shortest distance from one node to all others with Dijkstra's algorithm. All edge lengths must be non-negative.
 *
 * @returns distances and predecessors; nodes that cannot be reached are absent
 */
export function dijkstra<N>(graph: WeightedGraph<N>, source: N): PathTree<N> {
  const distance = new Map<N, number>([[source, 0]]);
  const previous = new Map<N, N>();
  const heap = new MinHeap<N>();
  heap.push(0, source);
  for (let entry = heap.pop(); entry; entry = heap.pop()) {
    const [reached, node] = entry;
    if (reached > distance.get(node)!) continue;
    for (const [next, weight] of graph.get(node) ?? []) {
      const candidate = reached + weight;
      if (candidate >= (distance.get(next) ?? Infinity)) continue;
      distance.set(next, candidate);
      previous.set(next, node);
      heap.push(candidate, next);
    }
  }
  return { distance, previous };
}

/** Follows the predecessor links of a finished search back from the target and returns the route from the source, or `undefined` if there is none. */
export function reconstructPath<N>(tree: PathTree<N>, target: N): Route<N> | undefined {
  const cost = tree.distance.get(target);
  if (cost === undefined) return undefined;
  const nodes = [target];
  for (let node = target; tree.previous.has(node); ) {
    node = tree.previous.get(node)!;
    nodes.push(node);
  }
  return { nodes: nodes.reverse(), cost };
}

/**
 * Searches for a cheapest route to one goal, guided by an estimate of the remaining distance. With an estimate that never exceeds
 * the truth the answer is optimal, and usually far fewer nodes are looked at than without guidance.
 *
 * @param estimate - the heuristic, such as the straight-line distance to the goal
 */
export function aStar<N>(graph: WeightedGraph<N>, start: N, goal: N, estimate: (node: N) => number): Route<N> | undefined {
  const distance = new Map<N, number>([[start, 0]]);
  const previous = new Map<N, N>();
  const open = new MinHeap<N>();
  open.push(estimate(start), start);
  for (let entry = open.pop(); entry; entry = open.pop()) {
    const node = entry[1];
    if (node === goal) return reconstructPath({ distance, previous }, goal);
    for (const [next, weight] of graph.get(node) ?? []) {
      const candidate = distance.get(node)! + weight;
      if (candidate >= (distance.get(next) ?? Infinity)) continue;
      distance.set(next, candidate);
      previous.set(next, node);
      open.push(candidate + estimate(next), next);
    }
  }
  return undefined;
}

/**
 * Computes shortest distances where some edges have negative length, by relaxing all edges again and again as Bellman and Ford proposed.
 *
 * @throws when a cycle of negative total length is reachable, since distances then have no lower limit
 */
export function bellmanFord<N>(graph: WeightedGraph<N>, source: N): PathTree<N> {
  const distance = new Map<N, number>([[source, 0]]);
  const previous = new Map<N, N>();
  const rounds = new Set([...graph.keys(), ...[...graph.values()].flatMap((edges) => [...edges.keys()])]).size;
  for (let round = 0; round <= rounds; round++) {
    let changed = false;
    for (const [from, edges] of graph) {
      const base = distance.get(from);
      if (base === undefined) continue;
      for (const [to, weight] of edges) {
        if (base + weight >= (distance.get(to) ?? Infinity)) continue;
        distance.set(to, base + weight);
        previous.set(to, from);
        changed = true;
      }
    }
    if (!changed) return { distance, previous };
  }
  throw new RangeError('the graph has a negative cycle');
}

/**
 * Fills in the matrix of distances between all pairs of nodes, trying every node as an intermediate stop. Meant for small dense graphs.
 *
 * @param weights - a square matrix with Infinity where no edge exists; it is not modified
 */
export function floydWarshall(weights: readonly (readonly number[])[]): number[][] {
  const result = weights.map((row, i) => row.map((weight, j) => (i === j ? Math.min(0, weight) : weight)));
  for (let via = 0; via < result.length; via++) {
    for (const row of result) {
      for (let to = 0; to < row.length; to++) {
        row[to] = Math.min(row[to]!, row[via]! + result[via]![to]!);
      }
    }
  }
  return result;
}

/** Returns a route with the fewest hops between two nodes, disregarding any lengths, or `undefined` if they are not connected. */
export function fewestHops<N>(from: N, to: N, neighbours: (node: N) => Iterable<N>): N[] | undefined {
  const parent = new Map<N, N | undefined>([[from, undefined]]);
  for (const node of parent.keys()) {
    if (node === to) {
      const path: N[] = [];
      for (let step: N | undefined = node; step !== undefined; step = parent.get(step)) path.unshift(step);
      return path;
    }
    for (const next of neighbours(node)) if (!parent.has(next)) parent.set(next, node);
  }
  return undefined;
}

/** Adds up the lengths along a given sequence of nodes; Infinity signals that two consecutive ones are not joined by an edge. */
export const pathCost = <N>(graph: WeightedGraph<N>, nodes: readonly N[]): number =>
  nodes.slice(1).reduce((sum, node, i) => sum + (graph.get(nodes[i]!)?.get(node) ?? Infinity), 0);

/**
 * Finds the path whose narrowest edge is as wide as possible, for routing by bandwidth or load limit rather than by distance.
 *
 * @returns the width of that bottleneck, zero when no path exists
 */
export function widestPath<N>(graph: WeightedGraph<N>, source: N, target: N): number {
  const width = new Map<N, number>([[source, Infinity]]);
  const heap = new MinHeap<N>();
  heap.push(-Infinity, source);
  for (let entry = heap.pop(); entry; entry = heap.pop()) {
    const node = entry[1];
    if (node === target) return -entry[0];
    for (const [next, capacity] of graph.get(node) ?? []) {
      const candidate = Math.min(width.get(node)!, capacity);
      if (candidate <= (width.get(next) ?? 0)) continue;
      width.set(next, candidate);
      heap.push(-candidate, next);
    }
  }
  return 0;
}

/** The eccentricity of a node: how far away the most distant node it can reach is. The smallest one marks the centre of a network. */
export function eccentricity<N>(graph: WeightedGraph<N>, node: N): number {
  let farthest = 0;
  for (const length of dijkstra(graph, node).distance.values()) farthest = Math.max(farthest, length);
  return farthest;
}

/** Assigns every node to its closest facility, by running one search from all facilities at the same time. */
export function nearestSource<N>(graph: WeightedGraph<N>, sources: Iterable<N>): Map<N, N> {
  const owner = new Map<N, N>();
  const heap = new MinHeap<[node: N, source: N]>();
  for (const source of sources) heap.push(0, [source, source]);
  for (let entry = heap.pop(); entry; entry = heap.pop()) {
    const [distance, [node, source]] = entry;
    if (owner.has(node)) continue;
    owner.set(node, source);
    for (const [next, weight] of graph.get(node) ?? []) heap.push(distance + weight, [next, source]);
  }
  return owner;
}

/**
 * Solves a rectangular maze for a walker moving up, down, left and right, and tells the number of steps needed.
 *
 * @param isWall - whether the cell in a row and column is blocked
 * @returns -1 when the exit is cut off
 */
export function mazeSteps(
  rows: number,
  columns: number,
  isWall: (row: number, column: number) => boolean,
  start: readonly [number, number],
  exit: readonly [number, number],
): number {
  const steps = new Map<number, number>([[start[0] * columns + start[1], 0]]);
  for (const [cell, count] of steps) {
    const [row, column] = [Math.floor(cell / columns), cell % columns];
    if (row === exit[0] && column === exit[1]) return count;
    for (const [r, c] of [[row - 1, column], [row + 1, column], [row, column - 1], [row, column + 1]] as const) {
      const inside = r >= 0 && r < rows && c >= 0 && c < columns;
      if (inside && !isWall(r, c) && !steps.has(r * columns + c)) steps.set(r * columns + c, count + 1);
    }
  }
  return -1;
}
