/**
 * Batch normalisation over the rows of `x [rows, channels]` (NHWC flattened), optionally with ReLU: moments, normalise,
 * and the gradient. Moments are a mean and a sum of centred squares per chunk of rows, merged in order by Chan's formula,
 * so that a large mean costs no precision. Between the steps stand small per-channel tables (planar, `[n, channels]`),
 * which a caller may replace by tables summed over replicas. How replicas talk is not known here.
 *
 * Table "normaliser" `[4, channels]`: mean, gamma / sqrt(variance + epsilon), beta, 1 / sqrt(variance + epsilon).
 */
import type { Kernel } from "./kernel.ts";
import { cellsOf, storageFeatures } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { blockSums, chunkRowsWgsl, chunksOf, once, pointwise, vectorOf } from "./wgsl.ts";

/** Static shape of a batch normalisation. */
export interface BatchNormShape {
  /** N * H * W. */
  readonly rows: number;
  readonly channels: number;
  /** How x, and the gradients towards it and its result, are stored; tables and sums are f32. @default "f32" */
  readonly storage?: Storage;
}

/** The shape in a label. */
export const batchNormName = ({ rows, channels, storage = "f32" }: BatchNormShape) =>
  `${rows}x${channels}${storage === "f32" ? "" : ` ${storage}`}`;

function lanesOf(channels: number) {
  const { element, width } = vectorOf(channels);
  return { element, lanes: channels / width };
}

/** How rows and channels are shared among invocations. */
export function batchNormPartition({ rows, channels, storage = "f32" }: BatchNormShape) {
  const { element, lanes } = lanesOf(channels);
  return { element, lanes, cells: cellsOf(storage, element === "f32" ? 1 : 4), ...chunksOf(rows, lanes) };
}

/** Floats of the buffer between the two passes of the moments. */
export function batchNormMomentPartials(shape: BatchNormShape): number {
  return 3 * batchNormPartition(shape).chunks * shape.channels;
}

/** WGSL: `rows` of x. */
export const batchNormRowsWgsl = (lanes: number) => `let rows = arrayLength(&x) / ${lanes}u;`;

/**
 * First pass of the moments. Buffers: x, partials `[chunks, 3, channels]`: sum, centred sum of squares and rows of each chunk.
 * Squares are taken about the mean of the chunk's first 8 rows, then moved to the chunk's own mean.
 */
export function batchNormMoments(shape: BatchNormShape): Kernel {
  return once(`batch norm moments ${batchNormName(shape)}`, () => {
    const { element, lanes, chunks, cells } = batchNormPartition(shape);
    return {
      ...pointwise({
        label: `batch norm moments ${batchNormName(shape)}`,
        storage: [["x", "read", cells.type], ["partials", "write", element]],
        invocations: chunks * lanes,
        count: "arrayLength(&partials) / 3u",
        body: `
  ${batchNormRowsWgsl(lanes)}
  ${chunkRowsWgsl(lanes)}
  let column = i % ${lanes}u;
  let chunk = i / ${lanes}u;
  let first = chunk * chunkRows;
  let end = min(first + chunkRows, rows);
  var shift = ${element}(0);
  let headEnd = min(first + 8u, end);
  for (var row = first; row < headEnd; row++) { shift += ${cells.load(`x[row * ${lanes}u + column]`)}; }
  shift /= f32(headEnd - first);${
          blockSums({
            element,
            first: `first * ${lanes}u + column`,
            end: `end * ${lanes}u`,
            stride: lanes,
            setup: `let d = ${cells.load("x[at]")} - shift;`,
            sums: { total: "d", squares: "d * d" },
          })
        }
  let count = f32(end - first);
  let destination = chunk * ${3 * lanes}u + column;
  partials[destination] = total + shift * count;
  partials[destination + ${lanes}u] = max(squares - total * total / count, ${element}(0));
  partials[destination + ${2 * lanes}u] = ${element}(count);`,
      }),
      requires: storageFeatures(shape.storage ?? "f32"),
    };
  });
}

