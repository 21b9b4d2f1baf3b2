import { mixPerceptual } from './blend';
import { deltaE } from './contrast';
import { hslToRgb, rgbToHsl, rgbToLab, type Hsl, type Rgba } from './spaces';

function turned(color: Rgba, degrees: number): Rgba {
  const { h, s, l } = rgbToHsl(color);
  return hslToRgb({ h: h + degrees, s, l }, color.a);
}

/** The opposite of a color on the hue wheel, the strongest accent it can have. */
export function complement(color: Rgba): Rgba {
  const { h, s, l } = rgbToHsl(color);
  const opposite = (h + 180) % 360;
  return hslToRgb({ h: opposite, s, l }, color.a);
}

/**
 * Three colors a third of the wheel apart, beginning with the given one: lively, yet balanced.
 *
 * @returns the base color and its two companions
 */
export function triad(color: Rgba): [Rgba, Rgba, Rgba] {
  const second = turned(color, 120);
  const third = turned(color, 240);
  return [color, second, third];
}

/**
 * Neighbouring hues that fan out on both sides of a base color, for calm and harmonious schemes.
 *
 * @param count - how many colors in all; an odd number puts the base in the middle
 * @param spread - degrees between one hue and the next
 */
export function analogous(color: Rgba, count = 3, spread = 30): Rgba[] {
  const middle = (count - 1) / 2;
  return Array.from({ length: count }, (_, i) => {
    return turned(color, (i - middle) * spread);
  });
}

/** A color paired with the two neighbours of its complement: strong contrast with less tension than the plain opposite gives. */
export function splitComplement(color: Rgba, angle = 30): Rgba[] {
  const left = turned(color, 180 - angle);
  const right = turned(color, 180 + angle);
  return [color, left, right];
}

/** Ramp from pale tint to deep shade around one brand color, keeping its hue and saturation, as design systems number from 50 to 900. */
export function tintsAndShades(color: Rgba, steps = 9, lightest = 0.95, darkest = 0.1): Rgba[] {
  const { h, s } = rgbToHsl(color);
  if (steps < 2) {
    return [color];
  }
  return Array.from({ length: steps }, (_, i) => {
    const l = lightest + ((darkest - lightest) * i) / (steps - 1);
    return hslToRgb({ h, s, l }, color.a);
  });
}

/** Well separated colors for categories without any order, made by stepping the hue through the golden angle so that even many stay distinct. */
export function categorical(count: number, start = 0, base: Omit<Hsl, 'h'> = { s: 0.65, l: 0.55 }): Rgba[] {
  const goldenAngle = 137.50776405;
  const colors: Rgba[] = [];
  for (let i = 0; i < count; i++) {
    colors.push(hslToRgb({ h: (start + i * goldenAngle) % 360, ...base }));
  }
  return colors;
}

/**
 * Looks up a position on a gradient with several stops, as a heat map does with a normalized measurement.
 * Positions outside the stops take the color at the nearer end.
 *
 * @param stops - sorted by offset, at least one
 */
export function sampleGradient(stops: readonly { offset: number; color: Rgba }[], position: number): Rgba {
  const first = stops[0];
  if (!first) {
    throw new RangeError('a gradient needs at least one stop');
  }
  const next = stops.findIndex((stop) => stop.offset >= position);
  if (next === 0) return first.color;
  if (next === -1) return stops[stops.length - 1]!.color;
  const [a, b] = [stops[next - 1]!, stops[next]!];
  return mixPerceptual(a.color, b.color, (position - a.offset) / (b.offset - a.offset));
}

/** Two-sided scale for data with a meaningful zero: one color fades to neutral in the centre and from there into the other. */
export function divergingScale(low: Rgba, neutral: Rgba, high: Rgba): (value: number) => Rgba {
  return (value) => {
    const t = Math.min(1, Math.max(-1, value));
    return t < 0 ? mixPerceptual(neutral, low, -t) : mixPerceptual(neutral, high, t);
  };
}

/** Snaps an arbitrary color to the most similar member of a fixed palette, as when quantizing an image or matching paint to stock. */
export function nearestInPalette(color: Rgba, palette: readonly Rgba[]): Rgba | undefined {
  let best: Rgba | undefined;
  let smallest = Infinity;
  for (const entry of palette) {
    const distance = deltaE(color, entry);
    if (distance < smallest) {
      smallest = distance;
      best = entry;
    }
  }
  return best;
}

/** Averages many pixels into one representative color, weighting each by its opacity. No visible pixel gives undefined. */
export function averageColor(pixels: Iterable<Rgba>): Rgba | undefined {
  let [r, g, b, weight, count] = [0, 0, 0, 0, 0];
  for (const p of pixels) {
    r += p.r * p.a;
    g += p.g * p.a;
    b += p.b * p.a;
    weight += p.a;
    count++;
  }
  if (weight === 0) return undefined;
  return { r: Math.round(r / weight), g: Math.round(g / weight), b: Math.round(b / weight), a: weight / count };
}

/**
 * The most frequent colors of an image after rounding the channels to coarse buckets, a quick way to get a cover's dominant tones.
 *
 * @param limit - how many to return, most common first
 * @param bucket - width of a bucket on the scale of 256
 */
export function dominantColors(pixels: Iterable<Rgba>, limit = 5, bucket = 32): Rgba[] {
  const counts = new Map<string, { color: Rgba; n: number }>();
  const center = (v: number): number => Math.min(255, Math.floor(v / bucket) * bucket + Math.floor(bucket / 2));
  for (const { r, g, b } of pixels) {
    const color = { r: center(r), g: center(g), b: center(b), a: 1 };
    const key = `${color.r},${color.g},${color.b}`;
    const entry = counts.get(key) ?? { color, n: 0 };
    entry.n++;
    counts.set(key, entry);
  }
  return [...counts.values()].sort((p, q) => q.n - p.n).slice(0, limit).map((entry) => entry.color);
}

/** Orders swatches from dark to light as the eye judges them, leaving the given list untouched. */
export function sortByLightness(colors: readonly Rgba[]): Rgba[] {
  const keyed = colors.map((color) => ({ color, lightness: rgbToLab(color).L }));
  keyed.sort((p, q) => p.lightness - q.lightness);
  return keyed.map((entry) => entry.color);
}

/** Derives a stable color from a name, for avatars and tags: the same text always gets the same hue. */
export function colorFromText(text: string, saturation = 0.6, lightness = 0.5): Rgba {
  let hash = 0;
  for (const character of text) {
    hash = (hash * 31 + character.codePointAt(0)!) >>> 0;
  }
  return hslToRgb({ h: hash % 360, s: saturation, l: lightness });
}
