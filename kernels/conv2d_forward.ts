/**
 * Convolution forward, as an implicit matrix multiply: lanes lie along output pixels, each computes a register tile of
 * pixels × output channels, and the weights, which do not depend on the lane, are loaded once for all lanes. A sum runs
 * over (ky, kx, input channel) in that order.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import type { Kernel } from "./kernel.ts";
import {
  component,
  floats,
  gather,
  LANES,
  memoized,
  OPAQUE_ZERO,
  range,
  tileGrid,
  unroll,
  vectorWidth,
} from "./tiles.ts";

/** output[n, y, x, o] = Σ input[n, y·stride + ky − padding, x·stride + kx − padding, c] · weight[ky, kx, c, o]. */
export const conv2dForward: (shape: Conv2dShape) => Kernel = memoized((shape) => {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const inWidth = vectorWidth(groupIn);
  const outWidth = vectorWidth(groupOut);
  const pixels = batch * output.height * output.width;
  const rows = 4;
  const columns = outWidth === 4 ? Math.min(8, groupOut) : Math.min(4, groupOut);
  const columnTiles = Math.ceil(groupOut / columns);
  const grid = tileGrid(Math.ceil(pixels / (rows * LANES)) * columnTiles * groups);
  const units = columns / outWidth;
  const ragged = groupOut % columns !== 0;
  const padded = padding > 0 || (output.height - 1) * stride + kernelHeight > height;
  const outUnit = (j: number) => ragged ? `min(firstOut + ${j}u, ${groupOut / outWidth - 1}u)` : `firstOut + ${j}u`;

  const wgsl = `// Each invocation computes ${rows} pixels, ${LANES} apart, × ${columns} output channels.
@group(0) @binding(0) var<storage, read> input: array<${floats(inWidth)}, ${output.inputLength / inWidth}>;
@group(0) @binding(1) var<storage, read> weight: array<${floats(outWidth)}, ${output.weightLength / outWidth}>;
@group(0) @binding(2) var<storage, read_write> output: array<${floats(outWidth)}, ${output.outputLength / outWidth}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let tile = ${grid.tile};
let columnTile = tile % ${columnTiles * groups}u;
let group = columnTile / ${columnTiles}u;
let firstOut = (columnTile % ${columnTiles}u) * ${units}u;
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
      `let inside${i} = ${padded ? `u32(y${i} + ky) < ${height}u && u32(x${i} + kx) < ${width}u` : "true"};
let base${i} = ((image${i} * ${height}u + u32(y${i} + ky)) * ${width}u + u32(x${i} + kx)) * ${
        inChannels / inWidth
      }u + group * ${groupIn / inWidth}u;`)
  }
let weightBase = u32(ky * ${kernelWidth} + kx) * ${groupIn * outChannels / outWidth}u + group * ${groupOut / outWidth}u;
for (var c = 0u; c < ${groupIn / inWidth}u + opaque; c++) {
${
    unroll(rows, (i) =>
      padded
        ? `let in${i} = select(${floats(inWidth)}(), input[base${i} + c], inside${i});`
        : `let in${i} = input[base${i} + c];`)
  }
${
    unroll(inWidth, (u) =>
      `let row${u} = weightBase + (c * ${inWidth}u + ${u}u) * ${outChannels / outWidth}u;
${unroll(units, (j) => `let w${u}_${j} = weight[row${u} + ${outUnit(j)}];`)}
${
        unroll(rows, (i) =>
          unroll(columns, (j) => {
            const w = component(`w${u}_${Math.floor(j / outWidth)}`, j % outWidth, outWidth);
            return `sum${i}_${j} = fma(${component(`in${i}`, u, inWidth)}, ${w}, sum${i}_${j});`;
          }))
      }`)
  }
}
}
}
let outBase = group * ${groupOut / outWidth}u + firstOut;
${
    unroll(rows, (i) =>
      `if (firstPixel + ${i * LANES}u < ${pixels}u) {
${
        unroll(units, (j) => {
          const value = gather(range(outWidth).map((u) => `sum${i}_${j * outWidth + u}`));
          const store = `output[pixel${i} * ${outChannels / outWidth}u + outBase + ${j}u] = ${value};`;
          return ragged ? `if (firstOut + ${j}u < ${groupOut / outWidth}u) { ${store} }` : store;
        })
      }
}`)
  }
}
`;
  return {
    label: `conv2d forward ${describeConv2d(shape)}`,
    wgsl,
    bindings: ["read", "read", "write"],
    workgroups: grid.workgroups,
  };
});

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
