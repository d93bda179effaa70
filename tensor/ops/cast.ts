/** A tensor in another storage on the tape, forward and gradient. */
import { cast as kernel } from "../../kernels/elementwise.ts";
import type { Tape } from "../tape.ts";
import type { Storage, Tensor } from "../tensor.ts";

/** `x` as `dtype`; `x` itself where it is stored so already. The gradient is stored as `x` is. */
export function cast(tape: Tape, x: Tensor, dtype: Storage): Tensor {
  if (x.dtype === dtype) return x;
  const { size, shape, dtype: from } = x;
  const output = tape.allocate(shape, dtype);
  tape.run(kernel(size, { from, to: dtype }), [x, output]);
  return tape.record({
    inputs: [x],
    output,
    backward(gradient) {
      const result = tape.allocate(shape, from);
      tape.run(kernel(size, { from: dtype, to: from }), [gradient, result]);
      return [result];
    },
  });
}
