/** Sums of two equally shaped tensors on the tape, plain and behind a ReLU, forward and gradient. */
import { add as addKernel, addRelu as addReluKernel, reluGradient } from "../../kernels/elementwise.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** `a + b`. */
export function add(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const output = tape.allocate(a.shape);
  tape.run(addKernel(a.size), [a, b, output]);
  return tape.record({ inputs: [a, b], output, backward: (gradient) => [gradient, gradient] });
}

/** `max(a + b, 0)`: the end of a residual block. */
export function addRelu(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const output = tape.allocate(a.shape);
  tape.run(addReluKernel(a.size), [a, b, output]);
  return tape.record({
    inputs: [a, b],
    output,
    backward(gradient) {
      const result = tape.allocate(a.shape);
      tape.run(reluGradient(a.size), [gradient, output, result]);
      return [result, result];
    },
  });
}
