/**
 * Convolution's gradient for its input, gathered: rows of the product are input pixels, and each sums what its pixels
 * gave to the output. Pixels are tiled by their position modulo the stride, because all pixels of such a class meet the
 * same taps; so nothing is scattered and no tap is tried in vain. A sum runs over (ky, kx, output channel) in that order,
 * and over (ky, output channel, kx) where groups are narrow. How a tile is computed is told in `register_product.ts`, and
 * in `line_product.ts` for narrow groups, where all classes of a line share its loads; strided groups of as many channels
 * as lanes have a kernel of their own, `conv2d_input_gradient_channels.ts`.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import { eachTap } from "./conv2d_forward.ts";
import { byChannels, inputGradientByChannels } from "./conv2d_input_gradient_channels.ts";
import type { Kernel } from "./kernel.ts";
import { byLines, type LineProduct, lineProduct } from "./line_product.ts";
import { type RegisterProduct, registerProduct, type RegisterTile } from "./register_product.ts";
import { memoized, range } from "./tiles.ts";

/** inputGradient = Σ outGradient · weight over every product that an input element took part in. */
export const conv2dInputGradient: (shape: Conv2dShape & RegisterTile) => Kernel = memoized(
  ({ tileRows, tileColumns, ...shape }) => {
    const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
    const output = conv2dOutput(shape);
    const groupIn = inChannels / groups;
    const groupOut = outChannels / groups;
    if (byLines({ taps: kernelWidth, columns: groupIn })) {
      const lines = lineProduct(inputGradientByLines({ ...shape, tileRows, tileColumns }));
      if (!byChannels(shape)) return lines;
      const { label } = frameOf({ ...shape, tileRows, tileColumns });
      return { ...inputGradientByChannels(label, { ...shape, tileRows, tileColumns }), otherwise: lines.otherwise };
    }
    // The largest class holds ceil(height / stride) × ceil(width / stride) pixels of each image.
    const classHeight = Math.ceil(height / stride);
    const classWidth = Math.ceil(width / stride);
    const always = kernelHeight === 1 && kernelWidth === 1 && padding === 0 && stride === 1;
    return registerProduct({
      ...frameOf({ ...shape, tileRows, tileColumns }),
      rows: batch * classHeight * classWidth,
      columns: groupIn,
      groups,
      classes: stride * stride,
      setup: `let classY = i32(class_ / ${stride}u);\nlet classX = i32(class_ % ${stride}u);`,
      eachRow: (i) =>
        `let image${i} = row${i} / ${classHeight * classWidth}u;
let y${i} = i32((row${i} / ${classWidth}u) % ${classHeight}u) * ${stride} + classY;
let x${i} = i32(row${i} % ${classWidth}u) * ${stride} + classX;`,
      open: (eachRow) =>
        `for (var ky = (classY + ${padding}) % ${stride}; ky < ${kernelHeight} + i32(opaque); ky += ${stride}) {
for (var kx = (classX + ${padding}) % ${stride}; kx < ${kernelWidth} + i32(opaque); kx += ${stride}) {
${
          eachRow((i) =>
            `let outY${i} = u32(y${i} + ${padding} - ky) / ${stride}u;
let outX${i} = u32(x${i} + ${padding} - kx) / ${stride}u;
${always ? "" : `let inside${i} = outY${i} < ${output.height}u && outX${i} < ${output.width}u;`}
let base${i} = ((image${i} * ${output.height}u + outY${i}) * ${output.width}u + outX${i}) * ${outChannels}u + group * ${groupOut}u;`
          )
        }
let tap = u32(ky * ${kernelWidth} + kx) * ${groupIn * outChannels}u + group * ${groupOut}u;
for (var index = 0u; index < ${groupOut}u + opaque; index++) {`,
      close: "}\n}\n}",
      left: (i, load) => always ? load(`base${i} + index`) : `select(0.0, ${load(`base${i} + index`)}, inside${i})`,
      right: (column) => `tap + ${column} * ${outChannels}u + index`,
      destination: {
        setup: `let y = (row / ${classWidth}u) % ${classHeight}u * ${stride}u + u32(classY);
let x = row % ${classWidth}u * ${stride}u + u32(classX);`,
        inside: `y < ${height}u && x < ${width}u`,
        at: `((row / ${
          classHeight * classWidth
        }u * ${height}u + y) * ${width}u + x) * ${inChannels}u + group * ${groupIn}u`,
      },
    });
  },
);

/** What both frames are told of the pass: its name, tile and operands. */
function frameOf({ tileRows, tileColumns, ...shape }: Conv2dShape & RegisterTile) {
  const output = conv2dOutput(shape);
  return {
    label: `conv2d input gradient ${describeConv2d(shape)}`,
    storage: shape.storage ?? "f32",
    tile: { tileRows, tileColumns },
    buffers: [
      { name: "outGradient", length: output.outputLength },
      { name: "weights", length: output.weightLength },
      { name: "inputGradient", length: output.inputLength },
    ],
  } satisfies Partial<RegisterProduct>;
}

/** The input gradient by lines of input pixels; a tile holds pixels of every class along the line. */
export function inputGradientByLines({ tileRows, tileColumns, ...shape }: Conv2dShape & RegisterTile): LineProduct {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const classHeight = Math.ceil(height / stride);
  return {
    ...frameOf({ ...shape, tileRows, tileColumns }),
    lines: batch * classHeight,
    width,
    multiple: stride,
    columns: groupIn,
    taps: kernelWidth,
    groups,
    classes: stride,
    setup: `let image = i32(line / ${classHeight}u);
let classY = i32(class_);
let y = i32(line % ${classHeight}u) * ${stride} + classY;`,
    uses: (results) =>
      range(kernelWidth).flatMap((tap) =>
        range(results).filter((result) => (result + padding - tap) % stride === 0)
          .map((result) => ({ tap, result, at: (result + padding - tap) / stride }))
      ),
    leftX: [`i32(x0 / ${stride}u)`, (x0) => x0 / stride],
    left: { width: output.width, channels: outChannels },
    open: `for (var ky = (classY + ${padding}) % ${stride}; ky < ${kernelHeight} + i32(opaque); ky += ${stride}) {
let outY = u32(y + ${padding} - ky) / ${stride}u;
let inside = outY < ${output.height}u;
let leftLine = (image * ${output.height} + i32(outY)) * ${output.width};
let tap = u32(ky) * ${kernelWidth * groupIn * outChannels}u + group * ${groupOut}u;`,
    depth: groupOut,
    leftChannel: `group * ${groupOut}u`,
    right: (tap, column) => `tap + (${tap} * ${groupIn}u + ${column}) * ${outChannels}u + index`,
    destination: {
      inside: `y < ${height}`,
      at: `(u32(image * ${height} + y) * ${width}u + x) * ${inChannels}u + group * ${groupIn}u`,
    },
  };
}

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
