import { fromLinear, oklabToRgb, rgbToOklab, toLinear, type Rgba } from './spaces';

/** How one channel of the source combines with the backdrop, both from 0 to 1. */
export type BlendMode = (backdrop: number, source: number) => number;

function perChannel(backdrop: Rgba, source: Rgba, f: BlendMode): Rgba {
  const channel = (b: number, s: number): number => Math.round(255 * Math.min(1, Math.max(0, f(b / 255, s / 255))));
  return {
    r: channel(backdrop.r, source.r),
    g: channel(backdrop.g, source.g),
    b: channel(backdrop.b, source.b),
    a: source.a,
  };
}

/** Paints a translucent color on top of another, the classic Porter-Duff "source over". Two fully clear layers stay fully clear. */
export function over(source: Rgba, backdrop: Rgba): Rgba {
  const below = backdrop.a * (1 - source.a);
  const a = source.a + below;
  if (a === 0) {
    return { r: 0, g: 0, b: 0, a: 0 };
  }
  const channel = (s: number, b: number): number => Math.round((s * source.a + b * below) / a);
  return { r: channel(source.r, backdrop.r), g: channel(source.g, backdrop.g), b: channel(source.b, backdrop.b), a };
}

/** Multiply mode: darkens like stacked slides or ink on ink. White has no effect and black always wins. */
export const multiply = (backdrop: Rgba, source: Rgba): Rgba => {
  return perChannel(backdrop, source, (b, s) => {
    return b * s;
  });
};

/** Screen mode: lightens as two projectors aimed at one wall would, the mirror image of multiplying. */
export const screen = (backdrop: Rgba, source: Rgba): Rgba => {
  const inverse = (channel: number): number => 1 - channel;
  const combine: BlendMode = (b, s) => inverse(inverse(b) * inverse(s));
  return perChannel(backdrop, source, combine);
};

/** Overlay mode: deepens the dark parts of the backdrop and brightens its light parts, raising contrast while keeping highlights and shadows. */
export function overlay(backdrop: Rgba, source: Rgba): Rgba {
  return perChannel(backdrop, source, (b, s) => {
    return b <= 0.5 ? 2 * b * s : 1 - 2 * (1 - b) * (1 - s);
  });
}

/** Color dodge: brightens the backdrop to reflect the source, as underexposing in a darkroom does. A white source blows out everything but pure black. */
export function colorDodge(backdrop: Rgba, source: Rgba): Rgba {
  return perChannel(backdrop, source, (b, s) => {
    if (b === 0) return 0;
    if (s === 1) return 1;
    return Math.min(1, b / (1 - s));
  });
}

/** Absolute difference of the channels; identical pictures cancel to black, which makes misalignments visible. */
export function difference(backdrop: Rgba, source: Rgba): Rgba {
  return perChannel(backdrop, source, (b, s) => {
    return Math.abs(b - s);
  });
}

/**
 * Mixes two colors in linear light, the way real lamps add up, so that the midpoint of red and green is not muddy.
 *
 * @param t - share of the second color, from 0 to 1
 */
export function mixLinear(first: Rgba, second: Rgba, t = 0.5): Rgba {
  const channel = (p: number, q: number): number => Math.round(fromLinear(toLinear(p) * (1 - t) + toLinear(q) * t));
  return {
    r: channel(first.r, second.r),
    g: channel(first.g, second.g),
    b: channel(first.b, second.b),
    a: first.a * (1 - t) + second.a * t,
  };
}

/**
 * Interpolates through Oklab, giving transitions whose steps look even and whose lightness does not dip halfway.
 *
 * @param t - how far to go from the first color to the second
 */
export function mixPerceptual(first: Rgba, second: Rgba, t = 0.5): Rgba {
  const p = rgbToOklab(first);
  const q = rgbToOklab(second);
  const lerp = (from: number, to: number): number => from + (to - from) * t;
  return oklabToRgb(
    { L: lerp(p.L, q.L), a: lerp(p.a, q.a), b: lerp(p.b, q.b) },
    lerp(first.a, second.a),
  );
}

/**
 * Interpolates between two hue angles in degrees along the shorter way round the wheel.
 *
 * @example
 * mixHue(350, 10, 0.5); // 0
 */
export function mixHue(from: number, to: number, t: number): number {
  const gap = (((to - from) % 360) + 540) % 360 - 180;
  const hue = (from + gap * t) % 360;
  return hue < 0 ? hue + 360 : hue;
}

/** Multiplies the channels by their alpha, the storage format compositors prefer since it filters without dark fringes. */
export function premultiply({ r, g, b, a }: Rgba): Rgba {
  return {
    r: r * a,
    g: g * a,
    b: b * a,
    a,
  };
}

/** Recovers straight channels from premultiplied ones; fully transparent pixels come back as clear black because their color is lost. */
export function unpremultiply({ r, g, b, a }: Rgba): Rgba {
  if (a === 0) {
    return { r: 0, g: 0, b: 0, a: 0 };
  }
  return { r: r / a, g: g / a, b: b / a, a };
}

/**
 * Merges a whole stack of layers, bottom first, into the single color a viewer would see.
 *
 * @param layers - from the lowest to the topmost
 * @param background - what shows through where all layers are translucent; clear by default
 */
export function flattenLayers(layers: readonly Rgba[], background: Rgba = { r: 0, g: 0, b: 0, a: 0 }): Rgba {
  let result = background;
  for (const layer of layers) {
    result = over(layer, result);
  }
  return result;
}
