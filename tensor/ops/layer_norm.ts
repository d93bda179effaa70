/** Layer normalisation of the last dimension on the tape, forward and gradients. */
import {
  layerNorm as layerNormKernel,
  layerNormChunks,
  layerNormInputGradient,
  layerNormParameterGradient,
  layerNormParameterPartial,
} from "../../kernels/layer_norm.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** `(x − mean) / √(variance + ε) · weight + bias` over the last dimension of `x`, C numbers, any shape before it, f32. */
export function layerNorm(
  tape: Tape,
  x: Tensor,
  { weight, bias, epsilon }: { weight: Tensor; bias: Tensor; epsilon: number },
): Tensor {
  const columns = x.shape[x.shape.length - 1], rows = x.size / columns;
  const shape = { rows, columns, epsilon };
  const output = tape.allocate(x.shape), statistics = tape.allocate([rows, 2]);
  tape.run(layerNormKernel(shape), [x, weight, bias, output, statistics]);
  return tape.record({
    inputs: [x, weight, bias],
    output,
    saved: [statistics],
    forgetsOutput: true,
    backward(gradient) {
      const towards = tape.allocate(x.shape), weights = tape.allocate(weight.shape), biases = tape.allocate(bias.shape);
      tape.run(layerNormInputGradient(shape), [gradient, x, weight, statistics, towards]);
      tape.scratch(2 * layerNormChunks(shape) * columns, (partials) => {
        tape.device.run(layerNormParameterPartial(shape), [gradient.buffer, x.buffer, statistics.buffer, partials]);
        tape.device.run(layerNormParameterGradient(shape), [partials, weights.buffer, biases.buffer]);
      });
      return [towards, weights, biases];
    },
  });
}
