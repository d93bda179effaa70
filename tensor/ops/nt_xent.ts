/**
 * NT-Xent on the tape, forward and gradient, in two parts: between them the caller learns the log-sums of the world's
 * other rows, which it alone knows how to get.
 */
import { matmul } from "../../kernels/matmul.ts";
import {
  ntXentCombine,
  ntXentGradient,
  ntXentPartial,
  ntXentPartials,
  type NtXentShape,
} from "../../kernels/nt_xent.ts";
import { scaleRows } from "../../kernels/elementwise.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** The first part's results; all belong to the tape. */
export interface NtXentForward {
  readonly shape: NtXentShape;
  /** This replica's, `[rows, dim]`. */
  readonly embeddings: Tensor;
  /** All rows of the world, `[columns, dim]`, this replica's first. */
  readonly world: Tensor;
  /** Cosines, `[rows, columns]`. */
  readonly scores: Tensor;
  /** Loss of each row times the scale, `[rows]`. */
  readonly losses: Tensor;
  /** log Σ_{k≠i} exp(s[i,k]/τ), `[rows]`. */
  readonly logSums: Tensor;
}

/**
 * Losses and log-sums of a replica's rows, which are of unit length and hold first one view of all its images, then the
 * other; nothing is recorded.
 *
 * @throws {RangeError} when the world's rows do not begin with as many as the replica has, in pairs.
 */
export function ntXentForward(
  tape: Tape,
  { embeddings, world }: { embeddings: Tensor; world: Tensor },
  { temperature, scale }: { temperature: number; scale: number },
): NtXentForward {
  const [rows, dim] = embeddings.shape, [columns, worldDim] = world.shape;
  if (rows % 2 !== 0 || columns < rows || dim !== worldDim) {
    throw new RangeError(
      `Cannot contrast: the world must hold the replica's pairs of rows [${rows}, ${dim}], it is [${
        world.shape.join(", ")
      }]`,
    );
  }
  const shape = { rows, columns, temperature, scale };
  const [scores, losses, logSums] = [[rows, columns], [rows], [rows]].map((each) => tape.allocate(each));
  tape.run(matmul({ m: rows, n: columns, k: dim, transposeB: true }), [embeddings, world, scores]);
  tape.scratch(ntXentPartials(shape), (partials) => {
    tape.device.run(ntXentPartial(shape), [scores.buffer, partials]);
    tape.device.run(ntXentCombine(shape), [partials, scores.buffer, losses.buffer, logSums.buffer]);
  });
  return { shape, embeddings, world, scores, losses, logSums };
}

/**
 * Records the loss, whose rows' sum is this replica's share: its gradient towards the embeddings is that of the whole
 * world's loss, in which they are anchors, positives and negatives. `worldLogSums` are those of the world's rows in their
 * order, `[columns]`. A gradient given from above must be the same for all rows, of other replicas too.
 */
export function ntXent(tape: Tape, forward: NtXentForward, worldLogSums: Tensor): Tensor {
  const { shape, embeddings, world, scores, losses, logSums } = forward;
  const { rows, columns } = shape;
  const dim = embeddings.shape[1];
  return tape.record({
    inputs: [embeddings],
    output: losses,
    saved: [world, scores, logSums, worldLogSums],
    backward(gradient) {
      const weights = tape.allocate(scores.shape), towards = tape.allocate(embeddings.shape);
      tape.run(ntXentGradient(shape), [scores, worldLogSums, weights]);
      tape.run(matmul({ m: rows, n: dim, k: columns }), [weights, world, towards]);
      tape.discard(weights);
      if (tape.isOnes(gradient)) return [towards];
      const scaled = tape.allocate(embeddings.shape);
      tape.run(scaleRows(rows, dim), [towards, gradient, scaled]);
      tape.discard(towards);
      return [scaled];
    },
  });
}
