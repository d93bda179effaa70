/** ReLU and sigmoid on the tape, forward and gradient. */
import {
  relu as reluKernel,
  reluGradient,
  sigmoid as sigmoidKernel,
  sigmoidGradient,
} from "../../kernels/elementwise.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** `max(x, 0)`, any shape and storage. */
export function relu(tape: Tape, x: Tensor): Tensor {
  const output = tape.allocate(x.shape, x.dtype);
  tape.run(reluKernel(x.size, x.dtype), [x, output]);
  return tape.record({
    inputs: [x],
    output,
    backward(gradient) {
      const result = tape.allocate(x.shape, x.dtype);
      tape.run(reluGradient(x.size, x.dtype), [gradient, output, result]);
      return [result];
    },
  });
}

/** `1 / (1 + exp(-x))`, any shape, f32. */
export function sigmoid(tape: Tape, x: Tensor): Tensor {
  const output = tape.allocate(x.shape);
  tape.run(sigmoidKernel(x.size), [x, output]);
  return tape.record({
    inputs: [x],
    output,
    backward(gradient) {
      const result = tape.allocate(x.shape);
      tape.run(sigmoidGradient(x.size), [gradient, output, result]);
      return [result];
    },
  });
}
