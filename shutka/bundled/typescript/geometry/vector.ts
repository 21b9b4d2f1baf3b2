/** A point or a displacement in the plane, depending on how it is used. */
export interface Vec2 {
  readonly x: number;
  readonly y: number;
}

/** Componentwise sum of any number of displacements; with none at all the zero vector comes back. */
export function sum(...vectors: Vec2[]): Vec2 {
  let x = 0;
  let y = 0;
  for (const v of vectors) {
    x += v.x;
    y += v.y;
  }
  return { x, y };
}

/**
 * Scales a vector to unit length while keeping its direction.
 * The zero vector has no direction and is returned as it is, so that no NaN leaks into later steps.
 */
export function normalize(v: Vec2): Vec2 {
  const length = Math.hypot(v.x, v.y);
  if (length === 0) {
    return v;
  }
  return { x: v.x / length, y: v.y / length };
}

/**
 * Shortens a vector that exceeds a maximum magnitude, as one does to enforce a speed limit. Shorter vectors pass untouched.
 *
 * @param maximum - the greatest magnitude allowed, not negative
 */
export function clampLength(v: Vec2, maximum: number): Vec2 {
  const length = Math.hypot(v.x, v.y);
  if (length <= maximum) {
    return v;
  }
  const factor = maximum / length;
  return { x: v.x * factor, y: v.y * factor };
}

/**
 * Signed angle that turns the first vector onto the second, in radians between -π and π.
 * A positive result means a counterclockwise turn when the y axis points up.
 *
 * @param from - the starting direction
 * @param to - the direction to reach
 */
export function angleBetween(from: Vec2, to: Vec2): number {
  const cross = from.x * to.y - from.y * to.x;
  const dot = from.x * to.x + from.y * to.y;
  return Math.atan2(cross, dot);
}

/** The shadow one vector casts on the line along another: the component of `v` parallel to `axis`. Throws if the axis is the zero vector. */
export function projectOnto(v: Vec2, axis: Vec2): Vec2 {
  const lengthSquared = axis.x * axis.x + axis.y * axis.y;
  if (lengthSquared === 0) {
    throw new RangeError('cannot project onto the zero vector');
  }
  const t = (v.x * axis.x + v.y * axis.y) / lengthSquared;
  return { x: axis.x * t, y: axis.y * t };
}

/**
 * Bounces an incoming velocity off a surface, like a ball off a wall or light off a mirror.
 *
 * @param incoming - the velocity before the impact
 * @param normal - the unit normal of the surface; either side will do
 * @returns the velocity after a lossless bounce
 */
export function reflect(incoming: Vec2, normal: Vec2): Vec2 {
  const twice = 2 * (incoming.x * normal.x + incoming.y * normal.y);
  return {
    x: incoming.x - twice * normal.x,
    y: incoming.y - twice * normal.y,
  };
}

/** Steps a position toward a goal by at most `maxStep`, landing exactly on the goal instead of overshooting it. */
export function moveTowards(position: Vec2, goal: Vec2, maxStep: number): Vec2 {
  const dx = goal.x - position.x;
  const dy = goal.y - position.y;
  const remaining = Math.hypot(dx, dy);
  if (remaining <= maxStep || remaining === 0) {
    return goal;
  }
  return { x: position.x + (dx / remaining) * maxStep, y: position.y + (dy / remaining) * maxStep };
}

/** Converts polar coordinates, a radius and an angle in radians, to Cartesian ones. */
export const fromPolar = (radius: number, angle: number): Vec2 => {
  const x = radius * Math.cos(angle);
  const y = radius * Math.sin(angle);
  return { x, y };
};

/**
 * Turns a vector a quarter circle to the left without any trigonometry; handy for getting the normal of an edge.
 *
 * @example
 * perpendicular({ x: 3, y: 1 }); // { x: -1, y: 3 }
 */
export const perpendicular = (v: Vec2): Vec2 => {
  const x = v.y === 0 ? 0 : -v.y;
  const y = v.x;
  return { x, y };
};

/** Whether two points coincide up to a small tolerance in each coordinate, since exact comparison of computed floats rarely succeeds. */
export function nearlyEqual(a: Vec2, b: Vec2, epsilon = 1e-9): boolean {
  const sameX = Math.abs(a.x - b.x) <= epsilon;
  const sameY = Math.abs(a.y - b.y) <= epsilon;
  return sameX && sameY;
}

/**
 * Spherical interpolation of directions: swings from one unit vector to the other at constant angular speed along the shorter arc.
 *
 * @param t - progress, 0 giving `a` and 1 giving `b`
 */
export function slerp(a: Vec2, b: Vec2, t: number): Vec2 {
  const start = Math.atan2(a.y, a.x);
  const turn = angleBetween(a, b);
  return fromPolar(1, start + turn * t);
}

/** Finds which of the given points lies closest to a query location, or undefined when the list is empty. Ties go to the earlier point. */
export function nearestPoint<P extends Vec2>(query: Vec2, points: Iterable<P>): P | undefined {
  let best: P | undefined;
  let bestDistance = Infinity;
  for (const p of points) {
    const distance = (p.x - query.x) ** 2 + (p.y - query.y) ** 2;
    if (distance < bestDistance) {
      best = p;
      bestDistance = distance;
    }
  }
  return best;
}

/** Snaps a position to the closest crossing of a square grid with the given cell size. */
export function snapToGrid(v: Vec2, cell: number): Vec2 {
  if (!(cell > 0)) {
    throw new RangeError('cell size must be positive');
  }
  return { x: Math.round(v.x / cell) * cell, y: Math.round(v.y / cell) * cell };
}
