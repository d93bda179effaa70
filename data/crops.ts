/**
 * Which part of an image a crop shows and how its colours change: the augmentation of SEER and SwAV as numbers, drawn as
 * torchvision and VISSL draw them. It computes no pixel and knows no GPU.
 */
import { type RandomStream, randomStream } from "./random.ts";

/** One group of crops of a multi-crop recipe. */
export interface CropSpec {
  /** Side of the square crop in pixels. */
  readonly size: number;
  /** Crops of this group per image. */
  readonly count: number;
  /** Smallest and largest share of the image's area. */
  readonly scale: readonly [number, number];
}

/** Options of the augmentation; the defaults are SEER's (VISSL `swav/transforms/multicrop_6crop_2x224_4x96.yaml`). */
export interface AugmentationOptions {
  /** Smallest and largest width / height of the crop. @default [3 / 4, 4 / 3] */
  readonly ratio?: readonly [number, number];
  /** @default 0.5 */
  readonly flipProbability?: number;
  /** @default 0.8 */
  readonly jitterProbability?: number;
  /** Brightness, contrast and saturation factors lie in [max(0, 1 − x), 1 + x]. @default 0.8 each */
  readonly brightness?: number;
  readonly contrast?: number;
  readonly saturation?: number;
  /** The hue shift lies in [−hue, hue], in turns; at most 0.5. @default 0.2 */
  readonly hue?: number;
  /** @default 0.2 */
  readonly grayProbability?: number;
  /** @default 0.5 */
  readonly blurProbability?: number;
  /** Smallest and largest standard deviation of the blur in pixels of the crop. @default [0.1, 2] */
  readonly blurSigma?: readonly [number, number];
}

