/** GELU on the tape, forward and gradient. */
import { gelu as geluKernel, geluGradient } from "../../kernels/gelu.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** `x · Φ(x)`, exact, any shape, f32. */
export function gelu(tape: Tape, x: Tensor): Tensor {
  const output = tape.allocate(x.shape);
  tape.run(geluKernel(x.size), [x, output]);
  return tape.record({
    inputs: [x],
    output,
    forgetsOutput: true,
    backward(gradient) {
      const result = tape.allocate(x.shape);
      tape.run(geluGradient(x.size), [gradient, x, result]);
      return [result];
    },
  });
}
