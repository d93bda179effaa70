/**
 * Convolution forward, as an implicit matrix multiply of output pixels × output channels. A sum runs over (ky, kx, input
 * channel) in that order, and over (ky, input channel, kx) where groups are narrow. How a tile is computed is told in
 * `register_product.ts`, and in `line_product.ts` for narrow groups.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import type { Kernel } from "./kernel.ts";
import { byLines, type LineProduct, lineProduct } from "./line_product.ts";
import { type RegisterProduct, registerProduct, type RegisterTile } from "./register_product.ts";
import { memoized, range } from "./tiles.ts";

/**
 * Of a shape's fused passes this kernel knows none: it reads its input as it is and gives no moments.
 *
 * output[n, y, x, o] = Σ input[n, y·stride + ky − padding, x·stride + kx − padding, c] · weight[ky, kx, c, o].
 */
export const conv2dForward: (shape: Conv2dShape & RegisterTile) => Kernel = memoized(
  ({ tileRows, tileColumns, ...shape }) => {
    const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
    const output = conv2dOutput(shape);
    const groupIn = inChannels / groups;
    const groupOut = outChannels / groups;
    const padded = padding > 0;
    if (byLines({ taps: kernelWidth, columns: groupOut })) {
      return lineProduct(forwardByLines({ ...shape, tileRows, tileColumns }));
    }
    return registerProduct({
      ...frameOf({ ...shape, tileRows, tileColumns }),
      rows: batch * output.height * output.width,
      columns: groupOut,
      groups,
      eachRow: (i) =>
        `let image${i} = row${i} / ${output.height * output.width}u;
let y${i} = i32((row${i} / ${output.width}u) % ${output.height}u) * ${stride} - ${padding};
let x${i} = i32(row${i} % ${output.width}u) * ${stride} - ${padding};`,
      open: (eachRow) =>
        `for (var ky = 0; ky < ${kernelHeight} + i32(opaque); ky++) {
for (var kx = 0; kx < ${kernelWidth} + i32(opaque); kx++) {
${
          eachRow((i) =>
            `${padded ? `let inside${i} = u32(y${i} + ky) < ${height}u && u32(x${i} + kx) < ${width}u;` : ""}
let base${i} = ((image${i} * ${height}u + u32(y${i} + ky)) * ${width}u + u32(x${i} + kx)) * ${inChannels}u + group * ${groupIn}u;`
          )
        }
let tap = u32(ky * ${kernelWidth} + kx) * ${groupIn * outChannels}u + group * ${groupOut}u;
for (var index = 0u; index < ${groupIn}u + opaque; index++) {
let weightRow = tap + index * ${outChannels}u;`,
      close: "}\n}\n}",
      left: (i, load) => padded ? `select(0.0, ${load(`base${i} + index`)}, inside${i})` : load(`base${i} + index`),
      right: (column) => `weightRow + ${column}`,
      destination: { at: `row * ${outChannels}u + group * ${groupOut}u` },
    });
  },
);

/** What both frames are told of the pass: its name, tile and operands. */
function frameOf({ tileRows, tileColumns, ...shape }: Conv2dShape & RegisterTile) {
  const output = conv2dOutput(shape);
  return {
    label: `conv2d forward ${describeConv2d(shape)}`,
    storage: shape.storage ?? "f32",
    tile: { tileRows, tileColumns },
    buffers: [
      { name: "input", length: output.inputLength },
      { name: "weights", length: output.weightLength },
      { name: "output", length: output.outputLength },
    ],
  } satisfies Partial<RegisterProduct>;
}

/** The forward pass by lines of output pixels. */
export function forwardByLines({ tileRows, tileColumns, ...shape }: Conv2dShape & RegisterTile): LineProduct {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  return {
    ...frameOf({ ...shape, tileRows, tileColumns }),
    lines: batch * output.height,
    width: output.width,
    multiple: 1,
    columns: groupOut,
    taps: kernelWidth,
    groups,
    classes: 1,
    setup: `let image = i32(line / ${output.height}u);
let y = i32(line % ${output.height}u) * ${stride} - ${padding};`,
    uses: (results) =>
      range(kernelWidth).flatMap((tap) => range(results).map((result) => ({ tap, result, at: result * stride + tap }))),
    leftX: [`i32(x0) * ${stride} - ${padding}`, (x0) => x0 * stride - padding],
    left: { width, channels: inChannels },
    open: `for (var ky = 0; ky < ${kernelHeight} + i32(opaque); ky++) {
let inside = u32(y + ky) < ${height}u;
let leftLine = (image * ${height} + y + ky) * ${width};
let tap = u32(ky) * ${kernelWidth * groupIn * outChannels}u + group * ${groupOut}u;`,
    depth: groupIn,
    leftChannel: `group * ${groupIn}u`,
    right: (tap, column) => `tap + (${tap} * ${groupIn}u + index) * ${outChannels}u + ${column}`,
    destination: { at: `(line * ${output.width}u + x) * ${outChannels}u + group * ${groupOut}u` },
  };
}

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
