/** L2 normalisation of rows on the tape, forward and gradient. */
import { normalizeRows, normalizeRowsGradient } from "../../kernels/normalize.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** Rows of `x [N, D]` over their L2 norms (at least 1e-12), as PyTorch's `F.normalize`. */
export function l2Normalize(tape: Tape, x: Tensor): Tensor {
  const [rows, columns] = x.shape;
  const output = tape.allocate(x.shape);
  const divisors = tape.allocate([rows]);
  tape.run(normalizeRows(rows, columns), [x, output, divisors]);
  return tape.record({
    inputs: [x],
    output,
    saved: [divisors],
    backward(gradient) {
      const result = tape.allocate(x.shape);
      tape.run(normalizeRowsGradient(rows, columns), [gradient, output, divisors, result]);
      return [result];
    },
  });
}
