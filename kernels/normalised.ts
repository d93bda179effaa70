/**
 * Passes over a raw output `x [images, pixels, channels]` of a convolution that a software adapter runs beside its
 * convolutions, where GPUs fuse them into loads and stores: normalise (ReLU, gate), moments, and the mask with the sums of
 * the gradient. What the tables hold is told in `batch_norm.ts`, the partial sums are its own.
 */
import { batchNormPartition, batchNormRowsWgsl } from "./batch_norm.ts";
import type { InputLoad } from "./conv2d_shape.ts";
import type { Kernel } from "./kernel.ts";
import { cellsOf, storageFeatures } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { blockSums, chunkRowsWgsl, once, perPixel, pointwise, vectorOf } from "./wgsl.ts";

/** A raw output and what is done with it. */
export interface NormalisedShape {
  readonly images: number;
  /** H · W. */
  readonly pixels: number;
  readonly channels: number;
  readonly load: Exclude<InputLoad, "plain">;
  readonly storage: Storage;
}

const nameOf = ({ images, pixels, channels, load, storage }: NormalisedShape) =>
  `${load} ${images}x${pixels}x${channels} ${storage}`;

/** What a convolution's load makes of each number. Buffers: x, normaliser, (gate,) result. */
export function normalisedLoad(shape: NormalisedShape): Kernel {
  return once(`load ${nameOf(shape)}`, () => {
    const { channels, load, storage } = shape;
    const { element, width } = vectorOf(channels);
    const lanes = channels / width;
    const cells = cellsOf(storage, width);
    const gated = load === "normalised relu gated";
    const normalised = `(x_ - normaliser[c]) * normaliser[${lanes}u + c] + normaliser[${2 * lanes}u + c]`;
    const relu = load === "normalised" ? normalised : `max(${normalised}, ${element}(0))`;
    return {
      ...perPixel({
        label: `load ${nameOf(shape)}`,
        storage: [
          ["x", "read", cells.type],
          ["normaliser", "read", element],
          ...(gated ? [["gate", "read", element] as const] : []),
          ["result", "write", cells.type],
        ],
        shape,
        lanes,
        setup: `let pixels = ${shape.pixels}u;`,
        body: `
  let c = inside % ${lanes}u;
  let x_ = ${cells.load("x[i]")};
  result[i] = ${cells.store(gated ? `${relu} * gate[image * ${lanes}u + c]` : relu)};`,
      }),
      requires: storageFeatures(storage),
    };
  });
}

/**
 * Goes back through the ReLU of a "normalised relu" load, in place, and sums for the gradient of the normalisation.
 * Buffers: raw, normaliser, gradient (towards the loaded values; afterwards towards the normalised ones), partials
 * `[chunks, 2, channels]`: Σ g and Σ g · (raw − mean).
 */
export function maskedGradientSums(shape: NormalisedShape): Kernel {
  return once(`gradient sums ${nameOf(shape)}`, () => {
    const { channels, load, storage } = shape;
    const { element, lanes, chunks } = batchNormPartition({ rows: shape.images * shape.pixels, channels });
    const cells = cellsOf(storage, element === "f32" ? 1 : 4);
    const relu = load !== "normalised";
    const mask = relu
      ? `select(${element}(0), ${cells.load("g[at]")}, d * factor + beta > ${element}(0)); g[at] = ${
        cells.store("masked")
      };`
      : `${cells.load("g[at]")};`;
    return {
      ...pointwise({
        label: `gradient sums ${nameOf(shape)}`,
        storage: [
          ["x", "read", cells.type],
          ["normaliser", "read", element],
          ["g", "write", cells.type],
          ["partials", "write", element],
        ],
        invocations: chunks * lanes,
        count: "arrayLength(&partials) / 2u",
        body: `
  ${batchNormRowsWgsl(lanes)}
  ${chunkRowsWgsl(lanes)}
  let column = i % ${lanes}u;
  let chunk = i / ${lanes}u;
  let first = chunk * chunkRows;
  let end = min(first + chunkRows, rows);
  let mean = normaliser[column];
  let factor = normaliser[${lanes}u + column];
  let beta = normaliser[${2 * lanes}u + column];${
          blockSums({
            element,
            first: `first * ${lanes}u + column`,
            end: `end * ${lanes}u`,
            stride: lanes,
            setup: `let d = ${cells.load("x[at]")} - mean; let masked = ${mask}`,
            sums: { total: "masked", product: "masked * d" },
          })
        }
  partials[chunk * ${2 * lanes}u + column] = total;
  partials[chunk * ${2 * lanes}u + ${lanes}u + column] = product;`,
      }),
      requires: storageFeatures(storage),
    };
  });
}

/** {@linkcode normalisedLoad} on the CPU, in double precision. */
export function normalisedLoadReference(
  x: ArrayLike<number>,
  { normaliser, gate }: { normaliser: ArrayLike<number>; gate?: ArrayLike<number> },
  { images, pixels, channels, load }: Omit<NormalisedShape, "storage">,
): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: images * pixels * channels }, (_, at) => {
    const c = at % channels, image = Math.floor(at / (pixels * channels));
    const normalised = (x[at] - normaliser[c]) * normaliser[channels + c] + normaliser[2 * channels + c];
    const positive = load === "normalised" ? normalised : Math.max(normalised, 0);
    return load === "normalised relu gated" && gate !== undefined ? positive * gate[image * channels + c] : positive;
  });
}

/** {@linkcode maskedGradientSums} on the CPU: the masked gradient, and the sums over all chunks `[2, channels]`. */
export function maskedGradientSumsReference(
  { raw, gradient, normaliser }: Readonly<Record<"raw" | "gradient" | "normaliser", ArrayLike<number>>>,
  { channels, load }: Pick<NormalisedShape, "channels" | "load">,
): { gradient: Float32Array<ArrayBuffer>; sums: Float32Array<ArrayBuffer> } {
  const sums = new Float64Array(2 * channels);
  const masked = Float32Array.from({ length: raw.length }, (_, at) => {
    const c = at % channels, d = raw[at] - normaliser[c];
    const inside = load === "normalised" || d * normaliser[channels + c] + normaliser[2 * channels + c] > 0;
    const value = inside ? gradient[at] : 0;
    sums[c] += value;
    sums[channels + c] += value * d;
    return value;
  });
  return { gradient: masked, sums: Float32Array.from(sums) };
}
