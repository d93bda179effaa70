/**
 * Device memory of one trainer, layer by layer as the tape keeps it: raw outputs of convolutions and outputs of blocks live
 * until the backward pass has used them. It needs no device.
 */
import { choiceCount, cropsPerImage, type TrainConfig } from "../config.ts";
import { chooseSegments, passesSideBySide, peakActivations, stepActivations } from "../nn/segments.ts";
import type { NetworkSummary } from "./network.ts";

/** Bytes on one trainer's device. */
export interface MemoryPlan {
  readonly weightsBytes: number;
  readonly optimizerBytes: number;
  /** Of every replica carried, and their sum over the world. */
  readonly gradientBytes: number;
  /** Images, activations and their gradients at the worst moment, every replica carried, when all that is needed is kept. */
  readonly activationBytes: number;
  /** The same with `checkpointing.mode` "auto" and no budget. */
  readonly checkpointedActivationBytes: number;
  readonly totalBytes: number;
  readonly checkpointedTotalBytes: number;
}

/** Numbers kept for one row of the head: features, layers, normalised embedding, scores, targets or their gradient. */
function headActivations({ headDims }: NetworkSummary, config: TrainConfig): number {
  const layers = headDims.slice(1).reduce((sum, width, i) => {
    const last = i + 2 === headDims.length;
    // Product and bias; a hidden layer's batch norm or ReLU.
    return sum + width * (last ? 2 : 3);
  }, 0);
  const dim = headDims[headDims.length - 1];
  // A replica of SimCLR holds two rows an image of every replica.
  const world = config.method.name === "simclr" ? config.replicas * dim : 0;
  return headDims[0] + layers + dim + 2 * choiceCount(config) + world;
}

/** Tensors of the parameters' size that an optimiser keeps. */
function optimizerStates({ optimizer }: TrainConfig): number {
  return optimizer.name === "adamw" ? 2 : 1;
}

/** Memory of the trainer that carries `replicas` replicas at once. */
export function planMemory(config: TrainConfig, network: NetworkSummary, replicas: number): MemoryPlan {
  const parameterBytes = 4 * network.parameters.total;
  const images = config.batchPerReplica * replicas;
  const head = headActivations(network, config) * cropsPerImage(config);
  const pixels = config.crops.reduce((sum, { size, count }) => sum + 3 * count * size ** 2, 0);
  const passes = stepActivations(network.spec, {
    crops: config.crops,
    images: config.batchPerReplica,
    numberBytes: config.precision === "mixed" ? 2 : 4,
  });
  // Checkpointed runs take their passes in turn (swav/train_step.ts).
  const together = config.syncBatchNormGroup > 1 ? passesSideBySide(passes) : passes;
  const least = chooseSegments(passes, { replicas });
  const activations = (kind: "all" | "checkpointed") =>
    4 * images * (head + pixels) +
    (kind === "all" ? peakActivations(together, [], { replicas }) : peakActivations(passes, least, { replicas }));
  const weightsBytes = parameterBytes, optimizerBytes = optimizerStates(config) * parameterBytes;
  const gradientBytes = (replicas + 1) * parameterBytes;
  const state = weightsBytes + optimizerBytes + gradientBytes;
  const activationBytes = activations("all"), checkpointedActivationBytes = activations("checkpointed");
  return {
    weightsBytes,
    optimizerBytes,
    gradientBytes,
    activationBytes,
    checkpointedActivationBytes,
    totalBytes: state + activationBytes,
    checkpointedTotalBytes: state + checkpointedActivationBytes,
  };
}
