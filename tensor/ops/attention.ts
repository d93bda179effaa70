/** Multi-head self-attention on the tape, forward and gradient. */
import {
  attentionGradient,
  attentionOutput,
  attentionProbabilities,
  attentionScoreGradient,
  attentionSoftmax,
} from "../../kernels/attention.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/**
 * softmax(QKᵀ/√D)·V of packed projections `qkv [N, T, 3·H·D]`, all queries, then keys, then values: `[N, T, H·D]`, f32.
 *
 * @throws {RangeError} When the heads do not divide the width.
 */
export function attention(tape: Tape, qkv: Tensor, { heads }: { heads: number }): Tensor {
  const [images, tokens, packed] = qkv.shape;
  const width = packed / 3;
  if (!Number.isInteger(width) || width % heads !== 0) {
    throw new RangeError(`Cannot attend: ${heads} heads must divide a third of ${packed} features`);
  }
  const shape = { images, tokens, heads, features: width / heads };
  const probabilities = tape.allocate([attentionProbabilities(shape)]);
  const output = tape.allocate([images, tokens, width]);
  tape.run(attentionSoftmax(shape), [qkv, probabilities]);
  tape.run(attentionOutput(shape), [qkv, probabilities, output]);
  return tape.record({
    inputs: [qkv],
    output,
    saved: [probabilities],
    forgetsOutput: true,
    backward(gradient) {
      const scores = tape.allocate(probabilities.shape), result = tape.allocate(qkv.shape);
      tape.run(attentionScoreGradient(shape), [gradient, qkv, probabilities, scores]);
      tape.run(attentionGradient(shape), [gradient, qkv, probabilities, scores, result]);
      tape.discard(scores);
      return [result];
    },
  });
}
