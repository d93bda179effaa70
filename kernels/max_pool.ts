/**
 * Max pooling of `x [N, H, W, C]` with a 3×3 window, stride 2 and padding 1 (the stem of a ResNet), and its gradient. Where
 * several pixels of a window are largest, the first in order of rows has the gradient, as in PyTorch. Each invocation of
 * the gradient gathers from the windows that hold its pixel, so the order of sums is fixed. It knows no layer.
 */
import type { Kernel } from "./kernel.ts";
import { cellsOf, storageFeatures } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { once, perPixel, vectorOf } from "./wgsl.ts";

/** Static shape of the images that are pooled. */
export interface MaxPoolShape {
  readonly images: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** How images, results and gradients are stored. @default "f32" */
  readonly storage?: Storage;
}

/** Side of the result: floor((side − 1) / 2) + 1. */
export function maxPoolSide(side: number): number {
  return Math.floor((side - 1) / 2) + 1;
}

function describe({ images, height, width, channels, storage = "f32" }: MaxPoolShape) {
  const { element, width: lanesEach } = vectorOf(channels);
  return {
    name: `${images}x${height}x${width}x${channels} ${storage}`,
    element,
    lanes: channels / lanesEach,
    cells: cellsOf(storage, lanesEach),
    requires: storageFeatures(storage),
    rows: maxPoolSide(height),
    columns: maxPoolSide(width),
  };
}

/** Largest of each window. Buffers: x, result `[N, H', W', C]`. */
export function maxPool(shape: MaxPoolShape): Kernel {
  const { name, lanes, cells, requires, rows, columns } = describe(shape);
  const { images, height, width } = shape;
  return once(`max pool ${name}`, () => ({
    ...perPixel({
      label: `max pool ${name}`,
      storage: [["x", "read", cells.type], ["result", "write", cells.type]],
      shape: { images, pixels: rows * columns },
      lanes,
      setup: `let pixels = ${rows * columns}u;`,
      body: `
  let base = image * ${height * width * lanes}u + inside % ${lanes}u;
  let row = inside / ${lanes}u / ${columns}u;
  let column = inside / ${lanes}u % ${columns}u;
  let bottom = min(2u * row + 2u, ${height}u);
  let left = max(2u * column, 1u) - 1u;
  let right = min(2u * column + 2u, ${width}u);
  var y = max(2u * row, 1u) - 1u;
  var best = ${cells.load(`x[base + (y * ${width}u + left) * ${lanes}u]`)};
  for (; y < bottom; y++) {
    for (var column_ = left; column_ < right; column_++) {
      best = max(best, ${cells.load(`x[base + (y * ${width}u + column_) * ${lanes}u]`)});
    }
  }
  result[i] = ${cells.store("best")};`,
    }),
    requires,
  }));
}

/** Gradient of {@linkcode maxPool}. Buffers: x, its result, upstream gradient `[N, H', W', C]`, gradient towards x. */
export function maxPoolGradient(shape: MaxPoolShape): Kernel {
  const { name, element, lanes, cells, requires, rows, columns } = describe(shape);
  const { images, height, width } = shape;
  return once(`max pool gradient ${name}`, () => ({
    ...perPixel({
      label: `max pool gradient ${name}`,
      storage: [["x", "read", cells.type], ["y", "read", cells.type], ["g", "read", cells.type], [
        "result",
        "write",
        cells.type,
      ]],
      shape: { images, pixels: height * width },
      lanes,
      setup: `let pixels = ${height * width}u;`,
      body: `
  let lane = inside % ${lanes}u;
  let base = image * ${height * width * lanes}u + lane;
  let row = inside / ${lanes}u / ${width}u;
  let column = inside / ${lanes}u % ${width}u;
  let bottom = min((row + 1u) / 2u, ${rows - 1}u);
  let right = min((column + 1u) / 2u, ${columns - 1}u);
  let value = ${cells.load("x[i]")};
  var total = ${element}(0);
  for (var top = row / 2u; top <= bottom; top++) {
    for (var left = column / 2u; left <= right; left++) {
      let at = ((image * ${rows}u + top) * ${columns}u + left) * ${lanes}u + lane;
      var first = value == ${cells.load("y[at]")};
      if (!any(first)) { continue; }
      for (var y = max(2u * top, 1u) - 1u; y <= row; y++) {
        let end = select(min(2u * left + 2u, ${width}u), column, y == row);
        for (var column_ = max(2u * left, 1u) - 1u; column_ < end; column_++) {
          first = first & (value != ${cells.load(`x[base + (y * ${width}u + column_) * ${lanes}u]`)});
        }
      }
      total += select(${element}(0), ${cells.load("g[at]")}, first);
    }
  }
  result[i] = ${cells.store("total")};`,
    }),
    requires,
  }));
}

/** CPU reference: the result, and the gradient towards x for the upstream gradient `g`. */
export function maxPoolReference(
  x: Float32Array,
  g: Float32Array,
  { images, height, width, channels }: MaxPoolShape,
): { output: Float32Array<ArrayBuffer>; gradient: Float32Array<ArrayBuffer> } {
  const rows = maxPoolSide(height), columns = maxPoolSide(width);
  const output = new Float32Array(images * rows * columns * channels).fill(-Infinity);
  const gradient = new Float32Array(x.length);
  for (let at = 0; at < output.length; at++) {
    const channel = at % channels, cell = Math.floor(at / channels);
    const column = cell % columns, row = Math.floor(cell / columns) % rows, image = Math.floor(cell / (rows * columns));
    let best = -1;
    for (let y = Math.max(0, 2 * row - 1); y < Math.min(height, 2 * row + 2); y++) {
      for (let w = Math.max(0, 2 * column - 1); w < Math.min(width, 2 * column + 2); w++) {
        const from = ((image * height + y) * width + w) * channels + channel;
        if (best < 0 || x[from] > x[best]) best = from;
      }
    }
    output[at] = x[best];
    gradient[best] += g[at];
  }
  return { output, gradient };
}
