import { nodesOf, transpose, type Graph } from './traversal';

/** Raised when things that depend on each other in a circle are to be put in order; carries the circle. */
export class CycleError<N> extends Error {
  constructor(readonly cycle: readonly N[]) {
    super(`dependency cycle: ${cycle.map(String).join(' -> ')}`);
    this.name = 'CycleError';
  }
}

function incomingCounts<N>(graph: Graph<N>): Map<N, number> {
  const counts = new Map<N, number>();
  for (const node of nodesOf(graph)) counts.set(node, 0);
  for (const targets of graph.values()) for (const to of targets) counts.set(to, counts.get(to)! + 1);
  return counts;
}

/**
 * Arranges the nodes so that every edge points forward, by repeatedly taking nodes that nothing unplaced leads to.
 *
 * @throws CycleError when no such order exists
 */
export function topologicalSort<N>(graph: Graph<N>): N[] {
  const counts = incomingCounts(graph);
  const order = [...counts.keys()].filter((node) => counts.get(node) === 0);
  for (const node of order) {
    for (const to of graph.get(node) ?? []) {
      const left = counts.get(to)! - 1;
      counts.set(to, left);
      if (left === 0) order.push(to);
    }
  }
  if (order.length < counts.size) throw new CycleError(findCycle(graph) ?? []);
  return order;
}

/** Looks for one directed cycle and returns its nodes with the first repeated at the end, or `undefined` when the graph is acyclic. */
export function findCycle<N>(graph: Graph<N>): N[] | undefined {
  const finished = new Set<N>();
  const path: N[] = [];
  const visit = (node: N): N[] | undefined => {
    if (finished.has(node)) return undefined;
    const index = path.indexOf(node);
    if (index !== -1) return [...path.slice(index), node];
    path.push(node);
    for (const next of graph.get(node) ?? []) {
      const cycle = visit(next);
      if (cycle) return cycle;
    }
    path.pop();
    finished.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const cycle = visit(node);
    if (cycle) return cycle;
  }
  return undefined;
}

/**
 * Divides jobs into stages that can each be run in parallel: a job is placed in the first stage after all its predecessors.
 *
 * @example
 * parallelStages(fromEdges([['wash', 'cook'], ['chop', 'cook']])); // two stages, the second one is ['cook']
 */
export function parallelStages<N>(graph: Graph<N>): N[][] {
  const stageOf = new Map<N, number>();
  const stages: N[][] = [];
  const before = transpose(graph);
  for (const node of topologicalSort(graph)) {
    const stage = Math.max(-1, ...before.get(node)!.map((earlier) => stageOf.get(earlier)!)) + 1;
    stageOf.set(node, stage);
    (stages[stage] ??= []).push(node);
  }
  return stages;
}

/** Lists what must be built for one goal, in a workable order with the goal last; `requirements` names the direct prerequisites of each item. */
export function resolveDependencies<N>(goal: N, requirements: (item: N) => Iterable<N>): N[] {
  const done = new Set<N>();
  const open: N[] = [];
  const resolve = (item: N): void => {
    if (done.has(item)) return;
    if (open.includes(item)) throw new CycleError([...open.slice(open.indexOf(item)), item]);
    open.push(item);
    for (const required of requirements(item)) resolve(required);
    open.pop();
    done.add(item);
  };
  resolve(goal);
  return [...done];
}

/** Checks a proposed sequence against the edges and reports the first pair that stands in the wrong order, if any. */
export function firstViolation<N>(order: readonly N[], graph: Graph<N>): [N, N] | undefined {
  const position = new Map(order.map((node, i) => [node, i]));
  for (const [from, targets] of graph) {
    for (const to of targets) {
      if ((position.get(from) ?? -1) >= (position.get(to) ?? Infinity)) return [from, to];
    }
  }
  return undefined;
}

/** The start and finish times of a task, as early as its predecessors allow, and the slack by which it may slip. */
export interface ScheduledTask {
  start: number;
  finish: number;
  slack: number;
}

/**
 * Plans a project by the critical path method: earliest times for every task plus the slack it has before the whole project is delayed.
 *
 * @param durations - how long each task takes; edges in the graph mean "must precede"
 */
