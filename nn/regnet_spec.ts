/**
 * The shapes of RegNetY and RegNetX: the published table, and how stages follow from five numbers under the two rounding rules in
 * use. Pure arithmetic; it builds no layer and needs no device.
 */

/** Stage shapes of a RegNetY, or of a RegNetX where `seRatio` is 0; all of them halve the resolution in their first block. */
export interface RegnetSpec {
  /** Channels of the stem. @default 32 */
  readonly stemWidth?: number;
  /** Output channels of each stage. */
  readonly widths: readonly number[];
  /** Blocks of each stage. */
  readonly depths: readonly number[];
  /** Channels of one group of the 3×3 convolutions; a narrower stage has one group. */
  readonly groupWidth: number;
  /** Squeeze-and-excitation channels over the block's input channels. @default 0.25 */
  readonly seRatio?: number;
}

/** The five numbers that a RegNet's stages are generated from. */
export interface RegnetGenerator {
  readonly depth: number;
  readonly w0: number;
  readonly wa: number;
  readonly wm: number;
  readonly groupWidth: number;
  /** 0 for RegNetX, the same without squeeze-and-excitation. @default RegNetY's */
  readonly seRatio?: 0;
}

/** How widths are made divisible by the group width: as VISSL, ClassyVision and timm (`seer`), or as torchvision. */
export type RegnetRule = "seer" | "torchvision";

/** Rounds half to even, as Python and NumPy do. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

function divisible(width: number, group: number, rule: RegnetRule): number {
  const step = Math.min(group, width);
  if (rule === "seer") return step * roundHalfEven(width / step);
  const nearest = Math.max(step, Math.floor((width + step / 2) / step) * step);
  return nearest < 0.9 * width ? nearest + step : nearest;
}

/**
 * Stages from the generator: widths `8·round(w0·wm^s/8)` with `s = round(log(1 + wa·j/w0) / log(wm))` for block j, equal
 * runs being stages, then made divisible by the group width. Source: ClassyVision `regnet.py`, torchvision `regnet.py`.
 */
export function regnetStages(generator: RegnetGenerator, rule: RegnetRule): RegnetSpec {
  const { depth, w0, wa, wm, groupWidth, ...squeeze } = generator;
  const widths: number[] = [], depths: number[] = [];
  for (let j = 0; j < depth; j++) {
    const exponent = roundHalfEven(Math.log((w0 + wa * j) / w0) / Math.log(wm));
    const width = 8 * roundHalfEven(w0 * wm ** exponent / 8);
    if (width === widths.at(-1)) depths[depths.length - 1] += 1;
    else {
      widths.push(width);
      depths.push(1);
    }
  }
  return { widths: widths.map((width) => divisible(width, groupWidth, rule)), depths, groupWidth, ...squeeze };
}

/** The published networks by name, from PYCLS, VISSL, ClassyVision and torchvision; `regnety_256gf` is the one SEER trained. */
export const regnetTable = {
  "regnety_200mf": { depth: 13, w0: 24, wa: 36.44, wm: 2.49, groupWidth: 8 },
  "regnety_400mf": { depth: 16, w0: 48, wa: 27.89, wm: 2.09, groupWidth: 8 },
  "regnety_800mf": { depth: 14, w0: 56, wa: 38.84, wm: 2.4, groupWidth: 16 },
  "regnety_1.6gf": { depth: 27, w0: 48, wa: 20.71, wm: 2.65, groupWidth: 24 },
  "regnety_3.2gf": { depth: 21, w0: 80, wa: 42.63, wm: 2.66, groupWidth: 24 },
  "regnety_8gf": { depth: 17, w0: 192, wa: 76.82, wm: 2.19, groupWidth: 56 },
  "regnety_16gf": { depth: 18, w0: 200, wa: 106.23, wm: 2.48, groupWidth: 112 },
  "regnety_32gf": { depth: 20, w0: 232, wa: 115.89, wm: 2.53, groupWidth: 232 },
  "regnety_64gf": { depth: 20, w0: 352, wa: 147.48, wm: 2.4, groupWidth: 328 },
  "regnety_128gf": { depth: 27, w0: 456, wa: 160.83, wm: 2.52, groupWidth: 264 },
  "regnety_256gf": { depth: 27, w0: 640, wa: 230.83, wm: 2.53, groupWidth: 373 },
  "regnety_10b": { depth: 27, w0: 1744, wa: 620.83, wm: 2.52, groupWidth: 1010 },
  "regnetx_400mf": { depth: 22, w0: 24, wa: 24.48, wm: 2.54, groupWidth: 16, seRatio: 0 },
  "regnetx_800mf": { depth: 16, w0: 56, wa: 35.73, wm: 2.28, groupWidth: 16, seRatio: 0 },
  "regnetx_1.6gf": { depth: 18, w0: 80, wa: 34.01, wm: 2.25, groupWidth: 24, seRatio: 0 },
  "regnetx_3.2gf": { depth: 25, w0: 88, wa: 26.31, wm: 2.25, groupWidth: 48, seRatio: 0 },
  "regnetx_8gf": { depth: 23, w0: 80, wa: 49.56, wm: 2.88, groupWidth: 120, seRatio: 0 },
  "regnetx_16gf": { depth: 22, w0: 216, wa: 55.59, wm: 2.1, groupWidth: 128, seRatio: 0 },
  "regnetx_32gf": { depth: 23, w0: 320, wa: 69.86, wm: 2, groupWidth: 168, seRatio: 0 },
} as const satisfies Record<string, RegnetGenerator>;

/** A network of {@linkcode regnetTable}. */
export type RegnetName = keyof typeof regnetTable;

/** One residual block, with every number its layers need. */
export interface BlockSpec {
  /** Torchvision's name, e.g. `trunk_output.block1.block1-0`. */
  readonly name: string;
  /** Counted from 0. */
  readonly stage: number;
  readonly inWidth: number;
  /** Channels of the 3×3 convolution. */
  readonly innerWidth: number;
  /** Channels of the output. */
  readonly width: number;
  readonly stride: 1 | 2;
  readonly groups: number;
  /** Channels inside squeeze-and-excitation; 0 for none. */
  readonly squeezeWidth: number;
  /** Whether the shortcut is a 1×1 convolution. */
  readonly projected: boolean;
}

/** Every block of a network in order. */
export function regnetBlocks(spec: RegnetSpec): BlockSpec[] {
  const { stemWidth = 32, widths, depths, groupWidth, seRatio = 0.25 } = spec;
  if (widths.length !== depths.length) {
    throw new RangeError(
      `Cannot lay out a RegNetY: widths and depths must have equal lengths, they have ${widths.length} and ${depths.length}`,
    );
  }
  let inWidth = stemWidth;
  return widths.flatMap((width, stage) => {
    const group = Math.min(groupWidth, width);
    if (width % group !== 0) {
      throw new RangeError(
        `Cannot lay out a RegNetY: the group width must divide every stage's width, ${group} does not divide ${width}`,
      );
    }
    return Array.from({ length: depths[stage] }, (_, i): BlockSpec => {
      const block = {
        name: `trunk_output.block${stage + 1}.block${stage + 1}-${i}`,
        stage,
        inWidth,
        innerWidth: width,
        width,
        stride: i === 0 ? 2 as const : 1 as const,
        groups: width / group,
        squeezeWidth: seRatio > 0 ? roundHalfEven(seRatio * inWidth) : 0,
        projected: i === 0 || inWidth !== width,
      };
      inWidth = width;
      return block;
    });
  });
}