/** A box in an image, in pixels. */
export interface Box {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** Everything that turns an image into one crop. */
export interface CropParameters extends Box {
  /** Side of the crop in pixels. */
  readonly size: number;
  /** Mirror left and right, after the crop. */
  readonly flip: boolean;
  /** Whether the four colour factors apply. */
  readonly jitter: boolean;
  /** Order of the colour changes: 0 brightness, 1 contrast, 2 saturation, 3 hue. */
  readonly order: readonly number[];
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
  /** Shift of the hue in turns. */
  readonly hue: number;
  /** Whether the colours are dropped at the end. */
  readonly gray: boolean;
  /** Standard deviation of the Gaussian blur in pixels; null for none. */
  readonly blurSigma: number | null;
  /**
   * Where the crop lies in a larger resampling: the box is resampled to `resized.height × resized.width` pixels and the
   * crop is `size × size` of them from (`resized.top`, `resized.left`). Absent: the box fills the crop.
   */
  readonly resized?: Box;
}

/** Rounds half to even, as Python's `round`. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const fraction = x - floor;
  if (fraction !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * The box of torchvision's `RandomResizedCrop.get_params` (0.14): ten tries at an area and a log-uniform shape, then the
 * largest central box whose shape is allowed.
 */
export function randomResizedCropBox(
  stream: Pick<RandomStream, "uniform" | "integer">,
  { width, height, scale, ratio }: {
    readonly width: number;
    readonly height: number;
    readonly scale: readonly [number, number];
    readonly ratio: readonly [number, number];
  },
): Box {
  const area = height * width;
  const logRatio = [Math.log(ratio[0]), Math.log(ratio[1])];
  for (let attempt = 0; attempt < 10; attempt++) {
    const target = area * stream.uniform(scale[0], scale[1]);
    const aspect = Math.exp(stream.uniform(logRatio[0], logRatio[1]));
    const w = roundHalfEven(Math.sqrt(target * aspect));
    const h = roundHalfEven(Math.sqrt(target / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      const top = stream.integer(0, height - h + 1);
      const left = stream.integer(0, width - w + 1);
      return { top, left, height: h, width: w };
    }
  }
  let w = width, h = height;
  if (width / height < ratio[0]) h = Math.max(1, roundHalfEven(w / ratio[0]));
  else if (width / height > ratio[1]) w = Math.max(1, roundHalfEven(h * ratio[1]));
  return { top: Math.floor((height - h) / 2), left: Math.floor((width - w) / 2), height: h, width: w };
}

/** Which crop of which image, and how large that image is. */
export interface CropKey {
  readonly seed: number;
  /** The run's step, counted over all epochs. */
  readonly step: number;
  readonly sample: number;
  /** Number of the crop among all crops of the image, over all groups. */
  readonly crop: number;
  /** The image's size in pixels. */
  readonly width: number;
  readonly height: number;
}

/** A jitter factor, uniform in [max(0, 1 − strength), 1 + strength], as torchvision's `ColorJitter`. */
function jitterFactor(stream: RandomStream, strength: number): number {
  return stream.uniform(Math.max(0, 1 - strength), 1 + strength);
}

/**
 * The parameters of one crop: a function of (seed, step, sample, crop) and the image's size, so equal on every host.
 * Each decision has its own stream: changing one option leaves all other numbers as they were.
 *
 * @example
 * ```ts
 * import { cropParameters } from "./crops.ts";
 * const key = { seed: 1, step: 0, sample: 42, crop: 0, width: 640, height: 480 };
 * const crop = cropParameters(key, { size: 224, scale: [0.14, 1] });
 * if (crop.top + crop.height > 480) throw new Error("outside the image");
 * ```
 * @throws {RangeError} When the image is empty or an index is not an integer below 2^32.
 */
export function cropParameters(
  key: CropKey,
  spec: Pick<CropSpec, "size" | "scale">,
  options: AugmentationOptions = {},
): CropParameters {
  const { seed, step, sample, crop, width, height } = key;
  const { ratio = [3 / 4, 4 / 3], flipProbability = 0.5, jitterProbability = 0.8, grayProbability = 0.2 } = options;
  const { brightness = 0.8, contrast = 0.8, saturation = 0.8, hue = 0.2 } = options;
  const { blurProbability = 0.5, blurSigma = [0.1, 2] } = options;
  if (!(width >= 1 && height >= 1)) {
    throw new RangeError(`Cannot crop: the image must have at least one pixel, got ${width} × ${height}`);
  }
  const indices = [step, sample, crop];
  const box = randomResizedCropBox(randomStream({ seed, purpose: "crop box", indices }), {
    width,
    height,
    scale: spec.scale,
    ratio,
  });
  const choices = randomStream({ seed, purpose: "crop choices", indices });
  const flip = choices.chance(flipProbability);
  const jitter = choices.chance(jitterProbability);
  const gray = choices.chance(grayProbability);
  const blur = choices.chance(blurProbability);
  const colour = randomStream({ seed, purpose: "crop colour", indices });
  return {
    ...box,
    size: spec.size,
    flip,
    jitter,
    brightness: jitterFactor(colour, brightness),
    contrast: jitterFactor(colour, contrast),
    saturation: jitterFactor(colour, saturation),
    hue: colour.uniform(-hue, hue),
    order: colour.permutation(4),
    gray,
    blurSigma: blur ? randomStream({ seed, purpose: "crop blur", indices }).uniform(blurSigma[0], blurSigma[1]) : null,
  };
}

/** Colours and direction left as they are. */
const UNCHANGED = {
  flip: false,
  jitter: false,
  order: [0, 1, 2, 3],
  brightness: 1,
  contrast: 1,
  saturation: 1,
  hue: 0,
  gray: false,
  blurSigma: null,
} as const;

/**
 * The one crop that evaluation looks at. With `resize`, torchvision's `Resize(resize)` then `CenterCrop(size)`: the
 * shorter side becomes `resize` pixels and the middle `size × size` are taken. Without, the whole image is squashed.
 *
 * @throws {RangeError} When `resize` is smaller than `size`.
 */
export function centreCropParameters(
  { width, height }: { readonly width: number; readonly height: number },
  { size, resize }: { readonly size: number; readonly resize?: number },
): CropParameters {
  const whole = { top: 0, left: 0, height, width, size, ...UNCHANGED };
  if (resize === undefined) return whole;
  if (resize < size) {
    throw new RangeError(`Cannot take a centre crop of ${size} pixels: the shorter side is resized to ${resize} only`);
  }
  const short = Math.min(width, height);
  const resizedWidth = Math.floor((resize * width) / short);
  const resizedHeight = Math.floor((resize * height) / short);
  return {
    ...whole,
    resized: {
      top: roundHalfEven((resizedHeight - size) / 2),
      left: roundHalfEven((resizedWidth - size) / 2),
      height: resizedHeight,
      width: resizedWidth,
    },
  };
}
