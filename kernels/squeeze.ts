/**
 * Squeeze-and-excitation over a raw output `x [images, pixels, channels]` of a convolution whose normalisation and ReLU
 * happen on the way: the means that the gate is made of, and the way back through gate, means, ReLU and normalisation in
 * two passes over the activations. The first sums, for each image and channel, what every later sum is a combination of;
 * the second gives the gradient towards x. Sums go in two ordered steps, over chunks of pixels and over the chunks; they
 * and the tables (told in `batch_norm.ts`) are f32. It knows no layer.
 */
import type { Kernel } from "./kernel.ts";
import { type Cells, cellsOf } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { blockSums, once, perPixel, pointwise, vectorOf } from "./wgsl.ts";

/** Static shape of x. */
export interface SqueezeShape {
  readonly images: number;
  /** H · W. */
  readonly pixels: number;
  readonly channels: number;
  /** How x and the gradients towards it are stored. */
  readonly storage: Storage;
}

const nameOf = ({ images, pixels, channels, storage }: SqueezeShape) =>
  `${images}x${pixels}x${channels}${storage === "f32" ? "" : ` ${storage}`}`;

/** Invocations wanted of a pass that sums: enough to hide a GPU's memory latency. */
const INVOCATIONS_WANTED = 32_768;
/** Chunks that one invocation adds up afterwards, at most. */
const CHUNKS_MAX = 64;
const CHUNK_PIXELS_MIN = 32;

/** How the pixels of an image are shared among invocations. */
function split({ images, pixels, channels, storage }: SqueezeShape) {
  const { element, width } = vectorOf(channels);
  const lanes = channels / width;
  const wanted = Math.min(CHUNKS_MAX, Math.ceil(INVOCATIONS_WANTED / (images * lanes)));
  const chunkPixels = Math.max(CHUNK_PIXELS_MIN, Math.ceil(pixels / wanted));
  return { element, lanes, cells: cellsOf(storage, width), chunkPixels, chunks: Math.ceil(pixels / chunkPixels) };
}

/** Sums of each image and channel that the way back keeps: Σ g, Σ g · d, Σ 1, Σ d where ReLU lets through, d = x − mean. */
export const SQUEEZE_SUMS = 4;

/** Floats of the partial sums, of the means (`sums` 1) or of the way back ({@linkcode SQUEEZE_SUMS}). */
export function squeezePartials(shape: SqueezeShape, sums: 1 | 4): number {
  return shape.images * split(shape).chunks * sums * shape.channels;
}

const loadTable = (lanes: number) =>
  `let mean = normaliser[column]; let factor = normaliser[${lanes}u + column]; let beta = normaliser[${
    2 * lanes
  }u + column];`;

/** A pass over chunks of pixels, partials `[images, chunks, sums, channels]`. */
function chunkSums(
  shape: SqueezeShape,
  options: {
    readonly name: string;
    readonly inputs: readonly string[];
    readonly setup: (cells: Cells, element: string) => string;
    readonly sums: Readonly<Record<string, string>>;
  },
): Kernel {
  const label = `${options.name} ${nameOf(shape)}`;
  return once(label, () => {
    const { element, lanes, cells, chunkPixels, chunks } = split(shape);
    const { images, pixels } = shape;
    const names = Object.keys(options.sums);
    return pointwise({
      label,
      storage: [
        ...options.inputs.map((input) => [input, "read", cells.type] as const),
        ["normaliser", "read", element],
        ["partials", "write", element],
      ],
      invocations: images * chunks * lanes,
      count: `arrayLength(&partials) / ${names.length}u`,
      body: `
  let column = i % ${lanes}u;
  let part = i / ${lanes}u;
  let base = part / ${chunks}u * ${pixels}u;
  let first = part % ${chunks}u * ${chunkPixels}u;
  let end = min(first + ${chunkPixels}u, ${pixels}u);
  ${loadTable(lanes)}${
        blockSums({
          element,
          first: `(base + first) * ${lanes}u + column`,
          end: `(base + end) * ${lanes}u`,
          stride: lanes,
          setup: options.setup(cells, element),
          sums: options.sums,
        })
      }
  let to = part * ${names.length * lanes}u + column;
  ${names.map((name, j) => `partials[to + ${j * lanes}u] = ${name};`).join(" ")}`,
    });
  });
}

/** First step of the means of relu(normalised) over the pixels. Buffers: x, normaliser, partials. */
export function squeezeSums(shape: SqueezeShape): Kernel {
  return chunkSums(shape, {
    name: "squeeze",
    inputs: ["x"],
    setup: (cells, element) => `let y = max((${cells.load("x[at]")} - mean) * factor + beta, ${element}(0));`,
    sums: { total: "y" },
  });
}

/** Second step. Buffers: partials, means `[images, channels]`. */
export function squeezeMeans(shape: SqueezeShape): Kernel {
  return once(`squeeze means ${nameOf(shape)}`, () => {
    const { element, lanes, chunks } = split(shape);
    return pointwise({
      label: `squeeze means ${nameOf(shape)}`,
      storage: [["partials", "read", element], ["means", "write", element]],
      invocations: shape.images * lanes,
      count: "arrayLength(&means)",
      body: `
  let base = i / ${lanes}u * ${chunks * lanes}u + i % ${lanes}u;${
        blockSums({
          element,
          first: "base",
          end: `base + ${chunks * lanes}u`,
          stride: lanes,
          sums: { total: "partials[at]" },
        })
      }
  means[i] = total / ${shape.pixels}.0;`,
    });
  });
}

