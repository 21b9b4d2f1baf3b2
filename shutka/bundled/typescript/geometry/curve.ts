import { type Vec2 } from './vector';

/** Four control points of a cubic Bézier segment: start, two handles, end. */
export type Cubic = readonly [Vec2, Vec2, Vec2, Vec2];

function mix(a: Vec2, b: Vec2, t: number): Vec2 {
  return { x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t };
}

/**
 * Point on a Bézier curve of any degree, found by de Casteljau's repeated interpolation between neighbouring control points.
 *
 * @param controls - at least one control point
 * @param t - curve parameter from 0 at the start to 1 at the end
 */
export function bezierPoint(controls: readonly Vec2[], t: number): Vec2 {
  if (controls.length === 0) {
    throw new RangeError('a curve needs at least one control point');
  }
  let row = [...controls];
  while (row.length > 1) {
    row = row.slice(1).map((p, i) => mix(row[i]!, p, t));
  }
  return row[0]!;
}

/** First derivative of a cubic Bézier, whose direction is the tangent at parameter `t` and whose length is the parametric speed. */
export function cubicTangent([a, b, c, d]: Cubic, t: number): Vec2 {
  const s = 1 - t;
  const [u, v, w] = [3 * s * s, 6 * s * t, 3 * t * t];
  return {
    x: u * (b.x - a.x) + v * (c.x - b.x) + w * (d.x - c.x),
    y: u * (b.y - a.y) + v * (c.y - b.y) + w * (d.y - c.y),
  };
}

/**
 * Divides a cubic segment at a parameter into two that together trace the very same path.
 *
 * @param t - where to cut, between 0 and 1
 * @returns the part before the cut and the part after it
 */
export function splitCubic([a, b, c, d]: Cubic, t: number): [Cubic, Cubic] {
  const ab = mix(a, b, t);
  const bc = mix(b, c, t);
  const cd = mix(c, d, t);
  const abc = mix(ab, bc, t);
  const bcd = mix(bc, cd, t);
  const middle = mix(abc, bcd, t);
  return [
    [a, ab, abc, middle],
    [middle, bcd, cd, d],
  ];
}

/**
 * Approximates a cubic segment by straight pieces, subdividing only where the handles stray from the chord by more than the tolerance.
 *
 * @param tolerance - greatest deviation allowed, in the units of the coordinates
 * @returns the vertices of the polyline, both ends included
 */
export function flattenCubic(curve: Cubic, tolerance = 0.1, depth = 16): Vec2[] {
  const [a, b, c, d] = curve;
  const strayB = Math.hypot(b.x - (2 * a.x + d.x) / 3, b.y - (2 * a.y + d.y) / 3);
  const strayC = Math.hypot(c.x - (a.x + 2 * d.x) / 3, c.y - (a.y + 2 * d.y) / 3);
  if (depth === 0 || Math.max(strayB, strayC) <= tolerance) {
    return [a, d];
  }
  const [left, right] = splitCubic(curve, 0.5);
  return [...flattenCubic(left, tolerance, depth - 1), ...flattenCubic(right, tolerance, depth - 1).slice(1)];
}

/** Raises a quadratic Bézier to the equivalent cubic, for renderers that know only the latter. */
export function quadraticToCubic(start: Vec2, control: Vec2, end: Vec2): Cubic {
  const first = mix(start, control, 2 / 3);
  const second = mix(end, control, 2 / 3);
  return [start, first, second, end];
}

/** Length of an open polyline, the sum of the distances between consecutive vertices. */
export function polylineLength(path: readonly Vec2[]): number {
  let total = 0;
  for (let i = 1; i < path.length; i++) {
    total += Math.hypot(path[i]!.x - path[i - 1]!.x, path[i]!.y - path[i - 1]!.y);
  }
  return total;
}

/**
 * Walks a given distance along a polyline and tells where one ends up, e.g. to place a label or a moving vehicle on a route.
 * Distances before the start or beyond the end stop at the respective vertex; an empty path gives undefined.
 */
