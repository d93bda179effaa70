/** Binary cross-entropy of logits on the tape, forward and gradient. */
import { sigmoidCrossEntropy as lossKernel, sigmoidCrossEntropyGradient } from "../../kernels/sigmoid_cross_entropy.ts";
import { scaleRows } from "../../kernels/elementwise.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/**
 * Loss of each row, `[N]`: `scale · Σ_k max(z, 0) − z t + log(1 + exp(−|z|))` over the places whose mark t is not
 * negative. `logits` and `marks` are `[N, K]`; no gradient flows to the marks.
 *
 * @throws {RangeError} When logits and marks differ in size.
 */
export function sigmoidCrossEntropy(
  tape: Tape,
  { logits, marks }: { logits: Tensor; marks: Tensor },
  options: {
    /** Factor of every row's loss. @default 1 / (rows · columns), the mean over all places */
    scale?: number;
  } = {},
): Tensor {
  const [rows, columns] = logits.shape;
  if (marks.size !== logits.size) {
    throw new RangeError(
      `Cannot take the cross-entropy: marks must have the logits' shape [${rows}, ${columns}], they have [${
        marks.shape.join(", ")
      }]`,
    );
  }
  const shape = { rows, columns, scale: options.scale ?? 1 / (rows * columns) };
  const losses = tape.allocate([rows]);
  tape.run(lossKernel(shape), [logits, marks, losses]);
  return tape.record({
    inputs: [logits],
    output: losses,
    backward(gradient) {
      const towards = tape.allocate(logits.shape);
      tape.run(sigmoidCrossEntropyGradient(shape), [logits, marks, towards]);
      if (tape.isOnes(gradient)) return [towards];
      const scaled = tape.allocate(logits.shape);
      tape.run(scaleRows(rows, columns), [towards, gradient, scaled]);
      tape.discard(towards);
      return [scaled];
    },
  });
}
