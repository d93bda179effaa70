/**
 * Convolution forward, as an implicit matrix multiply: lanes lie along output pixels, each computes a register tile of
 * pixels × output channels, and the weights, which all lanes need, are loaded once for all. A sum runs over (ky, kx,
 * input channel) in that order.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import type { Kernel } from "./kernel.ts";
import {
  cellsOf,
  chosen,
  gather,
  LANES,
  memoized,
  OPAQUE_ZERO,
  range,
  registerTile,
  sharedValues,
  sharing,
  storageFeatures,
  tileGrid,
  unroll,
  vectorWidth,
} from "./tiles.ts";

/**
 * Of a shape's fused passes this kernel knows none: it reads its input as it is and gives no moments.
 *
 * output[n, y, x, o] = Σ input[n, y·stride + ky − padding, x·stride + kx − padding, c] · weight[ky, kx, c, o].
 */
export const conv2dForward: (shape: Conv2dShape) => Kernel = memoized((shape) =>
  sharing((how) => {
    const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
    const { storage = "f32" } = shape;
    const output = conv2dOutput(shape);
    const groupIn = inChannels / groups;
    const groupOut = outChannels / groups;
    const pixels = batch * output.height * output.width;
    const { rows, columns } = registerTile(pixels, groupOut);
    const columnTiles = Math.ceil(groupOut / columns);
    const grid = tileGrid(Math.ceil(pixels / (rows * LANES)) * columnTiles * groups);
    const outWidth = vectorWidth(groupOut, columns);
    const one = cellsOf(storage), several = cellsOf(storage, outWidth);
    const padded = padding > 0;
    const ragged = groupOut % columns !== 0;
    const column = (j: number) => range(rows).map((i) => `sum${i}_${j}`);
    const weights = sharedValues("weight", {
      count: columns,
      sharing: how,
      at: (j) => one.load(`weights[weightRow + min(firstOut + ${j}, ${groupOut - 1}u)]`),
    });

    const wgsl = `// Each invocation computes ${rows} pixels, ${LANES} apart, × ${columns} output channels.
@group(0) @binding(0) var<storage, read> input: array<${one.type}, ${output.inputLength}>;
@group(0) @binding(1) var<storage, read> weights: array<${one.type}, ${output.weightLength}>;
@group(0) @binding(2) var<storage, read_write> output: array<${several.type}, ${output.outputLength / outWidth}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let tile = ${grid.tile};
let columnTile = tile % ${columnTiles * groups}u;
let group = columnTile / ${columnTiles}u;
let firstOut = (columnTile % ${columnTiles}u) * ${columns}u;
let firstPixel = (tile / ${columnTiles * groups}u) * ${rows * LANES}u + lane;
${
      unroll(rows, (i) =>
        `let pixel${i} = min(firstPixel + ${i * LANES}u, ${pixels - 1}u);
let image${i} = pixel${i} / ${output.height * output.width}u;
let y${i} = i32((pixel${i} / ${output.width}u) % ${output.height}u) * ${stride} - ${padding};
let x${i} = i32(pixel${i} % ${output.width}u) * ${stride} - ${padding};
${unroll(columns, (j) => `var sum${i}_${j} = 0.0;`)}`)
    }
for (var ky = 0; ky < ${kernelHeight} + i32(opaque); ky++) {
for (var kx = 0; kx < ${kernelWidth} + i32(opaque); kx++) {
${
      unroll(rows, (i) =>
        `${padded ? `let inside${i} = u32(y${i} + ky) < ${height}u && u32(x${i} + kx) < ${width}u;` : ""}
let base${i} = ((image${i} * ${height}u + u32(y${i} + ky)) * ${width}u + u32(x${i} + kx)) * ${inChannels}u + group * ${groupIn}u;`)
    }
let weightTap = u32(ky * ${kernelWidth} + kx) * ${groupIn * outChannels}u + group * ${groupOut}u;
for (var c = 0u; c < ${groupIn}u + opaque; c++) {
let weightRow = weightTap + c * ${outChannels}u;
${weights.load}
${
      unroll(rows, (i) =>
        `let in${i} = ${
          padded ? `select(0.0, ${one.load(`input[base${i} + c]`)}, inside${i})` : one.load(`input[base${i} + c]`)
        };
${
          unroll(columns, (j) => `sum${i}_${j} = fma(in${i}, ${weights.values[j]}, sum${i}_${j});`)
        }`)
    }
}
}
}
let outBase = group * ${groupOut}u + firstOut;
for (var row = 0u; row < ${rows}u + opaque; row++) {
let pixel = firstPixel + row * ${LANES}u;
if (pixel < ${pixels}u) {
let destination = (pixel * ${outChannels}u + outBase) / ${outWidth}u;
${
      unroll(columns / outWidth, (j) => {
        const value = gather(range(outWidth).map((u) => chosen(column(j * outWidth + u), "row")));
        const store = `output[destination + ${j}u] = ${several.store(value)};`;
        return ragged ? `if (firstOut + ${j * outWidth}u < ${groupOut}u) { ${store} }` : store;
      })
    }
}
}
}
`;
    return {
      label: `conv2d forward ${describeConv2d(shape)}`,
      wgsl,
      bindings: ["read", "read", "write"],
      workgroups: grid.workgroups,
      requires: storageFeatures(storage),
    };
  })
);

/** The plain sum behind {@linkcode conv2dForward}, in double precision. */
export function conv2dForwardReference(
  shape: Conv2dShape,
  { input, weight }: { input: Float32Array; weight: Float32Array },
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(conv2dOutput(shape).outputLength);
  const sums = new Float64Array(result.length);
  eachTap(shape, ({ input: at, weight: by, output: to }) => sums[to] += input[at] * weight[by]);
  result.set(sums);
  return result;
}

/** Calls `visit` with the offsets of every product that a convolution sums. */
export function eachTap(
  shape: Conv2dShape,
  visit: (offsets: { input: number; weight: number; output: number }) => void,
): void {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const offsets = { input: 0, weight: 0, output: 0 };
  for (let position = 0; position < batch * output.height * output.width; position++) {
    const image = Math.floor(position / (output.height * output.width));
    const y = Math.floor(position / output.width) % output.height;
    const x = position % output.width;
    for (let tap = 0; tap < kernelHeight * kernelWidth; tap++) {
      const inY = y * stride + Math.floor(tap / kernelWidth) - padding;
      const inX = x * stride + (tap % kernelWidth) - padding;
      if (inY < 0 || inY >= height || inX < 0 || inX >= width) continue;
      for (let o = 0; o < outChannels; o++) {
        const firstIn = Math.floor(o / groupOut) * groupIn;
        for (let c = 0; c < groupIn; c++) {
          offsets.input = ((image * height + inY) * width + inX) * inChannels + firstIn + c;
          offsets.weight = (tap * groupIn + c) * outChannels + o;
          offsets.output = position * outChannels + o;
          visit(offsets);
        }
      }
    }
  }
}