export function criticalPathSchedule<N>(graph: Graph<N>, durations: (task: N) => number): Map<N, ScheduledTask> {
  const order = topologicalSort(graph);
  const before = transpose(graph);
  const plan = new Map<N, ScheduledTask>();
  for (const task of order) {
    const start = Math.max(0, ...before.get(task)!.map((earlier) => plan.get(earlier)!.finish));
    plan.set(task, { start, finish: start + durations(task), slack: 0 });
  }
  const end = Math.max(0, ...[...plan.values()].map((entry) => entry.finish));
  for (const task of order.reverse()) {
    const later = (graph.get(task) ?? []).map((next) => plan.get(next)!);
    const latest = Math.min(end, ...later.map((entry) => entry.start + entry.slack));
    plan.get(task)!.slack = latest - plan.get(task)!.finish;
  }
  return plan;
}

/** Drops edges that say nothing new because a longer chain already implies them, leaving the sparsest acyclic graph with the same reachability. */
export function transitiveReduction<N>(graph: Graph<N>): Map<N, N[]> {
  const below = new Map<N, Set<N>>();
  const reduced = new Map<N, N[]>();
  for (const node of topologicalSort(graph).reverse()) {
    const targets = [...new Set(graph.get(node) ?? [])];
    const implied = new Set(targets.flatMap((to) => [...below.get(to)!]));
    reduced.set(node, targets.filter((to) => !implied.has(to)));
    below.set(node, new Set([...targets, ...implied]));
  }
  return reduced;
}

/** Counts how many different routes lead from one node to another in an acyclic graph, without listing them. */
export function countRoutes<N>(graph: Graph<N>, from: N, to: N): number {
  const routes = new Map<N, number>([[from, 1]]);
  for (const node of topologicalSort(graph)) {
    const ways = routes.get(node) ?? 0;
    for (const next of graph.get(node) ?? []) routes.set(next, (routes.get(next) ?? 0) + ways);
  }
  return routes.get(to) ?? 0;
}

/**
 * Finds the longest chain of nodes in an acyclic graph, one whose number of edges cannot be beaten.
 *
 * @returns the nodes of the chain from first to last; empty for an empty graph
 */
export function longestChain<N>(graph: Graph<N>): N[] {
  let best: N[] = [];
  const chainFrom = new Map<N, N[]>();
  for (const node of topologicalSort(graph).reverse()) {
    let tail: N[] = [];
    for (const next of graph.get(node) ?? []) {
      const chain = chainFrom.get(next)!;
      if (chain.length > tail.length) tail = chain;
    }
    chainFrom.set(node, [node, ...tail]);
    if (tail.length + 1 > best.length) best = chainFrom.get(node)!;
  }
  return best;
}

/** Everything that has to be redone after the given nodes changed: they themselves and all that directly or indirectly depends on them. */
export function affectedBy<N>(changed: Iterable<N>, dependents: Graph<N>): Set<N> {
  const affected = new Set(changed);
  for (const node of affected) {
    for (const dependent of dependents.get(node) ?? []) affected.add(dependent);
  }
  return affected;
}

/**
 * Colours nodes greedily with small integers so that neighbours differ, as for timetables where conflicting exams need separate slots.
 * The number of colours is at most one more than the largest degree, though not always minimal.
 *
 * @param conflicts - symmetric: both ends list each other
 */
export function greedyColouring<N>(conflicts: Graph<N>): Map<N, number> {
  const colours = new Map<N, number>();
  const busiestFirst = [...conflicts].sort((a, b) => b[1].length - a[1].length);
  for (const [node, others] of busiestFirst) {
    const taken = new Set(others.map((other) => colours.get(other)));
    let colour = 0;
    while (taken.has(colour)) colour++;
    colours.set(node, colour);
  }
  return colours;
}

/**
 * Scores nodes by how much importance flows into them along links, the PageRank idea, with a fixed number of power iterations.
 *
 * @param damping - the chance that a random surfer follows a link instead of jumping anywhere
 */
export function pageRank<N>(graph: Graph<N>, damping = 0.85, iterations = 50): Map<N, number> {
  const nodes = [...nodesOf(graph)];
  let rank = new Map(nodes.map((node) => [node, 1 / nodes.length]));
  for (let i = 0; i < iterations; i++) {
    const dangling = nodes.filter((node) => !graph.get(node)?.length).reduce((sum, node) => sum + rank.get(node)!, 0);
    const next = new Map(nodes.map((node) => [node, (1 - damping + damping * dangling) / nodes.length]));
    for (const [from, targets] of graph) {
      for (const to of targets) next.set(to, next.get(to)! + (damping * rank.get(from)!) / targets.length);
    }
    rank = next;
  }
  return rank;
}
