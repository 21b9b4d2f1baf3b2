import { type Vec2 } from './vector';

/**
 * Affine map of the plane, laid out as in SVG and canvas: `x' = a·x + c·y + e` and `y' = b·x + d·y + f`.
 */
export interface Affine {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  readonly e: number;
  readonly f: number;
}

/** The transform that leaves everything where it is. */
export const identity: Affine = { a: 1, b: 0, c: 0, d: 1, e: 0, f: 0 };

/**
 * Composes transforms so that the last argument acts on a point first, like a product of matrices.
 *
 * @example
 * compose(rotation(Math.PI / 2), scaling(2)); // doubles, then turns
 */
export function compose(...transforms: Affine[]): Affine {
  return transforms.reduce((m, n) => ({
    a: m.a * n.a + m.c * n.b,
    b: m.b * n.a + m.d * n.b,
    c: m.a * n.c + m.c * n.d,
    d: m.b * n.c + m.d * n.d,
    e: m.a * n.e + m.c * n.f + m.e,
    f: m.b * n.e + m.d * n.f + m.f,
  }), identity);
}

/** Maps one point through an affine transform, translation included. */
export function applyTo(m: Affine, p: Vec2): Vec2 {
  return {
    x: m.a * p.x + m.c * p.y + m.e,
    y: m.b * p.x + m.d * p.y + m.f,
  };
}

/**
 * The transform that undoes another one, for instance to convert a mouse position on the screen back to drawing coordinates.
 * Throws when the map squashes the plane onto a line and so cannot be undone.
 */
export function invert(m: Affine): Affine {
  const det = m.a * m.d - m.b * m.c;
  if (det === 0) {
    throw new RangeError('singular transform has no inverse');
  }
  return {
    a: m.d / det,
    b: -m.b / det,
    c: -m.c / det,
    d: m.a / det,
    e: (m.c * m.f - m.d * m.e) / det,
    f: (m.b * m.e - m.a * m.f) / det,
  };
}

/**
 * Rotation by an angle in radians about a pivot, which stays fixed; the pivot is the origin unless another is named.
 *
 * @param angle - counterclockwise when the y axis points up
 * @param pivot - the centre of the rotation
 */
export function rotation(angle: number, pivot: Vec2 = { x: 0, y: 0 }): Affine {
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  return {
    a: cos,
    b: sin,
    c: -sin,
    d: cos,
    e: pivot.x - cos * pivot.x + sin * pivot.y,
    f: pivot.y - sin * pivot.x - cos * pivot.y,
  };
}

/** Enlarges or shrinks about a fixed anchor, as zooming under the cursor does. Different factors per axis stretch the picture. */
export function scaling(sx: number, sy: number = sx, anchor: Vec2 = { x: 0, y: 0 }): Affine {
  const e = anchor.x * (1 - sx);
  const f = anchor.y * (1 - sy);
  return { a: sx, b: 0, c: 0, d: sy, e, f };
}

/** Slants the plane horizontally and vertically by the given angles in radians, turning upright letters into oblique ones. */
export const shear = (alongX: number, alongY = 0): Affine => ({
  ...identity,
  b: Math.tan(alongY),
  c: Math.tan(alongX),
});

/**
 * Mirror image in the straight line through two distinct points.
 *
 * @param p - one point of the mirror line
 * @param q - another one
 */
export function reflectionAcross(p: Vec2, q: Vec2): Affine {
  const angle = 2 * Math.atan2(q.y - p.y, q.x - p.x);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  return {
    a: cos,
    b: sin,
    c: sin,
    d: -cos,
    e: p.x - cos * p.x - sin * p.y,
    f: p.y - sin * p.x + cos * p.y,
  };
}

/**
 * Recovers translation, rotation, scale and skew from a matrix, so that an editor can show them as separate fields.
 * A mirrored matrix comes out with a negative vertical scale.
 */
export function decompose(m: Affine): { translate: Vec2; angle: number; scale: Vec2; skew: number } {
  const sx = Math.hypot(m.a, m.b);
  const det = m.a * m.d - m.b * m.c;
  if (det === 0) {
    throw new RangeError('cannot decompose a singular transform');
  }
  return {
    translate: { x: m.e, y: m.f },
    angle: Math.atan2(m.b, m.a),
    scale: { x: sx, y: det / sx },
    skew: Math.atan((m.a * m.c + m.b * m.d) / det),
  };
}

/**
 * Fits content of one size into a viewport of another, centred and with its aspect ratio kept (letterboxing).
 *
 * @param content - natural width and height, stored as x and y
 * @param viewport - available width and height
 * @example
 * fitInside({ x: 200, y: 100 }, { x: 100, y: 100 }); // scales by 0.5, moves down by 25
 */
export function fitInside(content: Vec2, viewport: Vec2): Affine {
  const scale = Math.min(viewport.x / content.x, viewport.y / content.y);
  return {
    ...scaling(scale),
    e: (viewport.x - content.x * scale) / 2,
    f: (viewport.y - content.y * scale) / 2,
  };
}

/** Whether a transform preserves distances, i.e. only moves, turns or flips shapes without resizing or slanting them. */
export function isRigid(m: Affine, epsilon = 1e-9): boolean {
  const unitColumns = Math.abs(Math.hypot(m.a, m.b) - 1) <= epsilon && Math.abs(Math.hypot(m.c, m.d) - 1) <= epsilon;
  const orthogonal = Math.abs(m.a * m.c + m.b * m.d) <= epsilon;
  return unitColumns && orthogonal;
}

/** Writes a transform as the `matrix(...)` notation of SVG and CSS, with coefficients rounded to keep the markup short. */
export function toSvgMatrix(m: Affine, digits = 6): string {
  const numbers = [m.a, m.b, m.c, m.d, m.e, m.f];
  const text = numbers.map((n) => String(Number(n.toFixed(digits)) + 0));
  return `matrix(${text.join(', ')})`;
}

/** A stack of nested coordinate systems, as used while drawing a scene graph. */
export class TransformStack {
  private readonly saved: Affine[] = [];
  private current: Affine = identity;

  /** Enters a child coordinate system: remembers the present one and multiplies the child's local transform into it. */
  push(local: Affine): Affine {
    this.saved.push(this.current);
    this.current = compose(this.current, local);
    return this.current;
  }

  /** Leaves the innermost coordinate system and restores the enclosing one. Unbalanced calls are an error. */
  pop(): Affine {
    const outer = this.saved.pop();
    if (!outer) {
      throw new Error('transform stack is empty');
    }
    this.current = outer;
    return outer;
  }
}
