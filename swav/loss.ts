/**
 * The swapped prediction loss: every crop predicts the codes of the assign crops that it is not. It does not know how
 * codes are made.
 */
import { swavTargets } from "../kernels/swav_targets.ts";
import { softmaxCrossEntropy } from "../tensor/ops/softmax_cross_entropy.ts";
import type { Tape } from "../tensor/tape.ts";
import { type Tensor, tensorFrom } from "../tensor/tensor.ts";

/** Options of {@linkcode swavLoss}. */
export interface SwavLossOptions {
  /** Samples of this replica. */
  readonly batch: number;
  readonly assignCrops: readonly number[];
  readonly temperature: number;
  /** Replicas over which gradients are summed, so that the sum is the mean. @default 1 */
  readonly replicas?: number;
}

/**
 * Loss of each row, `[crops · batch]`, whose sum is this replica's share of the mean loss over the world:
 * `1/A Σ_a 1/(C−1) Σ_{c≠a} mean_i −Σ_k q_a[i,k] log softmax(s_c[i]/τ)[k]`, divided by `replicas`.
 *
 * `scores` is `[crops · batch, prototypes]`, crop-major; `codes` is `[assignCrops, batch, prototypes]`, and no gradient
 * flows to it. Source: SwAV's `main_swav.py` and VISSL's `swav_loss.py`.
 */
export function swavLoss(
  tape: Tape,
  { scores, codes }: { scores: Tensor; codes: Float32Array<ArrayBuffer> },
  options: SwavLossOptions,
): Tensor {
  const { batch, assignCrops, temperature, replicas = 1 } = options;
  const [rows, prototypes] = scores.shape;
  const crops = rows / batch;
  const targets = tape.allocate(scores.shape);
  const codesTensor = tape.adopt(tensorFrom(tape.device, codes, [assignCrops.length * batch, prototypes]));
  tape.run(swavTargets({ batch, crops, prototypes, assignCrops }), [codesTensor, targets]);
  const scale = 1 / (assignCrops.length * (crops - 1) * batch * replicas);
  return softmaxCrossEntropy(tape, { scores, targets }, { temperature, scale });
}
