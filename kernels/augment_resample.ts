/**
 * The antialiased bilinear resampling of a crop's box, as Pillow's `resize` on the cropped image
 * (`src/libImaging/Resample.c`): a triangle filter as wide as the scale when shrinking, weights in 22-bit fixed point,
 * horizontal pass rounded to 8 bits before the vertical one. Both passes happen in one kernel, which computes the few
 * horizontal sums that a pixel needs. It knows no colours.
 */
import { type AugmentCrop, type AugmentShape, CROP_WGSL, perCrop } from "./augment.ts";
import type { Kernel } from "./kernel.ts";
import { once } from "./wgsl.ts";

/**
 * Crops resampled to `size × size`, mirrored where `flip` says so. Buffers: images (bytes), crops, result
 * `[crops, size, size]` packed pixels.
 */
export function resampleCrops({ crops, size }: AugmentShape): Kernel {
  return once(`augment resample ${crops}x${size}`, () =>
    perCrop({
      label: `augment resample ${crops}x${size}`,
      storage: [["images", "read", "u32"], ["crops", "read", "Crop"], ["result", "write", "u32"]],
      crops,
      invocations: size * size,
      // Distances are integers: pixels of the box times twice the resized length. So every weight is exact.
      prelude: `${CROP_WGSL}
struct Taps { first: i32, end: i32, centre: i32, unit: i32, support: i32, sum: i32, scale: f32 }
fn weightAt(t: Taps, tap: i32) -> i32 { return max(t.support - abs((2 * tap + 1) * t.unit - t.centre), 0); }
fn tapsOf(place: i32, length: i32, resized: i32) -> Taps {
  var t: Taps;
  t.unit = resized;
  t.centre = (2 * place + 1) * length;
  t.support = 2 * max(length, resized);
  let middle = f32(t.centre) / f32(2 * resized);
  let reach = f32(t.support) / f32(2 * resized);
  t.first = max(i32(middle - reach + 0.5), 0);
  t.end = min(i32(middle + reach + 0.5), length);
  var sum = 0;
  for (var tap = t.first; tap < t.end; tap++) { sum += weightAt(t, tap); }
  t.sum = sum;
  t.scale = 4194304.0 / f32(sum);
  return t;
}
// The float is off by one at most; the remainder, which fits 32 bits while its terms wrap round, says which way.
fn fixedWeight(t: Taps, tap: i32) -> u32 {
  let weight = weightAt(t, tap);
  let near = u32(f32(weight) * t.scale + 0.5);
  let rest = 2 * bitcast<i32>((u32(weight) << 22u) - near * u32(t.sum));
  return near + select(0u, 1u, rest >= t.sum) - select(0u, 1u, rest < -t.sum);
}`,
      body: `
  let size = ${size};
  let y = i32(i) / size;
  var x = i32(i) % size;
  let c = crops[n];
  if ((c.flags & FLIP) != 0u) { x = size - 1 - x; }
  let rows = tapsOf(y + c.resizedTop, i32(c.height), i32(c.resizedHeight));
  let columns = tapsOf(x + c.resizedLeft, i32(c.width), i32(c.resizedWidth));
  let half = vec3u(1u << 21u);
  var sum = half;
  for (var row = rows.first; row < rows.end; row++) {
    let rowWeight = fixedWeight(rows, row);
    if (rowWeight == 0u) { continue; }
    var byte = c.imageOffset + ((c.top + u32(row)) * c.imageWidth + c.left + u32(columns.first)) * 3u;
    var rowSum = half;
    for (var column = columns.first; column < columns.end; column++) {
      let word = byte >> 2u;
      let shift = (byte & 3u) * 8u;
      let pixel = (images[word] >> shift) | ((images[word + 1u] << 1u) << (31u - shift));
      rowSum += unpackPixel(pixel) * fixedWeight(columns, column);
      byte += 3u;
    }
    sum += min(rowSum >> vec3u(22u), vec3u(255u)) * rowWeight;
  }
  result[n * ${size * size}u + i] = packPixel(min(sum >> vec3u(22u), vec3u(255u)));`,
    }));
}

/** First tap and fixed-point weights of one output place, as Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`. */
function pillowTaps(place: number, length: number, resized: number): { first: number; weights: number[] } {
  const scale = length / resized;
  const filterScale = Math.max(scale, 1);
  const centre = (place + 0.5) * scale;
  const first = Math.max(0, Math.trunc(centre - filterScale + 0.5));
  const end = Math.min(length, Math.trunc(centre + filterScale + 0.5));
  const weights: number[] = [];
  for (let tap = first; tap < end; tap++) {
    weights.push(Math.max(0, 1 - Math.abs((tap - centre + 0.5) * (1 / filterScale))));
  }
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return { first, weights: weights.map((weight) => Math.trunc(0.5 + (weight / sum) * 4_194_304)) };
}

/**
 * Reference of {@linkcode resampleCrops} for one crop.
 *
 * @param images All images, packed as for the kernel.
 * @returns uint8 `[size, size, 3]`
 */
export function resampleReference(
  images: Uint8Array,
  crop: AugmentCrop,
  { size }: { readonly size: number },
): Uint8Array<ArrayBuffer> {
  const { resized = { top: 0, left: 0, height: size, width: size } } = crop;
  const horizontal = new Uint8Array(crop.height * size * 3);
  const result = new Uint8Array(size * size * 3);
  for (let x = 0; x < size; x++) {
    const { first, weights } = pillowTaps(x + resized.left, crop.width, resized.width);
    const target = crop.flip ? size - 1 - x : x;
    for (let y = 0; y < crop.height; y++) {
      const at = crop.imageOffset + ((crop.top + y) * crop.imageWidth + crop.left + first) * 3;
      for (let c = 0; c < 3; c++) {
        const sum = weights.reduce((total, weight, tap) => total + weight * images[at + tap * 3 + c], 1 << 21);
        horizontal[(y * size + target) * 3 + c] = Math.min(255, sum >> 22);
      }
    }
  }
  for (let y = 0; y < size; y++) {
    const { first, weights } = pillowTaps(y + resized.top, crop.height, resized.height);
    for (let i = 0; i < size * 3; i++) {
      const sum = weights.reduce(
        (total, weight, tap) => total + weight * horizontal[(first + tap) * size * 3 + i],
        1 << 21,
      );
      result[y * size * 3 + i] = Math.min(255, sum >> 22);
    }
  }
  return result;
}
