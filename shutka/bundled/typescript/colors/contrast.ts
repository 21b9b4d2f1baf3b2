import { fromLinear, hslToRgb, rgbToHsl, rgbToLab, toLinear, type Rgba } from './spaces';

const BLACK: Rgba = { r: 0, g: 0, b: 0, a: 1 };
const WHITE: Rgba = { r: 255, g: 255, b: 255, a: 1 };

/** Conformance levels of the Web Content Accessibility Guidelines that a text and background pair may reach. */
export type WcagLevel = 'AAA' | 'AA' | 'fail';

/** Relative luminance as WCAG defines it: the weighted linear light of the channels, 0 for black and 1 for white. */
export function luminance(color: Rgba): number {
  const red = 0.2126 * toLinear(color.r);
  const green = 0.7152 * toLinear(color.g);
  const blue = 0.0722 * toLinear(color.b);
  return red + green + blue;
}

/**
 * WCAG contrast ratio of two opaque colors, from 1 for identical ones to 21 for black on white. The order does not matter.
 *
 * @returns a number between 1 and 21
 */
export function contrastRatio(first: Rgba, second: Rgba): number {
  const a = luminance(first);
  const b = luminance(second);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

/**
 * Grades the legibility of text on a background under the accessibility guidelines. Large print is judged more leniently.
 *
 * @param large - true for at least 18 point, or 14 point bold
 */
export function wcagLevel(text: Rgba, background: Rgba, large = false): WcagLevel {
  const ratio = contrastRatio(text, background);
  if (ratio >= (large ? 4.5 : 7)) {
    return 'AAA';
  }
  return ratio >= (large ? 3 : 4.5) ? 'AA' : 'fail';
}

/** Chooses black or white lettering for a colored badge or button, whichever reads better on it. */
export function readableTextColor(background: Rgba): Rgba {
  const onWhite = contrastRatio(background, WHITE);
  const onBlack = contrastRatio(background, BLACK);
  return onWhite >= onBlack ? WHITE : BLACK;
}

/** Of several candidate foregrounds, picks the one that stands out most from the background. Throws when there are none. */
export function mostContrasting(background: Rgba, candidates: readonly Rgba[]): Rgba {
  const [first, ...rest] = candidates;
  if (!first) {
    throw new RangeError('no candidate colors');
  }
  return rest.reduce(
    (best, c) => (contrastRatio(c, background) > contrastRatio(best, background) ? c : best),
    first,
  );
}

/**
 * Darkens or lightens a text color step by step, keeping its hue, until it meets a required ratio against the background.
 *
 * @param target - the ratio to reach, 4.5 for ordinary text
 * @returns the first color that suffices, or undefined if even black or white would not
 */
export function adjustForContrast(text: Rgba, background: Rgba, target = 4.5): Rgba | undefined {
  const { h, s, l } = rgbToHsl(text);
  const step = readableTextColor(background) === BLACK ? -0.01 : 0.01;
  for (let i = 0; i <= 100; i++) {
    const lightness = Math.min(1, Math.max(0, l + step * i));
    const candidate = hslToRgb({ h, s, l: lightness }, text.a);
    if (contrastRatio(candidate, background) >= target) {
      return candidate;
    }
  }
  return undefined;
}

/** Whether a surface counts as dark, for deciding on light icons or a dark scrollbar. Judged by perceived lightness, not by raw channels. */
export function isDark(color: Rgba): boolean {
  const middleGrey = 50;
  const { L: lightness } = rgbToLab(color);
  return lightness < middleGrey;
}

/** Perceived difference of two colors as the straight-line distance in CIELAB (the 1976 Delta E). Values below about 2.3 are hardly noticeable. */
export function deltaE(first: Rgba, second: Rgba): number {
  const p = rgbToLab(first);
  const q = rgbToLab(second);
  return Math.hypot(p.L - q.L, p.a - q.a, p.b - q.b);
}

/** Drains all color while preserving brightness, so that the grey shows what a picture looks like on a monochrome screen. */
export function toGrayscale(color: Rgba): Rgba {
  const light = luminance(color);
  const grey = Math.round(fromLinear(light));
  return { r: grey, g: grey, b: grey, a: color.a };
}

/**
 * Photographic negative: every channel is replaced by its complement to 255, while opacity stays.
 */
export const invertColor = ({ r, g, b, a }: Rgba): Rgba => ({
  r: 255 - r,
  g: 255 - g,
  b: 255 - b,
  a,
});

/**
 * Lists the pairs in a chart's series colors that a reader could mistake for one another because they look too alike.
 *
 * @param threshold - smallest difference that counts as distinct
 * @returns pairs of indices into the list
 */
export function confusablePairs(colors: readonly Rgba[], threshold = 10): [number, number][] {
  const pairs: [number, number][] = [];
  colors.forEach((first, i) => {
    for (let j = i + 1; j < colors.length; j++) {
      if (deltaE(first, colors[j]!) < threshold) {
        pairs.push([i, j]);
      }
    }
  });
  return pairs;
}

/** Estimates the correlated color temperature of a light in kelvins by McCamy's formula, given its CIE x and y chromaticity. Sensible near the white curve only. */
export function colorTemperature(x: number, y: number): number {
  const [epicentreX, epicentreY] = [0.332, 0.1858];
  const n = (x - epicentreX) / (epicentreY - y);
  return 449 * n ** 3 + 3525 * n ** 2 + 6823.3 * n + 5520.33;
}
