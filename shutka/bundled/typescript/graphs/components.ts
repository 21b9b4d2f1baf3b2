import { finishingOrder, nodesOf, symmetrize, transpose, type Graph } from './traversal';

/** A disjoint-set forest over the integers below its size: merges groups and tells whether two elements belong together, in nearly constant time. */
export class UnionFind {
  private readonly parent: number[];
  private readonly sizes: number[];
  private groups: number;

  constructor(size: number) {
    this.parent = Array.from({ length: size }, (_unused, i) => i);
    this.sizes = new Array<number>(size).fill(1);
    this.groups = size;
  }

  /** How many separate groups remain. */
  get groupCount(): number {
    return this.groups;
  }

  /** Finds the representative of an element's group and shortens the chain of parents on the way. */
  find(element: number): number {
    let root = element;
    while (this.parent[root] !== root) {
      this.parent[root] = this.parent[this.parent[root]!]!;
      root = this.parent[root]!;
    }
    return root;
  }

  /** Merges the groups of two elements, hanging the smaller one below the larger; false means they were one group already. */
  union(a: number, b: number): boolean {
    let [big, small] = [this.find(a), this.find(b)];
    if (big === small) return false;
    if (this.sizes[big]! < this.sizes[small]!) [big, small] = [small, big];
    this.parent[small] = big;
    this.sizes[big]! += this.sizes[small]!;
    this.groups--;
    return true;
  }

  /** The number of elements in the group that contains the given one. */
  sizeOf(element: number): number {
    return this.sizes[this.find(element)]!;
  }
}

/** Splits a graph into its islands, the sets of nodes connected with each other when edge directions are ignored. */
export function connectedComponents<N>(graph: Graph<N>): N[][] {
  const links = symmetrize(graph);
  const seen = new Set<N>();
  const components: N[][] = [];
  for (const start of links.keys()) {
    if (seen.has(start)) continue;
    const members = new Set([start]);
    for (const node of members) links.get(node)!.forEach((other) => members.add(other));
    members.forEach((node) => seen.add(node));
    components.push([...members]);
  }
  return components;
}

/**
 * Groups a directed graph into strongly connected components, inside which every node can reach every other, using Kosaraju's two passes.
 * The groups come in topological order of the graph between them.
 */
export function stronglyConnected<N>(graph: Graph<N>): N[][] {
  const finished = finishingOrder(nodesOf(graph), (node) => graph.get(node) ?? []);
  const reversed = transpose(graph);
  const seen = new Set<N>();
  const components: N[][] = [];
  for (const start of finished.reverse()) {
    if (seen.has(start)) continue;
    components.push(finishingOrder([start], (node) => reversed.get(node)!.filter((other) => !seen.has(other))));
    components.at(-1)!.forEach((node) => seen.add(node));
  }
  return components;
}

/** Collapses every strongly connected group to a single node, which always leaves a graph without cycles. Nodes of the result are indices into `groups`. */
export function condense<N>(graph: Graph<N>): { groups: N[][]; graph: Map<number, number[]> } {
  const groups = stronglyConnected(graph);
  const groupOf = new Map<N, number>();
  groups.forEach((members, i) => members.forEach((node) => groupOf.set(node, i)));
  const condensed = new Map<number, number[]>();
  groups.forEach((members, i) => {
    const targets = members.flatMap((node) => (graph.get(node) ?? []).map((to) => groupOf.get(to)!));
    condensed.set(i, [...new Set(targets)].filter((target) => target !== i));
  });
  return { groups, graph: condensed };
}

/** Low-link numbering of an undirected graph: the discovery time of a node and the earliest time its subtree can get back to. */
function lowLinks<N>(links: Graph<N>, onTreeEdge: (parent: N, child: N, childLow: number, parentTime: number, isRoot: boolean) => void): void {
  const time = new Map<N, number>();
  const low = new Map<N, number>();
  const visit = (node: N, parent: N | undefined): void => {
    time.set(node, time.size);
    low.set(node, time.get(node)!);
    for (const other of links.get(node)!) {
      if (other === parent || other === node) continue;
      if (time.has(other)) {
        low.set(node, Math.min(low.get(node)!, time.get(other)!));
      } else {
        visit(other, node);
        low.set(node, Math.min(low.get(node)!, low.get(other)!));
        onTreeEdge(node, other, low.get(other)!, time.get(node)!, parent === undefined);
      }
    }
  };
  for (const node of links.keys()) if (!time.has(node)) visit(node, undefined);
}

