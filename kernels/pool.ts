/**
 * Global average pooling and the per-image channel scale of squeeze-and-excitation, on `x [N, H*W, C]`, with their
 * gradients. One invocation sums one channel (or four) of one image in blocks of 32, in order. It knows no layer.
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

/** `x[n, p, c] * s[n, c]`; also its gradient towards x. Buffers: x (or upstream gradient), s, result. */
export function scaleChannels(shape: ImageShape): Kernel {
  return once(`scale channels ${nameOf(shape)}`, () => {
    const { element, lanes } = perImage(shape);
    return perPixel({
      label: `scale channels ${nameOf(shape)}`,
      storage: [["x", "read", element], ["s", "read", element], ["result", "write", element]],
      shape,
      lanes,
      setup: "let pixels = arrayLength(&x) / arrayLength(&s);",
      body: `result[i] = x[i] * s[image * ${lanes}u + inside % ${lanes}u];`,
    });
  });
}

/** Gradient of {@linkcode scaleChannels} towards s. Buffers: upstream gradient, x, result `[N, C]`. */
export function scaleChannelsFactorGradient(shape: ImageShape): Kernel {
  return once(`scale channels factor gradient ${nameOf(shape)}`, () => {
    const { element, lanes } = perImage(shape);
    return pointwise({
      label: `scale channels factor gradient ${nameOf(shape)}`,
      storage: [["g", "read", element], ["x", "read", element], ["result", "write", element]],
      invocations: shape.images * lanes,
      count: "arrayLength(&result)",
      body: `${sumOverPixels(shape, "g[at] * x[at]")}
  result[i] = total;`,
    });
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

/** CPU reference of the sums over pixels of `a * b`, `[N, C]`, in double precision. */
export function sumPixelsReference(a: Float32Array, b: Float32Array, shape: ImageShape): Float32Array<ArrayBuffer> {
  const { images, pixels, channels } = shape;
  const result = new Float64Array(images * channels);
  for (let i = 0; i < a.length; i++) {
    result[Math.floor(i / (pixels * channels)) * channels + i % channels] += a[i] * b[i];
  }
  return Float32Array.from(result);
}

/** CPU reference of {@linkcode scaleChannels}. */
export function scaleChannelsReference(x: Float32Array, s: Float32Array, shape: ImageShape): Float32Array<ArrayBuffer> {
  const { pixels, channels } = shape;
  return Float32Array.from(x, (v, i) => v * s[Math.floor(i / (pixels * channels)) * channels + i % channels]);
}
