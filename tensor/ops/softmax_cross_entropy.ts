/** Softmax cross-entropy with soft targets on the tape, forward and gradient. */
import { scaleRows } from "../../kernels/elementwise.ts";
import {
  softmaxCrossEntropyCombine,
  softmaxCrossEntropyGradient,
  softmaxCrossEntropyPartial,
  softmaxCrossEntropyPartials,
} from "../../kernels/softmax_cross_entropy.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** Options of {@linkcode softmaxCrossEntropy}. */
export interface SoftmaxCrossEntropyOptions {
  /** Divides the scores. @default 1 */
  temperature?: number;
  /** Factor of every row's loss. @default 1 / rows */
  scale?: number;
}

/**
 * Loss of each row, `[N]`: `scale · Σ_k targets[i,k] · −log softmax(scores[i] / temperature)[k]`. The rows' sum is the
 * loss, with the default scale the mean over rows. `scores` and `targets` are `[N, K]`; rows of the targets need not sum
 * to 1, and no gradient flows to them. Going backward from this tensor with no gradient given is going backward from the
 * rows' sum.
 */
export function softmaxCrossEntropy(
  tape: Tape,
  { scores, targets }: { scores: Tensor; targets: Tensor },
  options: SoftmaxCrossEntropyOptions = {},
): Tensor {
  const [rows, columns] = scores.shape;
  if (targets.size !== scores.size) {
    throw new RangeError(
      `Cannot take the cross-entropy: targets must have the scores' shape [${rows}, ${columns}], they have [${
        targets.shape.join(", ")
      }]`,
    );
  }
  const { temperature = 1, scale = 1 / rows } = options;
  const shape = { rows, columns, temperature, scale };
  const losses = tape.allocate([rows]);
  const summaries = tape.allocate([rows, 4]);
  tape.scratch(softmaxCrossEntropyPartials(shape), (partials) => {
    tape.device.run(softmaxCrossEntropyPartial(shape), [scores.buffer, targets.buffer, partials]);
    tape.device.run(softmaxCrossEntropyCombine(shape), [partials, losses.buffer, summaries.buffer]);
  });
  return tape.record({
    inputs: [scores],
    output: losses,
    saved: [summaries],
    backward(gradient) {
      const towards = tape.allocate(scores.shape);
      tape.run(softmaxCrossEntropyGradient(shape), [scores, targets, summaries, towards]);
      if (tape.isOnes(gradient)) return [towards];
      const scaled = tape.allocate(scores.shape);
      tape.run(scaleRows(rows, columns), [towards, gradient, scaled]);
      tape.discard(towards);
      return [scaled];
    },
  });
}
