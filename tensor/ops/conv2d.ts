/** 2-D convolution on the tape, forward and both gradients. */
import { conv2dOutput, type Conv2dShape } from "../../kernels/conv2d.ts";
import {
  conv2dForwardOperation,
  conv2dInputGradientOperation,
  conv2dWeightGradientOperation,
} from "../../kernels/operations.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { runHeavy } from "./heavy.ts";

/** Geometry of {@linkcode conv2d}, the same in both directions. */
export interface Conv2dOptions {
  /** @default 1 */
  stride?: number;
  /** Zeros around the image. @default 0 */
  padding?: number;
  /** @default 1 */
  groups?: number;
}

/** `[N, H, W, Ci]` with weights `[kh, kw, Ci / groups, Co]` → `[N, H', W', Co]`, H' = ⌊(H + 2·padding − kh) / stride⌋ + 1. */
export function conv2d(tape: Tape, x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  const { stride = 1, padding = 0, groups = 1 } = options;
  const [batch, height, width, inChannels] = x.shape;
  const [kernelHeight, kernelWidth, groupChannels, outChannels] = weight.shape;
  if (groupChannels * groups !== inChannels) {
    throw new RangeError(
      `Cannot convolve: the weights must take ${inChannels} channels in ${groups} groups, they take ${groupChannels} in each`,
    );
  }
  const shape = { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups };
  const extent = conv2dOutput(shape);
  return convolve(tape, { x, weight, shape, outputShape: [batch, extent.height, extent.width, outChannels] });
}

/** Records a convolution of any shape, a product of matrices being the one of 1×1 images. */
export function convolve(
  tape: Tape,
  { x, weight, shape, outputShape }: { x: Tensor; weight: Tensor; shape: Conv2dShape; outputShape: readonly number[] },
): Tensor {
  const output = tape.allocate(outputShape);
  const { device } = tape;
  runHeavy(device, { operation: conv2dForwardOperation, shape }, {
    input: x.buffer,
    weight: weight.buffer,
    output: output.buffer,
  });
  return tape.record({
    inputs: [x, weight],
    output,
    backward(gradient) {
      let weightGradient: Tensor | undefined;
      if (tape.needsGradient(weight)) {
        weightGradient = tape.allocate(weight.shape);
        runHeavy(device, { operation: conv2dWeightGradientOperation, shape }, {
          input: x.buffer,
          outGradient: gradient.buffer,
          weightGradient: weightGradient.buffer,
        });
      }
      let xGradient: Tensor | undefined;
      if (tape.needsGradient(x)) {
        xGradient = tape.allocate(x.shape);
        runHeavy(device, { operation: conv2dInputGradientOperation, shape }, {
          outGradient: gradient.buffer,
          weight: weight.buffer,
          inputGradient: xGradient.buffer,
        });
      }
      return [xGradient, weightGradient];
    },
  });
}
