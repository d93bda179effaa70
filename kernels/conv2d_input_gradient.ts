/**
 * Convolution's gradient for its input, gathered: lanes lie along input pixels and each sums what its pixels gave to
 * the output. Pixels are tiled by their position modulo the stride, because all pixels of such a class meet the same
 * taps; so nothing is scattered and no tap is tried in vain. A sum runs over (ky, kx, output channel) in that order.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import { eachTap } from "./conv2d_forward.ts";
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

/** inputGradient = Σ outGradient · weight over every product that an input element took part in. */
export const conv2dInputGradient: (shape: Conv2dShape) => Kernel = memoized((shape) =>
  sharing((how) => {
    const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
    const { storage = "f32" } = shape;
    const output = conv2dOutput(shape);
    const groupIn = inChannels / groups;
    const groupOut = outChannels / groups;
    // The largest class holds ceil(height / stride) × ceil(width / stride) pixels of each image.
    const classes = stride * stride;
    const classHeight = Math.ceil(height / stride);
    const classWidth = Math.ceil(width / stride);
    const classPixels = batch * classHeight * classWidth;
    const { rows, columns } = registerTile(classPixels, groupIn);
    const columnTiles = Math.ceil(groupIn / columns);
    const grid = tileGrid(Math.ceil(classPixels / (rows * LANES)) * columnTiles * groups * classes);
    const inWidth = vectorWidth(groupIn, columns);
    const one = cellsOf(storage), several = cellsOf(storage, inWidth);
    const ragged = groupIn % columns !== 0;
    const always = kernelHeight === 1 && kernelWidth === 1 && padding === 0 && stride === 1;
    const column = (j: number) => range(rows).map((i) => `sum${i}_${j}`);
    const weights = sharedValues("weight", {
      count: columns,
      sharing: how,
      at: (j) => one.load(`weights[weightBase + min(firstIn + ${j}, ${groupIn - 1}u) * ${outChannels}u]`),
    });

    const wgsl = `// Each invocation computes ${rows} pixels of one class, ${LANES} apart, × ${columns} input channels.
@group(0) @binding(0) var<storage, read> outGradient: array<${one.type}, ${output.outputLength}>;
@group(0) @binding(1) var<storage, read> weights: array<${one.type}, ${output.weightLength}>;
@group(0) @binding(2) var<storage, read_write> inputGradient: array<${several.type}, ${output.inputLength / inWidth}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let tile = ${grid.tile};
let columnTile = tile % ${columnTiles * groups}u;
let group = columnTile / ${columnTiles}u;
let firstIn = (columnTile % ${columnTiles}u) * ${columns}u;
let classTile = tile / ${columnTiles * groups}u;
let classY = i32(classTile % ${classes}u / ${stride}u);
let classX = i32(classTile % ${stride}u);
let firstPixel = (classTile / ${classes}u) * ${rows * LANES}u + lane;
${
      unroll(rows, (i) =>
        `let pixel${i} = min(firstPixel + ${i * LANES}u, ${classPixels - 1}u);
let image${i} = pixel${i} / ${classHeight * classWidth}u;
let y${i} = i32((pixel${i} / ${classWidth}u) % ${classHeight}u) * ${stride} + classY;
let x${i} = i32(pixel${i} % ${classWidth}u) * ${stride} + classX;
${unroll(columns, (j) => `var sum${i}_${j} = 0.0;`)}`)
    }
for (var ky = (classY + ${padding}) % ${stride}; ky < ${kernelHeight} + i32(opaque); ky += ${stride}) {
for (var kx = (classX + ${padding}) % ${stride}; kx < ${kernelWidth} + i32(opaque); kx += ${stride}) {
${
      unroll(rows, (i) =>
        `let outY${i} = u32(y${i} + ${padding} - ky) / ${stride}u;
let outX${i} = u32(x${i} + ${padding} - kx) / ${stride}u;
${always ? "" : `let inside${i} = outY${i} < ${output.height}u && outX${i} < ${output.width}u;`}
let base${i} = ((image${i} * ${output.height}u + outY${i}) * ${output.width}u + outX${i}) * ${outChannels}u + group * ${groupOut}u;`)
    }
let weightTap = u32(ky * ${kernelWidth} + kx) * ${groupIn * outChannels}u + group * ${groupOut}u;
for (var c = 0u; c < ${groupOut}u + opaque; c++) {
let weightBase = weightTap + c;
${weights.load}
${
      unroll(rows, (i) =>
        `let out${i} = ${
          always
            ? one.load(`outGradient[base${i} + c]`)
            : `select(0.0, ${one.load(`outGradient[base${i} + c]`)}, inside${i})`
        };
${
          unroll(columns, (j) => `sum${i}_${j} = fma(out${i}, ${weights.values[j]}, sum${i}_${j});`)
        }`)
    }
}
}
}
let inBase = group * ${groupIn}u + firstIn;
for (var row = 0u; row < ${rows}u + opaque; row++) {
let pixel = firstPixel + row * ${LANES}u;
let y = (pixel / ${classWidth}u) % ${classHeight}u * ${stride}u + u32(classY);
let x = pixel % ${classWidth}u * ${stride}u + u32(classX);
if (pixel < ${classPixels}u && y < ${height}u && x < ${width}u) {
let image = pixel / ${classHeight * classWidth}u;
let destination = (((image * ${height}u + y) * ${width}u + x) * ${inChannels}u + inBase) / ${inWidth}u;
${
      unroll(columns / inWidth, (j) => {
        const value = gather(range(inWidth).map((u) => chosen(column(j * inWidth + u), "row")));
        const store = `inputGradient[destination + ${j}u] = ${several.store(value)};`;
        return ragged ? `if (firstIn + ${j * inWidth}u < ${groupIn}u) { ${store} }` : store;
      })
    }
}
}
}
`;
    return {
      label: `conv2d input gradient ${describeConv2d(shape)}`,
      wgsl,
      bindings: ["read", "read", "write"],
      workgroups: grid.workgroups,
      requires: storageFeatures(storage),
    };
  })
);

/** The plain sum behind {@linkcode conv2dInputGradient}, in double precision. */
export function conv2dInputGradientReference(
  shape: Conv2dShape,
  { outGradient, weight }: { outGradient: Float32Array; weight: Float32Array },
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(conv2dOutput(shape).inputLength);
  const sums = new Float64Array(result.length);
  eachTap(shape, ({ input: to, weight: by, output: at }) => sums[to] += outGradient[at] * weight[by]);
  result.set(sums);
  return result;
}