export function pointAtDistance(path: readonly Vec2[], distance: number): Vec2 | undefined {
  let left = distance;
  for (let i = 1; i < path.length; i++) {
    const a = path[i - 1]!;
    const b = path[i]!;
    const step = Math.hypot(b.x - a.x, b.y - a.y);
    if (left <= step) {
      return step === 0 ? a : mix(a, b, Math.max(0, left / step));
    }
    left -= step;
  }
  return path[path.length - 1];
}

/**
 * Thins a polyline with the Ramer-Douglas-Peucker algorithm: vertices nearer than `tolerance` to the simplified line are dropped,
 * while the end points always stay.
 */
export function simplify(path: readonly Vec2[], tolerance: number): Vec2[] {
  const first = path[0];
  const last = path[path.length - 1];
  if (!first || !last || path.length < 3) {
    return [...path];
  }
  const gaps = path.map((p) => distanceToSegment(p, first, last));
  const worst = gaps.reduce((best, gap, i) => (gap > gaps[best]! ? i : best), 0);
  if (worst === 0 || gaps[worst]! <= tolerance) {
    return [first, last];
  }
  return [...simplify(path.slice(0, worst + 1), tolerance), ...simplify(path.slice(worst), tolerance).slice(1)];
}

/** Shortest distance from a point to a finite line segment, measured to an end point where the perpendicular foot falls outside. */
export function distanceToSegment(p: Vec2, a: Vec2, b: Vec2): number {
  const lengthSquared = (b.x - a.x) ** 2 + (b.y - a.y) ** 2;
  if (lengthSquared === 0) {
    return Math.hypot(p.x - a.x, p.y - a.y);
  }
  const along = ((p.x - a.x) * (b.x - a.x) + (p.y - a.y) * (b.y - a.y)) / lengthSquared;
  const foot = mix(a, b, Math.min(1, Math.max(0, along)));
  return Math.hypot(p.x - foot.x, p.y - foot.y);
}

/**
 * Rounds off the corners of a polyline by one pass of Chaikin's corner cutting; repeat it for a smoother, quadratic B-spline look.
 *
 * @returns a new path with nearly twice as many vertices
 */
export function chaikinSmooth(path: readonly Vec2[]): Vec2[] {
  if (path.length < 3) {
    return [...path];
  }
  const smooth: Vec2[] = [path[0]!];
  for (let i = 1; i < path.length; i++) {
    smooth.push(mix(path[i - 1]!, path[i]!, 0.25), mix(path[i - 1]!, path[i]!, 0.75));
  }
  smooth.push(path[path.length - 1]!);
  return smooth;
}

/** Catmull-Rom spline between `p1` and `p2`: passes through both, with slopes taken from the outer neighbours `p0` and `p3`. */
export function catmullRom(p0: Vec2, p1: Vec2, p2: Vec2, p3: Vec2, t: number): Vec2 {
  const blend = (a: number, b: number, c: number, d: number): number =>
    0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t * t * t);
  return { x: blend(p0.x, p1.x, p2.x, p3.x), y: blend(p0.y, p1.y, p2.y, p3.y) };
}

/**
 * Where two finite segments cross, if they do. Parallel and collinear segments are reported as not crossing.
 *
 * @returns the common point, or undefined
 */
export function segmentIntersection(a: Vec2, b: Vec2, c: Vec2, d: Vec2): Vec2 | undefined {
  const [rx, ry] = [b.x - a.x, b.y - a.y];
  const [sx, sy] = [d.x - c.x, d.y - c.y];
  const denominator = rx * sy - ry * sx;
  if (denominator === 0) {
    return undefined;
  }
  const t = ((c.x - a.x) * sy - (c.y - a.y) * sx) / denominator;
  const u = ((c.x - a.x) * ry - (c.y - a.y) * rx) / denominator;
  return t >= 0 && t <= 1 && u >= 0 && u <= 1 ? mix(a, b, t) : undefined;
}
