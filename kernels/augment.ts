/**
 * What the augmentation kernels share: one record per crop, its layout in a storage buffer, packed pixels, and the grid
 * with one row of workgroups per crop. The steps are in `augment_resample.ts`, `augment_colour.ts` and
 * `augment_blur.ts`. Between the steps a pixel is three bytes in one u32, red lowest, and every step rounds to 8 bits as
 * Pillow (PIL) does, so that the crops equal torchvision's on PIL images. This file draws no random number.
 */
import type { Access, Kernel } from "./kernel.ts";

/** A box in pixels. */
export interface AugmentBox {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** One crop of one image: which part of it, and what happens to the colours. The box lies inside the image. */
export interface AugmentCrop extends AugmentBox {
  /** Byte at which the image starts among the packed images (`[height, width, 3]` uint8). */
  readonly imageOffset: number;
  /** Width in pixels of the whole image. */
  readonly imageWidth: number;
  readonly flip: boolean;
  /** Whether brightness, contrast, saturation and hue apply. */
  readonly jitter: boolean;
  /** Order of the colour changes: 0 brightness, 1 contrast, 2 saturation, 3 hue. */
  readonly order: readonly number[];
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
  /** Shift of the hue in turns, −1 to 1. */
  readonly hue: number;
  readonly gray: boolean;
  /** Standard deviation of the Gaussian blur in pixels; null for none. */
  readonly blurSigma: number | null;
  /**
   * The box is resampled to `resized.height × resized.width` pixels, of which the crop shows `size × size` from
   * (`resized.top`, `resized.left`). Absent: to `size × size`.
   */
  readonly resized?: AugmentBox;
}

/** Static shape of one call: all crops have the same size. */
export interface AugmentShape {
  readonly crops: number;
  /** Side of the crops in pixels. */
  readonly size: number;
}

/** Mean and standard deviation of each channel of images in [0, 1]. */
export interface Normalisation {
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/** ImageNet's, as in VISSL's SEER configuration. */
export const IMAGENET_NORMALISATION: Normalisation = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Words (u32 or f32) in a crop's record on the device. */
export const CROP_WORDS = 20;

/** The record of {@linkcode packCrops} as WGSL. */
export const CROP_WGSL = `struct Crop {
  imageOffset: u32, imageWidth: u32,
  top: u32, left: u32, height: u32, width: u32,
  resizedHeight: u32, resizedWidth: u32, resizedTop: i32, resizedLeft: i32,
  flags: u32, order: u32,
  brightness: f32, contrast: f32, saturation: f32, hueShift: u32,
  blurRadius: i32, blurWeight: u32, blurEdgeWeight: u32, spare: u32,
}
const FLIP = 1u;
const JITTER = 2u;
const GRAY = 4u;
const BLUR = 8u;
fn unpackPixel(p: u32) -> vec3u { return vec3u(p & 255u, (p >> 8u) & 255u, (p >> 16u) & 255u); }
fn packPixel(c: vec3u) -> u32 { return c.x | (c.y << 8u) | (c.z << 16u); }`;

/** One of Pillow's extended box blurs in 8.24 fixed point: three of them make its Gaussian blur. */
export interface BoxBlur {
  /** Whole pixels on either side. */
  readonly radius: number;
  /** Weight of each of the 2 · radius + 1 whole pixels. */
  readonly weight: number;
  /** Weight of the two pixels beyond. */
  readonly edgeWeight: number;
}

/**
 * The box whose threefold blur has the standard deviation `sigma` (Pillow `src/libImaging/BoxBlur.c`, after Gwosdek et
 * al., "Theoretical foundations of Gaussian convolution by extended box filtering", 2011). Rounded to f32 where C does.
 */
export function boxBlur(sigma: number): BoxBlur {
  const f = Math.fround;
  const variance = f(f(f(sigma) * f(sigma)) / 3);
  const length = f(Math.sqrt(12 * variance + 1));
  const whole = f(Math.floor((length - 1) / 2));
  const numerator = f(f(2 * whole + 1) * f(f(whole * f(whole + 1)) - f(3 * variance)));
  const fraction = f(numerator / f(6 * f(variance - f(f(whole + 1) * f(whole + 1)))));
  const real = f(whole + fraction);
  const radius = Math.floor(real);
  const weight = Math.trunc(f(16_777_216 / f(f(real * 2) + 1)));
  return { radius, weight, edgeWeight: Math.floor((16_777_216 - (radius * 2 + 1) * weight) / 2) };
}

/** The shift of an 8-bit hue, as torchvision: truncated to a byte, negative shifts wrapping round. */
export function hueShift(hue: number): number {
  return Math.trunc(hue * 255) & 255;
}

/**
 * The crops as the kernels read them: `CROP_WORDS` words each.
 *
 * @throws {RangeError} When there are more than 65,535 crops, the most that a grid holds, or when a crop's order does not
 * name each of the four colour changes once.
 */
export function packCrops(crops: readonly AugmentCrop[], size: number): Uint32Array<ArrayBuffer> {
  if (crops.length > 65_535) {
    throw new RangeError(`Cannot augment: at most 65,535 crops fit in one call, got ${crops.length}`);
  }
  const words = new Uint32Array(crops.length * CROP_WORDS);
  const floats = new Float32Array(words.buffer);
  crops.forEach((crop, i) => {
    const { resized = { top: 0, left: 0, height: size, width: size } } = crop;
    if (
      crop.order.length !== 4 || new Set(crop.order).size !== 4 || crop.order.some((o) => ![0, 1, 2, 3].includes(o))
    ) {
      throw new RangeError(`Cannot augment: order must hold 0, 1, 2 and 3 once each, got [${crop.order.join(", ")}]`);
    }
    const flags = (crop.flip ? 1 : 0) | (crop.jitter ? 2 : 0) | (crop.gray ? 4 : 0) | (crop.blurSigma !== null ? 8 : 0);
    const order = crop.order.reduce((packed, operation, place) => packed | (operation << (2 * place)), 0);
    const blur = boxBlur(crop.blurSigma ?? 0);
    const at = i * CROP_WORDS;
    words.set([crop.imageOffset, crop.imageWidth, crop.top, crop.left, crop.height, crop.width], at);
    words.set([resized.height, resized.width, resized.top, resized.left, flags, order], at + 6);
    floats.set([crop.brightness, crop.contrast, crop.saturation], at + 12);
    words.set([hueShift(crop.hue), blur.radius, blur.weight, blur.edgeWeight], at + 15);
  });
  return words;
}

/** What {@linkcode perCrop} needs to build a kernel. */
export interface PerCropOptions {
  readonly label: string;
  readonly storage: readonly (readonly [name: string, access: Access, element: string])[];
  /** Number of crops: rows of the grid. */
  readonly crops: number;
  /** Invocations per crop; the body sees its own number as `i` and the crop's as `n`. */
  readonly invocations: number;
  readonly prelude: string;
  readonly body: string;
}

const WORKGROUP = 64;

/** A kernel with one row of workgroups per crop, so that what depends on the crop is uniform in a workgroup. */
export function perCrop(options: PerCropOptions): Kernel {
  const { label, storage, crops, invocations, prelude, body } = options;
  const declarations = storage.map(([name, access, element], binding) =>
    `@group(0) @binding(${binding}) var<storage, ${access === "read" ? "read" : "read_write"}> ${name}: ` +
    `array<${element}>;`
  );
  return {
    label,
    wgsl: `${prelude.trim()}
${declarations.join("\n")}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let n = group.y;
  let i = group.x * ${WORKGROUP}u + lane;
  if (i >= ${invocations}u) { return; }
  ${body.trim()}
}
`,
    bindings: storage.map(([, access]) => access),
    workgroups: [Math.ceil(invocations / WORKGROUP), crops, 1],
  };
}

/** WGSL of a function that writes pixel `c` (0 to 255) to the f32 buffer `result`, normalised, as pixel `i` of `n`. */
export function writeNormalised(size: number, { mean, std }: Normalisation): string {
  const scale = std.map((s) => 1 / (255 * s)), shift = mean.map((m, c) => -m / std[c]);
  return `fn writeNormalised(n: u32, i: u32, c: vec3u) {
  let value = vec3f(c) * vec3f(${scale.join(", ")}) + vec3f(${shift.join(", ")});
  let at = (n * ${size * size}u + i) * 3u;
  result[at] = value.x;
  result[at + 1u] = value.y;
  result[at + 2u] = value.z;
}`;
}

/** Reference of the normalisation: `pixels` uint8 `[…, 3]` to f32 of the same shape. */
export function normaliseReference(
  pixels: Uint8Array,
  { mean, std }: Normalisation = IMAGENET_NORMALISATION,
): Float32Array<ArrayBuffer> {
  return Float32Array.from(pixels, (value, i) => (value / 255 - mean[i % 3]) / std[i % 3]);
}
