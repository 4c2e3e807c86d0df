/** Colours: of what has an order along viridis, of what has none after Okabe and Ito; both are told apart by the
 * colour-blind, on light ground and on dark. */

type RGB = readonly [number, number, number];

/** Viridis at equal distances. */
const VIRIDIS: readonly RGB[] = [
  [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140], [34, 168, 132],
  [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37],
];
const CATEGORIES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#333333", "#e69f00"],
  dark: ["#56b4e9", "#ff8a3d", "#2fd1a0", "#e79ac3", "#f0e442", "#9ad0f5", "#dddddd", "#e69f00"],
};

export function viridis(share: number): RGB {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [low, high] = [VIRIDIS[below]!, VIRIDIS[below + 1]!];
  const part = at - below;
  return [0, 1, 2].map((i) => Math.round(low[i]! + (high[i]! - low[i]!) * part)) as unknown as RGB;
}

export function css(colour: RGB, alpha = 1): string {
  return alpha === 1 ? `rgb(${colour.join(" ")})` : `rgb(${colour.join(" ")} / ${alpha})`;
}

/** The colour of one of so many that have an order: without the palest part on light ground, the darkest on dark. */
export function ordered(index: number, many: number, dark: boolean): RGB {
  const share = many > 1 ? index / (many - 1) : dark ? 1 : 0.35;
  return viridis(dark ? 0.3 + 0.68 * share : 0.86 * share);
}

export function category(index: number, dark: boolean): string {
  const colours = CATEGORIES[dark ? "dark" : "light"];
  return colours[index % colours.length]!;
}

/** Ink that is read on a colour: black or white, whichever has more contrast (WCAG). */
export function inkOn(colour: RGB): string {
  const [r, g, b] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}