/** WGSL that merges the partial moments of channel(s) `i` into `sum`, `mean`, `count` and `squares` (centred). */
function mergeMoments({ channels }: { channels: number }): string {
  const { element, lanes } = lanesOf(channels);
  const stride = 3 * lanes;
  return `${
    blockSums({
      element,
      first: "i",
      end: "arrayLength(&partials)",
      stride,
      sums: { sum: "partials[at]", count: `partials[at + ${2 * lanes}u]` },
    })
  }
  let mean = sum / count;
  var squares = ${element}(0);
  for (var at = i; at < sums_end; at += ${stride}u) {
    let part = partials[at + ${2 * lanes}u];
    let d = partials[at] / part - mean;
    squares += partials[at + ${lanes}u] + d * d * part;
  }`;
}

const writeNormaliser = (lanes: number, epsilon: number) => `
  let inverse = inverseSqrt(variance + ${epsilon});
  normaliser[i] = mean;
  normaliser[${lanes}u + i] = gamma[i] * inverse;
  normaliser[${2 * lanes}u + i] = beta[i];
  normaliser[${3 * lanes}u + i] = inverse;`;

const moveRunning = (momentum: number) => `
  runningMean[i] += ${momentum} * (mean - runningMean[i]);
  runningVariance[i] += ${momentum} * (unbiased - runningVariance[i]);`;

/** Settings of the kernels that make a normaliser. */
export interface NormaliserOptions {
  readonly epsilon: number;
  /** When given, running statistics move towards this batch's by this share, the variance by its unbiased form. */
  readonly momentum?: number;
}

/**
 * Second pass of the moments, this replica alone. Buffers: partials, gamma, beta, normaliser, and with a momentum
 * running mean and running variance.
 */
export function batchNormNormaliser(shape: BatchNormShape, options: NormaliserOptions): Kernel {
  const { epsilon, momentum } = options;
  return once(`batch norm normaliser ${batchNormName(shape)} ${epsilon} ${momentum}`, () => {
    const { element, lanes } = batchNormPartition(shape);
    return pointwise({
      label: `batch norm normaliser ${batchNormName(shape)}`,
      storage: [
        ["partials", "read", element],
        ["gamma", "read", element],
        ["beta", "read", element],
        ["normaliser", "write", element],
        ...(momentum === undefined
          ? []
          : [["runningMean", "write", element] as const, ["runningVariance", "write", element] as const]),
      ],
      invocations: lanes,
      count: `${lanes}u`,
      body: `${mergeMoments(shape)}
  let variance = squares / count;${writeNormaliser(lanes, epsilon)}
  ${momentum === undefined ? "" : `let unbiased = squares / max(count - 1, ${element}(1));${moveRunning(momentum)}`}`,
    });
  });
}

/** Second pass of the moments for a synchronised group. Buffers: partials, moments `[2, channels]` (sum, centred squares). */
export function batchNormLocalMoments(shape: BatchNormShape): Kernel {
  return once(`batch norm local moments ${batchNormName(shape)}`, () => {
    const { element, lanes } = batchNormPartition(shape);
    return pointwise({
      label: `batch norm local moments ${batchNormName(shape)}`,
      storage: [["partials", "read", element], ["moments", "write", element]],
      invocations: lanes,
      count: `${lanes}u`,
      body: `${mergeMoments(shape)}
  moments[i] = sum;
  moments[${lanes}u + i] = squares;`,
    });
  });
}

/**
 * Normaliser from statistics that are known already: running ones in evaluation, a group's when synchronised. Buffers:
 * mean, variance, gamma, beta, normaliser; with a momentum also unbiased variance, running mean, running variance.
 */
export function batchNormNormaliserFrom(channels: number, options: NormaliserOptions): Kernel {
  const { epsilon, momentum } = options;
  return once(`batch norm normaliser from ${channels} ${epsilon} ${momentum}`, () => {
    const { element, lanes } = lanesOf(channels);
    return pointwise({
      label: `batch norm normaliser ${channels}`,
      storage: [
        ["means", "read", element],
        ["variances", "read", element],
        ["gamma", "read", element],
        ["beta", "read", element],
        ["normaliser", "write", element],
        ...(momentum === undefined ? [] : [
          ["unbiasedVariances", "read", element] as const,
          ["runningMean", "write", element] as const,
          ["runningVariance", "write", element] as const,
        ]),
      ],
      invocations: lanes,
      count: `${lanes}u`,
      body: `
  let mean = means[i];
  let variance = variances[i];${writeNormaliser(lanes, epsilon)}
  ${momentum === undefined ? "" : `let unbiased = unbiasedVariances[i];${moveRunning(momentum)}`}`,
    });
  });
}

