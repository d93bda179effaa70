/**
 * Global average pooling of `x [N, H*W, C]` and its gradient. One invocation sums one channel (or four) of one image in blocks of 32, in order. It knows no layer.
 */
import type { Kernel } from "./kernel.ts";
import { cellsOf, storageFeatures } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { blockSums, once, perPixel, pointwise, vectorOf } from "./wgsl.ts";

/** Static shape: `[images, pixels, channels]`, pixels = H * W. */
export interface ImageShape {
  readonly images: number;
  readonly pixels: number;
  readonly channels: number;
  /** How x and the gradients towards it are stored; what is pooled is f32. @default "f32" */
  readonly storage?: Storage;
}

const nameOf = ({ images, pixels, channels, storage = "f32" }: ImageShape) =>
  `${images}x${pixels}x${channels}${storage === "f32" ? "" : ` ${storage}`}`;

function perImage(shape: ImageShape) {
  const { element, width } = vectorOf(shape.channels);
  const { storage = "f32" } = shape;
  return {
    element,
    lanes: shape.channels / width,
    cells: cellsOf(storage, width),
    requires: storageFeatures(storage),
  };
}

/** Sum of `expression` over the pixels of the invocation's image and channel(s), as WGSL. */
function sumOverPixels(shape: ImageShape, expression: string): string {
  const { element, lanes } = perImage(shape);
  return `
  let stride = arrayLength(&x) / arrayLength(&result) * ${lanes}u;
  let base = i / ${lanes}u * stride + i % ${lanes}u;${
    blockSums({
      element,
      first: "base",
      end: "base + stride",
      stride: lanes,
      sums: { total: expression },
    })
  }`;
}

/** Mean over the pixels. Buffers: x, result `[N, C]`. */
export function globalAveragePool(shape: ImageShape): Kernel {
  return once(`average pool ${nameOf(shape)}`, () => {
    const { element, lanes, cells, requires } = perImage(shape);
    return {
      ...pointwise({
        label: `average pool ${nameOf(shape)}`,
        storage: [["x", "read", cells.type], ["result", "write", element]],
        invocations: shape.images * lanes,
        count: "arrayLength(&result)",
        body: `${sumOverPixels(shape, cells.load("x[at]"))}
  result[i] = total / f32(stride / ${lanes}u);`,
      }),
      requires,
    };
  });
}

/** Gradient of {@linkcode globalAveragePool}. Buffers: upstream gradient `[N, C]`, result `[N, H*W, C]`. */
export function globalAveragePoolGradient(shape: ImageShape): Kernel {
  return once(`average pool gradient ${nameOf(shape)}`, () => {
    const { element, lanes, cells, requires } = perImage(shape);
    return {
      ...perPixel({
        label: `average pool gradient ${nameOf(shape)}`,
        storage: [["g", "read", element], ["result", "write", cells.type]],
        shape,
        lanes,
        setup: "let pixels = arrayLength(&result) / arrayLength(&g);",
        body: `result[i] = ${cells.store(`g[image * ${lanes}u + inside % ${lanes}u] / f32(pixels)`)};`,
      }),
      requires,
    };
  });
}

/** Adds the gradient of {@linkcode globalAveragePool} to another. Buffers: upstream gradient, total `[N, H*W, C]`. */
export function globalAveragePoolAccumulate(shape: ImageShape): Kernel {
  return once(`average pool accumulate ${nameOf(shape)}`, () => {
    const { element, lanes, cells, requires } = perImage(shape);
    return {
      ...perPixel({
        label: `average pool accumulate ${nameOf(shape)}`,
        storage: [["g", "read", element], ["total", "write", cells.type]],
        shape,
        lanes,
        setup: `let pixels = arrayLength(&total) / arrayLength(&g);`,
        body: `total[i] = ${
          cells.store(`${cells.load("total[i]")} + g[image * ${lanes}u + inside % ${lanes}u] / f32(pixels)`)
        };`,
      }),
      requires,
    };
  });
}

/** CPU reference of the sums over pixels, `[N, C]`, in double precision. */
export function sumPixelsReference(x: Float32Array, shape: ImageShape): Float32Array<ArrayBuffer> {
  const { images, pixels, channels } = shape;
  const result = new Float64Array(images * channels);
  for (let i = 0; i < x.length; i++) result[Math.floor(i / (pixels * channels)) * channels + i % channels] += x[i];
  return Float32Array.from(result);
}

/** Every image's `s [N, C]` at each of its pixels, `[N, H*W, C]`: what pooling's gradient spreads. */
export function spreadPixelsReference(
  s: Float32Array,
  { images, pixels, channels }: ImageShape,
): Float32Array<ArrayBuffer> {
  return Float32Array.from(
    { length: images * pixels * channels },
    (_, i) => s[Math.floor(i / (pixels * channels)) * channels + i % channels],
  );
}