/** First step of the way back. Buffers: gradient towards the gated numbers, x, normaliser, partials. */
export function squeezeGradientSums(shape: SqueezeShape): Kernel {
  return chunkSums(shape, {
    name: "squeeze gradient sums",
    inputs: ["g", "x"],
    setup: (cells, element) =>
      `let d = ${cells.load("x[at]")} - mean;
      let open = select(${element}(0), ${element}(1), d * factor + beta > ${element}(0));
      let masked = select(${element}(0), ${cells.load("g[at]")}, d * factor + beta > ${element}(0));`,
    sums: { total: "masked", product: "masked * d", count: "open", distance: "open * d" },
  });
}

/**
 * Second step of the way back. Buffers: partials, normaliser, sums `[images, SQUEEZE_SUMS, channels]`, gradient towards
 * the gate `[images, channels]`.
 */
export function gateGradient(shape: SqueezeShape): Kernel {
  return once(`gate gradient ${nameOf(shape)}`, () => {
    const { element, lanes, chunks } = split(shape);
    const stride = SQUEEZE_SUMS * lanes;
    return pointwise({
      label: `gate gradient ${nameOf(shape)}`,
      storage: [
        ["partials", "read", element],
        ["normaliser", "read", element],
        ["sums", "write", element],
        ["gateGradient", "write", element],
      ],
      invocations: shape.images * lanes,
      count: "arrayLength(&gateGradient)",
      body: `
  let column = i % ${lanes}u;
  let image = i / ${lanes}u;
  let base = image * ${chunks * stride}u + column;${
        blockSums({
          element,
          first: "base",
          end: `base + ${chunks * stride}u`,
          stride,
          sums: {
            total: "partials[at]",
            product: `partials[at + ${lanes}u]`,
            count: `partials[at + ${2 * lanes}u]`,
            distance: `partials[at + ${3 * lanes}u]`,
          },
        })
      }
  let to = image * ${stride}u + column;
  sums[to] = total;
  sums[to + ${lanes}u] = product;
  sums[to + ${2 * lanes}u] = count;
  sums[to + ${3 * lanes}u] = distance;
  gateGradient[i] = product * normaliser[${lanes}u + column] + total * normaliser[${2 * lanes}u + column];`,
    });
  });
}

/**
 * Sums for the gradient of the normalisation, a chunk for each image. Buffers: sums, gate, gradient towards the means
 * `[images, channels]`, partials `[images, 2, channels]` as `batchNormGradientSums` writes them.
 */
export function squeezeNormSums(shape: Pick<SqueezeShape, "images" | "pixels" | "channels">): Kernel {
  const { images, pixels, channels } = shape;
  return once(`squeeze norm sums ${images} ${pixels} ${channels}`, () => {
    const { element, width } = vectorOf(channels);
    const lanes = channels / width;
    return pointwise({
      label: `squeeze norm sums ${images}x${channels}`,
      storage: [
        ["sums", "read", element],
        ["gate", "read", element],
        ["means", "read", element],
        ["partials", "write", element],
      ],
      invocations: images * lanes,
      count: "arrayLength(&gate)",
      body: `
  let source = i / ${lanes}u * ${SQUEEZE_SUMS * lanes}u + i % ${lanes}u;
  let to = i / ${lanes}u * ${2 * lanes}u + i % ${lanes}u;
  let each = means[i] / ${pixels}.0;
  partials[to] = gate[i] * sums[source] + each * sums[source + ${2 * lanes}u];
  partials[to + ${lanes}u] = gate[i] * sums[source + ${lanes}u] + each * sums[source + ${3 * lanes}u];`,
    });
  });
}

/** Pixels that one invocation handles, so that it loads its channel's tables once. */
const PIXELS_EACH = 4;

/**
 * Second pass of the way back, in place. Buffers: x, normaliser, gate, gradient towards the means, table "sums" `[2,
 * channels]` of the normalisation (only when training; a group's scaled to this replica's rows), gradient (towards the
 * gated numbers; afterwards towards x).
 */
export function squeezeInputGradient(shape: SqueezeShape, { training }: { training: boolean }): Kernel {
  return once(`squeeze input gradient ${nameOf(shape)} ${training}`, () => {
    const { images, pixels } = shape;
    const { element, lanes, cells } = split(shape);
    const runs = Math.ceil(pixels / PIXELS_EACH);
    const rows = images * pixels;
    const through = training ? "masked - shift - d * slope" : "masked";
    return perPixel({
      label: `squeeze input gradient ${nameOf(shape)}`,
      storage: [
        ["x", "read", cells.type],
        ["normaliser", "read", element],
        ["gate", "read", element],
        ["means", "read", element],
        ...(training ? [["sums", "read", element] as const] : []),
        ["g", "write", cells.type],
      ],
      shape: { images, pixels: runs },
      lanes,
      setup: `let pixels = ${runs}u;`,
      body: `
  let column = inside % ${lanes}u;
  let table = image * ${lanes}u + column;
  let opening = gate[table];
  let each = means[table] / ${pixels}.0;
  ${loadTable(lanes)}
  ${
        training
          ? `let inverse = normaliser[${3 * lanes}u + column]; let shift = sums[column] / ${rows}.0;
  let slope = sums[${lanes}u + column] / ${rows}.0 * inverse * inverse;`
          : ""
      }
  let first = inside / ${lanes}u * ${PIXELS_EACH}u;
  let end = min(first + ${PIXELS_EACH}u, ${pixels}u);
  for (var pixel = first; pixel < end; pixel++) {
    let at = (image * ${pixels}u + pixel) * ${lanes}u + column;
    let d = ${cells.load("x[at]")} - mean;
    let masked = select(${element}(0), ${cells.load("g[at]")} * opening + each, d * factor + beta > ${element}(0));
    g[at] = ${cells.store(`factor * (${through})`)};
  }`,
    });
  });
}