/** Rows that one invocation of the elementwise passes handles, so that it loads its channel's table once. */
function rowsEach({ rows, channels }: BatchNormShape): number {
  return rows * channels >= 16_384 ? 4 : 1;
}

/** Body that runs `statement` for `at` over the rows of one invocation; `column` is its channel(s). */
export function batchNormOverRows(
  shape: BatchNormShape,
  setup: string,
  statement: string,
): { invocations: number; count: string; body: string } {
  const { lanes } = batchNormPartition(shape);
  const each = rowsEach(shape);
  return {
    invocations: Math.ceil(shape.rows / each) * lanes,
    count: `(arrayLength(&x) / ${lanes}u + ${each - 1}u) / ${each}u * ${lanes}u`,
    body: `
  ${batchNormRowsWgsl(lanes)}
  let column = i % ${lanes}u;
  let first = i / ${lanes}u * ${each}u;
  let end = min(first + ${each}u, rows);
  ${setup}
  for (var row = first; row < end; row++) {
    let at = row * ${lanes}u + column;
    ${statement}
  }`,
  };
}

/** `(x - mean) * scale + beta`, then ReLU if asked. Buffers: x, normaliser, result. */
export function batchNormApply(shape: BatchNormShape, options: { relu: boolean }): Kernel {
  return once(`batch norm apply ${batchNormName(shape)} ${options.relu}`, () => {
    const { element, lanes, cells } = batchNormPartition(shape);
    const y = options.relu ? `max(y, ${element}(0))` : "y";
    return pointwise({
      label: `batch norm apply ${batchNormName(shape)}`,
      storage: [["x", "read", cells.type], ["normaliser", "read", element], ["result", "write", cells.type]],
      ...batchNormOverRows(
        shape,
        `let mean = normaliser[column]; let factor = normaliser[${lanes}u + column]; let beta = normaliser[${
          2 * lanes
        }u + column];`,
        `let y = (${cells.load("x[at]")} - mean) * factor + beta; result[at] = ${cells.store(y)};`,
      ),
    });
  });
}

/** What {@linkcode batchNormReference} returns. */
export interface BatchNormReference {
  readonly output: Float32Array<ArrayBuffer>;
  readonly mean: Float32Array<ArrayBuffer>;
  readonly variance: Float32Array<ArrayBuffer>;
  readonly xGradient: Float32Array<ArrayBuffer>;
  readonly gammaGradient: Float32Array<ArrayBuffer>;
  readonly betaGradient: Float32Array<ArrayBuffer>;
}

/** CPU reference of the whole training pass in double precision: forward, and the gradients for upstream gradient `g`. */
export function batchNormReference(
  inputs: { x: Float32Array; gamma: Float32Array; beta: Float32Array; g: Float32Array },
  options: BatchNormShape & { epsilon: number; relu: boolean },
): BatchNormReference {
  const { x, gamma, beta, g } = inputs;
  const { rows, channels, epsilon, relu } = options;
  const [mean, variance, total, product] = Array.from({ length: 4 }, () => new Float64Array(channels));
  for (let i = 0; i < x.length; i++) mean[i % channels] += x[i] / rows;
  for (let i = 0; i < x.length; i++) variance[i % channels] += (x[i] - mean[i % channels]) ** 2 / rows;
  const inverse = variance.map((v) => 1 / Math.sqrt(v + epsilon));
  const unit = Float64Array.from(x, (v, i) => (v - mean[i % channels]) * inverse[i % channels]);
  const affine = unit.map((v, i) => v * gamma[i % channels] + beta[i % channels]);
  const behind = Float64Array.from(g, (v, i) => !relu || affine[i] > 0 ? v : 0);
  for (let i = 0; i < x.length; i++) {
    total[i % channels] += behind[i];
    product[i % channels] += behind[i] * unit[i];
  }
  const xGradient = behind.map((v, i) => {
    const c = i % channels;
    return gamma[c] * inverse[c] * (v - total[c] / rows - unit[i] * product[c] / rows);
  });
  return {
    output: Float32Array.from(affine, (v) => relu ? Math.max(v, 0) : v),
    mean: Float32Array.from(mean),
    variance: Float32Array.from(variance),
    xGradient: Float32Array.from(xGradient),
    gammaGradient: Float32Array.from(product),
    betaGradient: Float32Array.from(total),
  };
}
