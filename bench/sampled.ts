/**
 * Checks large results by some of their values: each is computed anew in double precision from its definition, which a
 * whole reference would take minutes for.
 */
import { conv2dOutput, type Conv2dShape } from "../kernels/conv2d_shape.ts";
import type { MatmulShape } from "../kernels/matmul.ts";

/** Values of a result at some places. */
export interface Sampled {
  /** Places in the flat result. */
  readonly places: readonly number[];
  readonly values: readonly number[];
}

/** The three passes of a convolution. */
export type Pass = "forward" | "input gradient" | "weight gradient";

/** Operands of a pass: input and weight, gradient and weight, input and gradient. */
export interface Operands {
  readonly input: Float32Array<ArrayBuffer>;
  readonly weight: Float32Array<ArrayBuffer>;
  readonly outGradient: Float32Array<ArrayBuffer>;
}

/** Relative error ‖found − expected‖ / ‖expected‖ over the sampled places. */
export function sampledError(found: ArrayLike<number>, { places, values }: Sampled): number {
  let [difference, norm] = [0, 0];
  for (const [i, place] of places.entries()) {
    difference += (found[place] - values[i]) ** 2;
    norm += values[i] ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** `count` places spread over `length`, first and last included. */
export function spread(length: number, count: number): number[] {
  const steps = Math.min(length, count);
  return steps === 1 ? [0] : Array.from({ length: steps }, (_, i) => Math.floor(i * (length - 1) / (steps - 1)));
}

/** Some values of A · B. */
export function sampleMatmul(
  { m, n, k }: MatmulShape,
  { left, right }: { left: Float32Array; right: Float32Array },
): Sampled {
  const places = spread(m * n, 257);
  const values = places.map((place) => {
    const [row, column] = [Math.floor(place / n), place % n];
    let sum = 0;
    for (let i = 0; i < k; i++) sum += left[row * k + i] * right[i * n + column];
    return sum;
  });
  return { places, values };
}

/** Some values of a convolution's pass. */
export function sampleConv2d(shape: Conv2dShape, pass: Pass, operands: Operands): Sampled {
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const length = { "forward": outputLength, "input gradient": inputLength, "weight gradient": weightLength }[pass];
  const places = spread(length, pass === "weight gradient" ? 61 : 257);
  const value = { "forward": outputAt, "input gradient": inputGradientAt, "weight gradient": weightGradientAt }[pass];
  return { places, values: places.map((place) => value(shape, operands, place)) };
}

function outputAt(shape: Conv2dShape, { input, weight }: Operands, place: number): number {
  const { height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const out = conv2dOutput(shape);
  const [inGroup, outGroup] = [inChannels / groups, outChannels / groups];
  const o = place % outChannels;
  const pixel = Math.floor(place / outChannels);
  const [x, y, n] = [
    pixel % out.width,
    Math.floor(pixel / out.width) % out.height,
    Math.floor(pixel / out.width / out.height),
  ];
  const first = Math.floor(o / outGroup) * inGroup;
  let sum = 0;
  for (let ky = 0; ky < kernelHeight; ky++) {
    for (let kx = 0; kx < kernelWidth; kx++) {
      const [iy, ix] = [y * stride + ky - padding, x * stride + kx - padding];
      if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
      const from = ((n * height + iy) * width + ix) * inChannels + first;
      const at = (ky * kernelWidth + kx) * inGroup;
      for (let c = 0; c < inGroup; c++) sum += input[from + c] * weight[(at + c) * outChannels + o];
    }
  }
  return sum;
}

function inputGradientAt(shape: Conv2dShape, { outGradient, weight }: Operands, place: number): number {
  const { height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const out = conv2dOutput(shape);
  const [inGroup, outGroup] = [inChannels / groups, outChannels / groups];
  const c = place % inChannels;
  const pixel = Math.floor(place / inChannels);
  const [ix, iy, n] = [pixel % width, Math.floor(pixel / width) % height, Math.floor(pixel / width / height)];
  const group = Math.floor(c / inGroup);
  let sum = 0;
  for (let ky = 0; ky < kernelHeight; ky++) {
    for (let kx = 0; kx < kernelWidth; kx++) {
      const [y, x] = [(iy + padding - ky) / stride, (ix + padding - kx) / stride];
      if (!Number.isInteger(y) || !Number.isInteger(x) || y < 0 || x < 0 || y >= out.height || x >= out.width) continue;
      const from = ((n * out.height + y) * out.width + x) * outChannels + group * outGroup;
      const at = ((ky * kernelWidth + kx) * inGroup + c % inGroup) * outChannels + group * outGroup;
      for (let o = 0; o < outGroup; o++) sum += outGradient[from + o] * weight[at + o];
    }
  }
  return sum;
}

function weightGradientAt(shape: Conv2dShape, { input, outGradient }: Operands, place: number): number {
  const { batch, height, width, inChannels, outChannels, kernelWidth, stride, padding, groups } = shape;
  const out = conv2dOutput(shape);
  const [inGroup, outGroup] = [inChannels / groups, outChannels / groups];
  const o = place % outChannels;
  const rest = Math.floor(place / outChannels);
  const tap = Math.floor(rest / inGroup);
  const [ky, kx] = [Math.floor(tap / kernelWidth), tap % kernelWidth];
  const c = Math.floor(o / outGroup) * inGroup + rest % inGroup;
  let sum = 0;
  for (let n = 0; n < batch; n++) {
    for (let y = 0; y < out.height; y++) {
      const iy = y * stride + ky - padding;
      if (iy < 0 || iy >= height) continue;
      for (let x = 0; x < out.width; x++) {
        const ix = x * stride + kx - padding;
        if (ix < 0 || ix >= width) continue;
        sum += input[((n * height + iy) * width + ix) * inChannels + c] *
          outGradient[((n * out.height + y) * out.width + x) * outChannels + o];
      }
    }
  }
  return sum;
}
