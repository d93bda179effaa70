/**
 * Average pooling to a grid of any size (PyTorch's `adaptive_avg_pool2d`): cell (y, x) of `[rows, columns]` averages the
 * pixels from floor(y · H / rows) to ceil((y + 1) · H / rows). Linear probes of inner layers use it. It has no gradient.
 */
import type { Kernel } from "./kernel.ts";
import { once, pointwise, vectorOf } from "./wgsl.ts";

/** Static shape of a pooling: `[images, height, width, channels]` to `[images, rows, columns, channels]`. */
export interface PoolGridShape {
  readonly images: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly rows: number;
  readonly columns: number;
}

/** Buffers: x, result. One invocation per cell and channel(s), in order over the cell's pixels. */
export function poolGrid(shape: PoolGridShape): Kernel {
  const { images, height, width, channels, rows, columns } = shape;
  const name = `pool ${images}x${height}x${width}x${channels} to ${rows}x${columns}`;
  return once(name, () => {
    const { element, width: lanesEach } = vectorOf(channels);
    const lanes = channels / lanesEach;
    return pointwise({
      label: name,
      storage: [["x", "read", element], ["result", "write", element]],
      invocations: images * rows * columns * lanes,
      count: "arrayLength(&result)",
      body: `
  let channel = i % ${lanes}u;
  let cell = i / ${lanes}u;
  let column = cell % ${columns}u;
  let row = cell / ${columns}u % ${rows}u;
  let image = cell / ${rows * columns}u;
  let top = row * ${height}u / ${rows}u;
  let bottom = ((row + 1u) * ${height}u + ${rows - 1}u) / ${rows}u;
  let left = column * ${width}u / ${columns}u;
  let right = ((column + 1u) * ${width}u + ${columns - 1}u) / ${columns}u;
  var total = ${element}(0);
  for (var y = top; y < bottom; y++) {
    for (var x_ = left; x_ < right; x_++) {
      total += x[((image * ${height}u + y) * ${width}u + x_) * ${lanes}u + channel];
    }
  }
  result[i] = total / f32((bottom - top) * (right - left));`,
    });
  });
}

/** {@linkcode poolGrid} on the CPU, in double precision. */
export function poolGridReference(x: Float32Array, shape: PoolGridShape): Float32Array<ArrayBuffer> {
  const { images, height, width, channels, rows, columns } = shape;
  const result = new Float32Array(images * rows * columns * channels);
  for (let at = 0; at < result.length; at++) {
    const channel = at % channels, cell = Math.floor(at / channels);
    const column = cell % columns, row = Math.floor(cell / columns) % rows, image = Math.floor(cell / (rows * columns));
    let total = 0, count = 0;
    for (let y = Math.floor(row * height / rows); y < Math.ceil((row + 1) * height / rows); y++) {
      for (let h = Math.floor(column * width / columns); h < Math.ceil((column + 1) * width / columns); h++) {
        total += x[((image * height + y) * width + h) * channels + channel];
        count++;
      }
    }
    result[at] = total / count;
  }
  return result;
}
