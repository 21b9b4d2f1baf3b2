/** A color in gamma-encoded sRGB with channels from 0 to 255 and opacity from 0 to 1. */
export interface Rgba {
  readonly r: number;
  readonly g: number;
  readonly b: number;
  readonly a: number;
}

/** Hue in degrees from 0 up to 360, saturation and lightness from 0 to 1. */
export interface Hsl {
  readonly h: number;
  readonly s: number;
  readonly l: number;
}

/** Perceptual lightness with two opponent axes: green to red and blue to yellow. */
export interface Lab {
  readonly L: number;
  readonly a: number;
  readonly b: number;
}

function hueOf(r: number, g: number, b: number): number {
  const max = Math.max(r, g, b);
  const delta = max - Math.min(r, g, b);
  if (delta === 0) return 0;
  if (max === r) return (60 * ((g - b) / delta) + 360) % 360;
  if (max === g) return 60 * ((b - r) / delta + 2);
  return 60 * ((r - g) / delta + 4);
}

/**
 * Reads hexadecimal notation as written in style sheets: three, four, six or eight digits, with or without the leading hash.
 *
 * @returns the color, or undefined if the text is not a hex color
 * @example
 * parseHex('#f80'); // { r: 255, g: 136, b: 0, a: 1 }
 */
export function parseHex(text: string): Rgba | undefined {
  let digits = text.trim().replace(/^#/, '');
  if (!/^(?:[\da-f]{3,4}|[\da-f]{6}|[\da-f]{8})$/i.test(digits)) {
    return undefined;
  }
  if (digits.length <= 4) {
    digits = digits.replace(/./g, '$&$&');
  }
  const byte = (at: number): number => parseInt(digits.slice(at, at + 2), 16);
  return { r: byte(0), g: byte(2), b: byte(4), a: digits.length === 8 ? byte(6) / 255 : 1 };
}

/**
 * Formats a color as lowercase `#rrggbb`; an alpha pair is appended only when the color is not fully opaque.
 *
 * @example
 * toHex({ r: 255, g: 136, b: 0, a: 1 }); // '#ff8800'
 */
export function toHex(color: Rgba): string {
  const pair = (value: number): string => {
    const byte = Math.round(Math.min(255, Math.max(0, value)));
    return byte.toString(16).padStart(2, '0');
  };
  const opaque = `#${pair(color.r)}${pair(color.g)}${pair(color.b)}`;
  return color.a >= 1 ? opaque : opaque + pair(color.a * 255);
}

/** Undoes the sRGB transfer curve of one channel: takes a byte from 0 to 255 and gives linear light from 0 to 1. */
export function toLinear(channel: number): number {
  const c = channel / 255;
  if (c <= 0.04045) {
    return c / 12.92;
  }
  return ((c + 0.055) / 1.055) ** 2.4;
}

/** Applies the sRGB gamma to linear light and scales to a byte, clipping what a display cannot show. The result is not rounded. */
export function fromLinear(light: number): number {
  const l = Math.min(1, Math.max(0, light));
  const encoded = l <= 0.0031308 ? 12.92 * l : 1.055 * l ** (1 / 2.4) - 0.055;
  return encoded * 255;
}

/** Expresses an RGB color by hue, saturation and lightness, dropping its opacity. Greys get hue zero. */
export function rgbToHsl({ r, g, b }: Rgba): Hsl {
  const max = Math.max(r, g, b) / 255;
  const min = Math.min(r, g, b) / 255;
  const l = (max + min) / 2;
  const chroma = max - min;
  const s = chroma === 0 ? 0 : chroma / (1 - Math.abs(2 * l - 1));
  return { h: hueOf(r, g, b), s, l };
}

/**
 * Converts hue, saturation and lightness back to channel bytes; hues outside one turn of the wheel wrap around.
 *
 * @param alpha - opacity of the result
 */
export function hslToRgb({ h, s, l }: Hsl, alpha = 1): Rgba {
  const amplitude = s * Math.min(l, 1 - l);
  const channel = (offset: number): number => {
    const k = (((offset + h / 30) % 12) + 12) % 12;
    const value = l - amplitude * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(value * 255);
  };
  return { r: channel(0), g: channel(8), b: channel(4), a: alpha };
}

/**
 * Hue, saturation and value as color pickers show them, where full value means the brightest version of the hue rather than white.
 *
 * @returns hue in degrees, saturation and value from 0 to 1
 */
export function rgbToHsv({ r, g, b }: Rgba): { h: number; s: number; v: number } {
  const max = Math.max(r, g, b);
  const chroma = max - Math.min(r, g, b);
  return {
    h: hueOf(r, g, b),
    s: max === 0 ? 0 : chroma / max,
    v: max / 255,
  };
}

/**
 * Splits a color into cyan, magenta, yellow and black ink shares from 0 to 1, by the naive formula without any printer profile.
 * As much as possible is taken over by the black plate.
 */
export function rgbToCmyk({ r, g, b }: Rgba): { c: number; m: number; y: number; k: number } {
  const brightest = Math.max(r, g, b) / 255;
  if (brightest === 0) {
    return { c: 0, m: 0, y: 0, k: 1 };
  }
  const ink = (value: number): number => 1 - value / 255 / brightest;
  return { c: ink(r), m: ink(g), y: ink(b), k: 1 - brightest };
}

/** CIE XYZ tristimulus values under daylight D65, with white at Y = 1. */
export function rgbToXyz(color: Rgba): [x: number, y: number, z: number] {
  const r = toLinear(color.r);
  const g = toLinear(color.g);
  const b = toLinear(color.b);
  return [
    0.4124564 * r + 0.3575761 * g + 0.1804375 * b,
    0.2126729 * r + 0.7151522 * g + 0.072175 * b,
    0.0193339 * r + 0.119192 * g + 0.9503041 * b,
  ];
}

/** CIELAB coordinates of a color, in which equal distances look about equally different to the eye. Lightness runs from 0 to 100. */
export function rgbToLab(color: Rgba): Lab {
  const [x, y, z] = rgbToXyz(color);
  const f = (t: number): number => (t > 216 / 24389 ? Math.cbrt(t) : ((24389 / 27) * t + 16) / 116);
  const fx = f(x / 0.95047);
  const fy = f(y);
  const fz = f(z / 1.08883);
  return { L: 116 * fy - 16, a: 500 * (fx - fy), b: 200 * (fy - fz) };
}

/** Björn Ottosson's Oklab, a newer perceptual space that keeps hues steadier than CIELAB does and suits gradients well. Lightness runs from 0 to 1. */
export function rgbToOklab(color: Rgba): Lab {
  const [r, g, b] = [toLinear(color.r), toLinear(color.g), toLinear(color.b)];
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return {
    L: 0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    a: 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    b: 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  };
}

/** Turns Oklab coordinates into a displayable color; anything outside the sRGB gamut is clipped channel by channel. */
export function oklabToRgb({ L, a, b }: Lab, alpha = 1): Rgba {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return {
    r: Math.round(fromLinear(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s)),
    g: Math.round(fromLinear(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s)),
    b: Math.round(fromLinear(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s)),
    a: alpha,
  };
}
