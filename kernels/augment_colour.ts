/**
 * Colour jitter and grayscale, as torchvision on PIL images: brightness, contrast, saturation and hue in any order, each
 * rounded to 8 bits (Pillow `src/libImaging/{Blend,Convert}.c`). The kernels compute hue in integers only, with two
 * tables for the places where C's floats fall short of a whole number. It knows no geometry.
 */
import {
  type AugmentCrop,
  type AugmentShape,
  CROP_WGSL,
  hueShift,
  IMAGENET_NORMALISATION,
  perCrop,
  writeNormalised,
} from "./augment.ts";
import type { Kernel } from "./kernel.ts";
import { once } from "./wgsl.ts";

/** Red, green and blue, or hue, saturation and value, each 0 to 255. */
type Triple = [number, number, number];

/** Luma as Pillow's conversion to "L" (ITU-R 601-2 in 16-bit fixed point). */
function luma([r, g, b]: Readonly<Triple>): number {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

/** Pillow's `rgb2hsv_row`: C floats (rounded here by `fround`) and doubles, truncated. */
function toHsv([r, g, b]: Readonly<Triple>): Triple {
  const max = Math.max(r, g, b), min = Math.min(r, g, b);
  if (max === min) return [0, 0, max];
  const f = Math.fround;
  const range = max - min;
  const rc = f((max - r) / range), gc = f((max - g) / range), bc = f((max - b) / range);
  const sector = r === max ? f(bc - gc) : g === max ? f(2 + rc - bc) : f(4 + gc - rc);
  const hue = f((sector / 6 + 1) % 1);
  return [Math.min(255, Math.trunc(hue * 255)), Math.min(255, Math.trunc(f(range / max) * 255)), max];
}

/** Pillow's `hsv2rgb`. */
function toRgb([h, s, v]: Readonly<Triple>): Triple {
  if (s === 0) return [v, v, v];
  const f = Math.fround;
  const sector = Math.floor((h * 6) / 255);
  const fraction = f((h * 6) / 255 - sector);
  const share = f(s / 255);
  const p = Math.round(v * (1 - share));
  const q = Math.round(v * (1 - f(share * fraction)));
  const t = Math.round(v * (1 - share * (1 - fraction)));
  const table: Triple[] = [[v, t, p], [q, v, p], [p, v, t], [p, q, v], [t, p, v], [v, p, q]];
  return table[sector % 6];
}

/** A bit for each number that C's arithmetic truncates to one less, as eight words of WGSL. */
function shortfallTable(truncated: (exact: number) => number): string {
  const words = new Uint32Array(8);
  for (let exact = 1; exact < 255; exact++) {
    if (truncated(exact) < exact) words[exact >> 5] |= 1 << (exact & 31);
  }
  return `array<u32, 8>(${Array.from(words, (word) => `${word}u`).join(", ")})`;
}

/** A colour whose exact hue is the whole number `hue`: range 85, so that 6 · hue / 255 of a turn is 2 · hue steps. */
function colourOfHue(hue: number): Triple {
  const sector = Math.floor((2 * hue) / 85), rising = (2 * hue) % 85, falling = 85 - rising;
  const table: Triple[] = [[85, rising, 0], [falling, 85, 0], [0, 85, rising], [0, falling, 85], [rising, 0, 85], [
    85,
    0,
    falling,
  ]];
  return table[sector % 6];
}

const COLOUR_WGSL = `${CROP_WGSL}
const HUE_FALLS_SHORT = ${shortfallTable((hue) => toHsv(colourOfHue(hue))[0])};
const SATURATION_FALLS_SHORT = ${shortfallTable((s) => toHsv([255, 255 - s, 255 - s])[1])};
fn luma(c: vec3u) -> u32 { return (c.x * 19595u + c.y * 38470u + c.z * 7471u + 0x8000u) >> 16u; }
fn blend(base: vec3u, colour: vec3u, factor: f32) -> vec3u {
  return vec3u(clamp(vec3f(base) + factor * (vec3f(colour) - vec3f(base)), vec3f(0), vec3f(255)));
}
// Exact for quotients below 2048: half a unit more keeps the float away from whole numbers.
fn quotient(a: u32, b: u32) -> u32 { return u32((f32(a) + 0.5) / f32(b)); }
fn shiftHue(c: vec3u, shift: u32) -> vec3u {
  let v = max(c.x, max(c.y, c.z));
  let range = v - min(c.x, min(c.y, c.z));
  if (range == 0u) { return c; }
  var s = quotient(255u * range, v);
  var table = SATURATION_FALLS_SHORT;
  if (s * v == 255u * range) { s -= (table[s >> 5u] >> (s & 31u)) & 1u; }
  if (s == 0u) { return vec3u(v); }
  var turn = 0u; // in sixths of a turn, times the range
  if (c.x == v) { turn = select(6u * range, 0u, c.y >= c.z) + c.y - c.z; }
  else if (c.y == v) { turn = 2u * range + c.z - c.x; }
  else { turn = 4u * range + c.x - c.y; }
  var h = quotient(85u * turn, 2u * range);
  table = HUE_FALLS_SHORT;
  if (h * 2u * range == 85u * turn) { h -= (table[h >> 5u] >> (h & 31u)) & 1u; }
  h = (h + shift) & 255u;
  let sector = 2u * h / 85u;
  let part = 2u * h % 85u;
  let p = (v * (255u - s) * 2u + 255u) / 510u;
  let q = (v * (21675u - s * part) * 2u + 21675u) / 43350u;
  let t = (v * (21675u - s * (85u - part)) * 2u + 21675u) / 43350u;
  switch sector {
    case 1u: { return vec3u(q, v, p); }
    case 2u: { return vec3u(p, v, t); }
    case 3u: { return vec3u(p, q, v); }
    case 4u: { return vec3u(t, p, v); }
    case 5u: { return vec3u(v, p, q); }
    default: { return vec3u(v, t, p); }
  }
}
fn change(operation: u32, colour: vec3u, crop: Crop, mean: u32) -> vec3u {
  switch operation {
    case 0u: { return blend(vec3u(0u), colour, crop.brightness); }
    case 1u: { return blend(vec3u(mean), colour, crop.contrast); }
    case 2u: { return blend(vec3u(luma(colour)), colour, crop.saturation); }
    default: { return shiftHue(colour, crop.hueShift); }
  }
}`;

/**
 * Sum of the luma over each column of each crop, at the moment when contrast is due. Buffers: crops, pixels
 * `[crops, size, size]`, result u32 `[crops, size]`.
 */
export function contrastColumns({ crops, size }: AugmentShape): Kernel {
  return once(`augment contrast columns ${crops}x${size}`, () =>
    perCrop({
      label: `augment contrast columns ${crops}x${size}`,
      storage: [["crops", "read", "Crop"], ["pixels", "read", "u32"], ["result", "write", "u32"]],
      crops,
      invocations: size,
      prelude: COLOUR_WGSL,
      body: `
  let crop = crops[n];
  if ((crop.flags & JITTER) == 0u) { return; }
  var sum = 0u;
  for (var y = 0u; y < ${size}u; y++) {
    var colour = unpackPixel(pixels[(n * ${size}u + y) * ${size}u + i]);
    for (var order = crop.order; (order & 3u) != 1u; order >>= 2u) { colour = change(order & 3u, colour, crop, 0u); }
    sum += luma(colour);
  }
  result[n * ${size}u + i] = sum;`,
    }));
}

/** Rounded mean of the luma of each crop. Buffers: column sums u32 `[crops, size]`, result u32 `[crops]`. */
export function contrastMeans({ crops, size }: AugmentShape): Kernel {
  const label = `augment contrast means ${crops}x${size}`;
  return once(label, () => ({
    label,
    wgsl: `@group(0) @binding(0) var<storage, read> columns: array<u32>;
@group(0) @binding(1) var<storage, read_write> result: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${crops}u) { return; }
  var sum = 0u;
  for (var i = 0u; i < ${size}u; i++) { sum += columns[id.x * ${size}u + i]; }
  result[id.x] = (2u * sum + ${size * size}u) / ${2 * size * size}u;
}
`,
    bindings: ["read", "write"],
    workgroups: [Math.ceil(crops / 64), 1, 1],
  }));
}

/**
 * Colour jitter and grayscale in place. Crops without blur are finished here: they are written to `result`, normalised.
 * Buffers: crops, means u32 `[crops]`, pixels `[crops, size, size]`, result f32 `[crops, size, size, 3]`.
 */
export function colourCrops({ crops, size }: AugmentShape, normalisation = IMAGENET_NORMALISATION): Kernel {
  return once(`augment colour ${crops}x${size} ${JSON.stringify(normalisation)}`, () =>
    perCrop({
      label: `augment colour ${crops}x${size}`,
      storage: [["crops", "read", "Crop"], ["means", "read", "u32"], ["pixels", "write", "u32"], [
        "result",
        "write",
        "f32",
      ]],
      crops,
      invocations: size * size,
      prelude: `${COLOUR_WGSL}\n${writeNormalised(size, normalisation)}`,
      body: `
  let crop = crops[n];
  var colour = unpackPixel(pixels[n * ${size * size}u + i]);
  if ((crop.flags & JITTER) != 0u) {
    let mean = means[n];
    var order = crop.order;
    for (var place = 0u; place < 4u; place++) {
      colour = change(order & 3u, colour, crop, mean);
      order >>= 2u;
    }
  }
  if ((crop.flags & GRAY) != 0u) { colour = vec3u(luma(colour)); }
  if ((crop.flags & BLUR) != 0u) { pixels[n * ${size * size}u + i] = packPixel(colour); }
  else { writeNormalised(n, i, colour); }`,
    }));
}

/** Pillow's `ImagingBlend` of two bytes, in C floats. */
function blendReference(from: number, to: number, factor: number): number {
  const f = Math.fround;
  return Math.trunc(Math.min(255, Math.max(0, f(from + f(f(factor) * (to - from))))));
}

/** Reference of the colour kernels for one crop: uint8 `[size, size, 3]` to the same, without normalisation. */
export function colourReference(pixels: Uint8Array, crop: AugmentCrop): Uint8Array<ArrayBuffer> {
  const colours: Triple[] = [];
  for (let i = 0; i < pixels.length; i += 3) colours.push([pixels[i], pixels[i + 1], pixels[i + 2]]);
  const each = (apply: (colour: Triple) => Triple): void => colours.forEach((c, i) => colours[i] = apply(c));
  const blendAll = (from: (colour: Triple) => number, factor: number): void =>
    each((c) => [
      blendReference(from(c), c[0], factor),
      blendReference(from(c), c[1], factor),
      blendReference(from(c), c[2], factor),
    ]);
  for (const operation of crop.jitter ? crop.order : []) {
    if (operation === 0) blendAll(() => 0, crop.brightness);
    else if (operation === 1) {
      const mean = Math.trunc(colours.reduce((sum, c) => sum + luma(c), 0) / colours.length + 0.5);
      blendAll(() => mean, crop.contrast);
    } else if (operation === 2) blendAll(luma, crop.saturation);
    else {
      each((c) => {
        const [h, s, v] = toHsv(c);
        return toRgb([(h + hueShift(crop.hue)) & 255, s, v]);
      });
    }
  }
  if (crop.gray) each((c) => [luma(c), luma(c), luma(c)]);
  return Uint8Array.from(colours.flat());
}
