/**
 * The gradient of batch normalisation (and of the ReLU behind it): two sums over the rows, then the gradient towards x.
 * The tables and the partition are those of `batch_norm.ts`, where the reference is too.
 */
import {
  batchNormName,
  batchNormOverRows,
  batchNormPartition,
  batchNormRowsWgsl,
  type BatchNormShape,
} from "./batch_norm.ts";
import type { Kernel } from "./kernel.ts";
import { type Cells, storageFeatures } from "./tiles.ts";
import { blockSums, chunkRowsWgsl, once, pointwise } from "./wgsl.ts";

/** Floats of the buffer between the two passes of the gradient sums. */
export function batchNormGradientPartials(shape: BatchNormShape): number {
  return 2 * batchNormPartition(shape).chunks * shape.channels;
}

const masked = ({ element, cells }: { element: string; cells: Cells }, relu: boolean) =>
  relu
    ? `select(${element}(0), ${cells.load("g[at]")}, (${cells.load("x[at]")} - mean) * factor + beta > ${element}(0))`
    : cells.load("g[at]");

const loadTable = (lanes: number) =>
  `let mean = normaliser[column]; let factor = normaliser[${lanes}u + column]; let beta = normaliser[${
    2 * lanes
  }u + column]; let inverse = normaliser[${3 * lanes}u + column];`;

/**
 * First pass of the gradient sums. Buffers: upstream gradient, x, normaliser, partials `[chunks, 2, channels]`
 * (sum of g, sum of g * (x - mean)), g behind the ReLU if there was one.
 */
export function batchNormGradientSums(shape: BatchNormShape, options: { relu: boolean }): Kernel {
  return once(`batch norm gradient sums ${batchNormName(shape)} ${options.relu}`, () => {
    const { element, lanes, chunks, cells } = batchNormPartition(shape);
    return {
      ...pointwise({
        label: `batch norm gradient sums ${batchNormName(shape)}`,
        storage: [["g", "read", cells.type], ["x", "read", cells.type], ["normaliser", "read", element], [
          "partials",
          "write",
          element,
        ]],
        invocations: chunks * lanes,
        count: "arrayLength(&partials) / 2u",
        body: `
  ${batchNormRowsWgsl(lanes)}
  ${chunkRowsWgsl(lanes)}
  let column = i % ${lanes}u;
  let chunk = i / ${lanes}u;
  let first = chunk * chunkRows;
  let end = min(first + chunkRows, rows);
  ${loadTable(lanes)}${
          blockSums({
            element,
            first: `first * ${lanes}u + column`,
            end: `end * ${lanes}u`,
            stride: lanes,
            setup: `let d = ${masked({ element, cells }, options.relu)};`,
            sums: { total: "d", product: `d * (${cells.load("x[at]")} - mean)` },
          })
        }
  partials[chunk * ${2 * lanes}u + column] = total;
  partials[chunk * ${2 * lanes}u + ${lanes}u + column] = product;`,
      }),
      requires: storageFeatures(shape.storage ?? "f32"),
    };
  });
}

/**
 * Second pass of the gradient sums. Buffers: partials, normaliser, gradient of gamma, gradient of beta, and sums
 * `[2, channels]`, which {@linkcode batchNormInputGradient} divides by the rows.
 */
export function batchNormGradientCombine(shape: BatchNormShape): Kernel {
  return once(`batch norm gradient combine ${batchNormName(shape)}`, () => {
    const { element, lanes } = batchNormPartition(shape);
    return pointwise({
      label: `batch norm gradient combine ${batchNormName(shape)}`,
      storage: [
        ["partials", "read", element],
        ["normaliser", "read", element],
        ["gammaGradient", "write", element],
        ["betaGradient", "write", element],
        ["sums", "write", element],
      ],
      invocations: lanes,
      count: `${lanes}u`,
      body: `${
        blockSums({
          element,
          first: "i",
          end: "arrayLength(&partials)",
          stride: 2 * lanes,
          sums: { total: "partials[at]", product: `partials[at + ${lanes}u]` },
        })
      }
  gammaGradient[i] = product * normaliser[${3 * lanes}u + i];
  betaGradient[i] = total;
  sums[i] = total;
  sums[${lanes}u + i] = product;`,
    });
  });
}

/** Chunks that {@linkcode batchNormGradientCombine} adds up as they are; more are merged before. */
export const GRADIENT_CHUNKS_MAX = 256;
/** Chunks after merging. */
const GRADIENT_CHUNKS_MERGED = 32;

/**
 * Merges neighbouring chunks of gradient sums, in order, where they are many: one invocation a channel walks through what
 * is left. Buffers: partials `[chunks, 2, channels]`, merged.
 */
export function batchNormGradientMerge(
  { chunks, channels }: { chunks: number; channels: number },
): { kernel: Kernel; mergedCount: number } {
  const each = Math.ceil(chunks / GRADIENT_CHUNKS_MERGED);
  const merged = Math.ceil(chunks / each);
  const { element, lanes } = batchNormPartition({ rows: 1, channels });
  const kernel = once(`batch norm gradient merge ${chunks} ${channels}`, () =>
    pointwise({
      label: `batch norm gradient merge ${chunks}x${channels}`,
      storage: [["partials", "read", element], ["merged", "write", element]],
      invocations: merged * lanes,
      count: "arrayLength(&merged) / 2u",
      body: `
  let first = i / ${lanes}u * ${2 * each * lanes}u + i % ${lanes}u;
  let to = i / ${lanes}u * ${2 * lanes}u + i % ${lanes}u;${
        blockSums({
          element,
          first: "first",
          end: `min(first + ${2 * each * lanes}u, arrayLength(&partials))`,
          stride: 2 * lanes,
          sums: { total: "partials[at]", product: `partials[at + ${lanes}u]` },
        })
      }
  merged[to] = total;
  merged[to + ${lanes}u] = product;`,
    }));
  return { kernel, mergedCount: 2 * merged * channels };
}

/**
 * Gradient towards x. `training` takes the part that flows through the statistics into account. Buffers: upstream
 * gradient, x, normaliser, sums (only when training; a group's scaled to this replica's rows), result; with `inPlace` x,
 * normaliser, (sums,) gradient, which is overwritten by the result.
 */
export function batchNormInputGradient(
  shape: BatchNormShape,
  options: { relu: boolean; training: boolean; inPlace?: boolean },
): Kernel {
  const { relu, training, inPlace = false } = options;
  return once(`batch norm input gradient ${batchNormName(shape)} ${relu} ${training} ${inPlace}`, () => {
    const { element, lanes, cells } = batchNormPartition(shape);
    return {
      ...pointwise({
        label: `batch norm input gradient ${batchNormName(shape)}`,
        storage: [
          ...(inPlace ? [] : [["g", "read", cells.type] as const]),
          ["x", "read", cells.type],
          ["normaliser", "read", element],
          ...(training ? [["sums", "read", element] as const] : []),
          [inPlace ? "g" : "result", "write", cells.type],
        ],
        ...batchNormOverRows(
          shape,
          loadTable(lanes) +
            (training
              ? ` let shift = sums[column] / f32(rows); let slope = sums[${lanes}u + column] / f32(rows) * inverse * inverse;`
              : ""),
          `let d = ${masked({ element, cells }, relu)};
    ${inPlace ? "g" : "result"}[at] = ${
            cells.store(`factor * ${training ? `(d - shift - (${cells.load("x[at]")} - mean) * slope)` : "d"}`)
          };`,
        ),
      }),
      requires: storageFeatures(shape.storage ?? "f32"),
    };
  });
}
