/** The sum of two equally shaped tensors on the tape, forward and gradient. */
import { add as addKernel } from "../../kernels/elementwise.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** `a + b`. */
export function add(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const output = tape.allocate(a.shape, a.dtype);
  tape.run(addKernel(a.size, a.dtype), [a, b, output]);
  return tape.record({ inputs: [a, b], output, backward: (gradient) => [gradient, gradient] });
}
