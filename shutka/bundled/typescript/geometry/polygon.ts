import { type Vec2 } from './vector';

/** A closed outline given by its corners in order; the last corner joins back to the first without being repeated. */
export type Polygon = readonly Vec2[];

/** An axis-aligned rectangle described by its extreme coordinates. */
export interface Bounds {
  minX: number;
  minY: number;
  maxX: number;
  maxY: number;
}

function* edges(polygon: Polygon): Generator<[Vec2, Vec2]> {
  let previous = polygon[polygon.length - 1];
  for (const corner of polygon) {
    if (previous) {
      yield [previous, corner];
    }
    previous = corner;
  }
}

function turn(o: Vec2, a: Vec2, b: Vec2): number {
  return (a.x - o.x) * (b.y - o.y) - (a.y - o.y) * (b.x - o.x);
}

/**
 * Surface enclosed by a simple polygon, computed with the shoelace formula.
 * The sign tells the orientation: positive for counterclockwise corners, negative for clockwise ones.
 */
export function signedArea(polygon: Polygon): number {
  let twice = 0;
  for (const [a, b] of edges(polygon)) {
    twice += a.x * b.y - b.x * a.y;
  }
  return twice / 2;
}

/** Total length of the boundary, walking all sides including the closing one. */
export function perimeter(polygon: Polygon): number {
  let total = 0;
  for (const [a, b] of edges(polygon)) {
    total += Math.hypot(b.x - a.x, b.y - a.y);
  }
  return total;
}

/**
 * Centre of mass of a polygon cut from uniform sheet. Degenerate outlines without area fall back to the mean of the corners.
 *
 * @param polygon - a simple outline with at least one corner
 */
export function centroid(polygon: Polygon): Vec2 {
  let x = 0;
  let y = 0;
  const area = signedArea(polygon);
  if (area === 0) {
    polygon.forEach((p) => ((x += p.x), (y += p.y)));
    return { x: x / polygon.length, y: y / polygon.length };
  }
  for (const [a, b] of edges(polygon)) {
    const cross = a.x * b.y - b.x * a.y;
    x += (a.x + b.x) * cross;
    y += (a.y + b.y) * cross;
  }
  return { x: x / (6 * area), y: y / (6 * area) };
}

/**
 * Hit test by the even-odd rule: shoots a ray to the right and counts how many sides it crosses, an odd number meaning inside.
 * Concave outlines are fine; points exactly on the border may go either way.
 *
 * @param polygon - the outline to test against
 * @param p - the location in question
 */
export function containsPoint(polygon: Polygon, p: Vec2): boolean {
  let inside = false;
  for (const [a, b] of edges(polygon)) {
    const straddles = a.y > p.y !== b.y > p.y;
    if (straddles && p.x < ((b.x - a.x) * (p.y - a.y)) / (b.y - a.y) + a.x) {
      inside = !inside;
    }
  }
  return inside;
}

/** Smallest upright rectangle that holds every corner, used for cheap rejection before an exact test. An empty outline yields an inverted, infinite box. */
export function boundingBox(polygon: Polygon): Bounds {
  const box: Bounds = { minX: Infinity, minY: Infinity, maxX: -Infinity, maxY: -Infinity };
  for (const { x, y } of polygon) {
    box.minX = Math.min(box.minX, x);
    box.minY = Math.min(box.minY, y);
    box.maxX = Math.max(box.maxX, x);
    box.maxY = Math.max(box.maxY, y);
  }
  return box;
}

/**
 * Checks that the outline never dents inwards, that is, all its corners turn the same way; collinear ones are tolerated.
 * The outline is taken to be simple: a self-crossing star could fool it.
 */
export function isConvex(polygon: Polygon): boolean {
  let sign = 0;
  for (let i = 0; i < polygon.length; i++) {
    const b = polygon[(i + 1) % polygon.length]!;
    const c = polygon[(i + 2) % polygon.length]!;
    const direction = Math.sign(turn(polygon[i]!, b, c));
    if (direction !== 0 && sign !== 0 && direction !== sign) {
      return false;
    }
    sign = direction || sign;
  }
  return sign !== 0;
}

