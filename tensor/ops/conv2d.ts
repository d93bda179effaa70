/** 2-D convolution of a tensor on the tape, forward and both gradients. */
import type { Conv2dShape } from "../../kernels/conv2d.ts";
import { conv2dForwardOperation } from "../../kernels/operations.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import {
  convolutionBackward,
  type ConvolutionGeometry,
  convolutionShape,
  outputShape,
  weightsFor,
} from "./convolution.ts";
import { runHeavy } from "./heavy.ts";

/** Geometry of {@linkcode conv2d}. */
export type Conv2dOptions = ConvolutionGeometry;

/** `[N, H, W, Ci]` with weights `[kh, kw, Ci / groups, Co]` → `[N, H', W', Co]`, H' = ⌊(H + 2·padding − kh) / stride⌋ + 1. */
export function conv2d(tape: Tape, x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  const shape = convolutionShape(x, weight, options);
  return convolve(tape, { x, weight, shape, outputShape: outputShape(shape) });
}

/** Records a convolution of any shape, a product of matrices being the one of 1×1 images. The result is stored as `x`. */
export function convolve(
  tape: Tape,
  { x, weight, shape: plain, outputShape }: {
    x: Tensor;
    weight: Tensor;
    shape: Conv2dShape;
    outputShape: readonly number[];
  },
): Tensor {
  const shape: Conv2dShape = x.dtype === "f32" ? plain : { ...plain, storage: x.dtype };
  const output = tape.allocate(outputShape, x.dtype);
  const weights = weightsFor(tape, weight, x.dtype);
  runHeavy(tape.device, { operation: conv2dForwardOperation, shape }, {
    input: x.buffer,
    weight: weights.tensor.buffer,
    output: output.buffer,
  });
  return tape.record({
    inputs: [x, weight],
    output,
    saved: weights.owned ? [weights.tensor] : [],
    forgetsOutput: true,
    backward: (gradient) => convolutionBackward(tape, { shape, input: x, weight, weights: weights.tensor, gradient }),
  });
}