/** Finds the bridges of an undirected network: connections whose loss would cut it into two parts. */
export function bridges<N>(graph: Graph<N>): [N, N][] {
  const found: [N, N][] = [];
  lowLinks(symmetrize(graph), (parent, child, childLow, parentTime) => {
    if (childLow > parentTime) found.push([parent, child]);
  });
  return found;
}

/**
 * Finds the articulation points, the single points of failure: nodes whose removal disconnects others from one another.
 *
 * @param graph - read as undirected
 */
export function articulationPoints<N>(graph: Graph<N>): Set<N> {
  const points = new Set<N>();
  const rootChildren = new Map<N, number>();
  lowLinks(symmetrize(graph), (parent, _child, childLow, parentTime, isRoot) => {
    if (isRoot) rootChildren.set(parent, (rootChildren.get(parent) ?? 0) + 1);
    else if (childLow >= parentTime) points.add(parent);
  });
  for (const [root, children] of rootChildren) if (children > 1) points.add(root);
  return points;
}

/**
 * Paints the nodes with two colours so that no edge joins equal ones, which is possible exactly when there is no odd cycle.
 *
 * @returns the two sides, or `undefined` if the graph is not bipartite
 */
export function bipartition<N>(graph: Graph<N>): [Set<N>, Set<N>] | undefined {
  const links = symmetrize(graph);
  const side = new Map<N, 0 | 1>();
  for (const component of connectedComponents(graph)) {
    side.set(component[0]!, 0);
    for (const node of component) {
      const opposite = side.get(node) === 0 ? 1 : 0;
      for (const other of links.get(node)!) {
        if (!side.has(other)) side.set(other, opposite);
        else if (side.get(other) !== opposite) return undefined;
      }
    }
  }
  const pick = (wanted: 0 | 1) => new Set([...side].filter(([, value]) => value === wanted).map(([node]) => node));
  return [pick(0), pick(1)];
}

/**
 * Joins all nodes with the least total edge length by Kruskal's greedy method: take edges from short to long unless they close a loop.
 * On a disconnected graph the result is a forest.
 *
 * @param size - the number of nodes, which are numbered from zero
 */
export function minimumSpanningTree(size: number, edges: Iterable<readonly [number, number, number]>): [number, number, number][] {
  const sets = new UnionFind(size);
  const sorted = [...edges].sort((a, b) => a[2] - b[2]);
  return sorted.filter(([from, to]) => sets.union(from, to)).map(([from, to, weight]) => [from, to, weight]);
}

/**
 * Clusters values by a pairwise test, taking it transitively: a and c share a group if both are similar to b.
 *
 * @example
 * groupRelated([1, 2, 9], (a, b) => Math.abs(a - b) < 3); // [[1, 2], [9]]
 */
export function groupRelated<T>(items: readonly T[], related: (a: T, b: T) => boolean): T[][] {
  const sets = new UnionFind(items.length);
  items.forEach((a, i) => {
    for (let j = 0; j < i; j++) if (related(items[j]!, a)) sets.union(i, j);
  });
  const groups = new Map<number, T[]>();
  items.forEach((item, i) => {
    const root = sets.find(i);
    groups.set(root, [...(groups.get(root) ?? []), item]);
  });
  return [...groups.values()];
}

/** Counts the patches of land on a map, where cells touching at an edge belong to the same patch. */
export function countRegions(grid: readonly (readonly boolean[])[]): number {
  const width = Math.max(0, ...grid.map((row) => row.length));
  const sets = new UnionFind(grid.length * width);
  let land = 0;
  let merges = 0;
  grid.forEach((row, r) => row.forEach((filled, c) => {
    if (!filled) return;
    land++;
    if (row[c - 1] && sets.union(r * width + c, r * width + c - 1)) merges++;
    if (grid[r - 1]?.[c] && sets.union(r * width + c, (r - 1) * width + c)) merges++;
  }));
  return land - merges;
}

/** Decides whether an undirected set of links is a tree: connected and with exactly one link fewer than nodes. */
export const isTree = (size: number, links: readonly (readonly [number, number])[]): boolean => {
  const sets = new UnionFind(size);
  return links.length === size - 1 && links.every(([a, b]) => sets.union(a, b));
};