function halfHull(sorted: readonly Vec2[]): Vec2[] {
  const chain: Vec2[] = [];
  for (const p of sorted) {
    while (chain.length >= 2 && turn(chain[chain.length - 2]!, chain[chain.length - 1]!, p) <= 0) {
      chain.pop();
    }
    chain.push(p);
  }
  chain.pop();
  return chain;
}

/**
 * Wraps a rubber band around scattered points (Andrew's monotone chain).
 *
 * @param points - any cloud of points; the input is left unsorted
 * @returns the hull's corners counterclockwise, without points that lie along a side
 */
export function convexHull(points: readonly Vec2[]): Vec2[] {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  const unique = sorted.filter((p, i) => i === 0 || p.x !== sorted[i - 1]!.x || p.y !== sorted[i - 1]!.y);
  if (unique.length < 3) {
    return unique;
  }
  const lower = halfHull(unique);
  const upper = halfHull(unique.reverse());
  return [...lower, ...upper];
}

/**
 * Cuts away the part of a polygon on the right of a directed line and returns what is left, as one step of Sutherland-Hodgman clipping.
 *
 * @param from - a point on the cutting line
 * @param to - a second point, which gives the line its direction; the left side is kept
 */
export function clipByLine(polygon: Polygon, from: Vec2, to: Vec2): Vec2[] {
  const kept: Vec2[] = [];
  for (const [a, b] of edges(polygon)) {
    const sideA = turn(from, to, a);
    const sideB = turn(from, to, b);
    if (sideA * sideB < 0) {
      const t = sideA / (sideA - sideB);
      kept.push({ x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t });
    }
    if (sideB >= 0) {
      kept.push(b);
    }
  }
  return kept;
}

/** Builds an equilateral, equiangular shape such as a hexagon, with its corners on a circle and the first one at the given rotation in radians. */
export function regularPolygon(sides: number, radius: number, center: Vec2 = { x: 0, y: 0 }, rotation = 0): Vec2[] {
  if (!Number.isInteger(sides) || sides < 3) {
    throw new RangeError('a polygon needs at least three sides');
  }
  return Array.from({ length: sides }, (_, i) => {
    const angle = rotation + (2 * Math.PI * i) / sides;
    return { x: center.x + radius * Math.cos(angle), y: center.y + radius * Math.sin(angle) };
  });
}

/** How far a location is from the nearest side of the outline, whether it lies inside or outside. */
export function distanceToBoundary(polygon: Polygon, p: Vec2): number {
  let nearest = Infinity;
  for (const [a, b] of edges(polygon)) {
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const lengthSquared = dx * dx + dy * dy;
    const raw = lengthSquared === 0 ? 0 : ((p.x - a.x) * dx + (p.y - a.y) * dy) / lengthSquared;
    const t = Math.min(1, Math.max(0, raw));
    nearest = Math.min(nearest, Math.hypot(a.x + dx * t - p.x, a.y + dy * t - p.y));
  }
  return nearest;
}

/** Splits a convex polygon into triangles that all share its first corner, ready for drawing as a triangle fan. */
export function fanTriangulate(polygon: Polygon): [Vec2, Vec2, Vec2][] {
  const triangles: [Vec2, Vec2, Vec2][] = [];
  for (let i = 2; i < polygon.length; i++) {
    triangles.push([polygon[0]!, polygon[i - 1]!, polygon[i]!]);
  }
  return triangles;
}

/** Reports whether two bounding rectangles overlap; merely touching along an edge counts. */
export const boundsIntersect = (a: Bounds, b: Bounds): boolean => {
  const horizontally = a.minX <= b.maxX && b.minX <= a.maxX;
  const vertically = a.minY <= b.maxY && b.minY <= a.maxY;
  return horizontally && vertically;
};
