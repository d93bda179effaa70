/**
 * Pillow's Gaussian blur (`src/libImaging/BoxBlur.c`): three extended box blurs along rows, then three along columns, each
 * rounded to 8 bits, the edge pixels repeated. Crops without blur are passed over. It knows no colours.
 */
import { type AugmentShape, boxBlur, CROP_WGSL, IMAGENET_NORMALISATION, perCrop, writeNormalised } from "./augment.ts";
import type { Kernel } from "./kernel.ts";
import { once } from "./wgsl.ts";

/** Along which axis a pass blurs. */
export type BlurAxis = "row" | "column";

/** WGSL of one box blur of pixel `i` of crop `n`, as \`blurred: vec3u\`. */
function boxBlurWgsl(size: number, axis: BlurAxis): string {
  const [start, stride, place] = axis === "row"
    ? [`n * ${size * size}u + i / ${size}u * ${size}u`, 1, `i32(i % ${size}u)`]
    : [`n * ${size * size}u + i % ${size}u`, size, `i32(i / ${size}u)`];
  return `
  let crop = crops[n];
  if ((crop.flags & BLUR) == 0u) { return; }
  let start = ${start};
  let place = ${place};
  let radius = crop.blurRadius;
  var sum = vec3u(0u);
  for (var tap = place - radius; tap <= place + radius; tap++) {
    sum += unpackPixel(pixels[start + u32(clamp(tap, 0, ${size - 1})) * ${stride}u]);
  }
  let before = unpackPixel(pixels[start + u32(max(place - radius - 1, 0)) * ${stride}u]);
  let after = unpackPixel(pixels[start + u32(min(place + radius + 1, ${size - 1})) * ${stride}u]);
  let blurred = (sum * crop.blurWeight + (before + after) * crop.blurEdgeWeight + (1u << 23u)) >> vec3u(24u);`;
}

/** One box blur. Buffers: crops, pixels `[crops, size, size]`, result of the same shape. */
export function blurPass({ crops, size }: AugmentShape, axis: BlurAxis): Kernel {
  return once(`augment blur ${axis} ${crops}x${size}`, () =>
    perCrop({
      label: `augment blur ${axis} ${crops}x${size}`,
      storage: [["crops", "read", "Crop"], ["pixels", "read", "u32"], ["result", "write", "u32"]],
      crops,
      invocations: size * size,
      prelude: CROP_WGSL,
      body: `${boxBlurWgsl(size, axis)}
  result[n * ${size * size}u + i] = packPixel(blurred);`,
    }));
}

/** The last box blur, along columns, with normalisation. Buffers: crops, pixels, result f32 `[crops, size, size, 3]`. */
export function blurLastPass({ crops, size }: AugmentShape, normalisation = IMAGENET_NORMALISATION): Kernel {
  return once(`augment blur last ${crops}x${size} ${JSON.stringify(normalisation)}`, () =>
    perCrop({
      label: `augment blur last ${crops}x${size}`,
      storage: [["crops", "read", "Crop"], ["pixels", "read", "u32"], ["result", "write", "f32"]],
      crops,
      invocations: size * size,
      prelude: `${CROP_WGSL}\n${writeNormalised(size, normalisation)}`,
      body: `${boxBlurWgsl(size, "column")}
  writeNormalised(n, i, blurred);`,
    }));
}

/** One box blur of `count` lines of `length` bytes each. */
function blurLines(
  pixels: Uint8Array<ArrayBuffer>,
  sigma: number,
  { size, axis }: { readonly size: number; readonly axis: BlurAxis },
): Uint8Array<ArrayBuffer> {
  const { radius, weight, edgeWeight } = boxBlur(sigma);
  const result = new Uint8Array(pixels.length);
  const clamp = (place: number): number => Math.min(size - 1, Math.max(0, place));
  for (let line = 0; line < size; line++) {
    for (let place = 0; place < size; place++) {
      for (let c = 0; c < 3; c++) {
        const at = (p: number): number => (axis === "row" ? line * size + clamp(p) : clamp(p) * size + line) * 3 + c;
        let sum = 0;
        for (let tap = place - radius; tap <= place + radius; tap++) sum += pixels[at(tap)];
        const edges = pixels[at(place - radius - 1)] + pixels[at(place + radius + 1)];
        result[at(place)] = Math.floor((sum * weight + edges * edgeWeight + 8_388_608) / 16_777_216);
      }
    }
  }
  return result;
}

/** Reference of the six passes for one crop: uint8 `[size, size, 3]` to the same, without normalisation. */
export function blurReference(
  pixels: Uint8Array<ArrayBuffer>,
  sigma: number,
  { size }: { readonly size: number },
): Uint8Array<ArrayBuffer> {
  let blurred = pixels;
  for (const axis of ["row", "row", "row", "column", "column", "column"] as const) {
    blurred = blurLines(blurred, sigma, { size, axis });
  }
  return blurred;
}
