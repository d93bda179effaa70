/**
 * Device memory of one trainer, layer by layer as the tape keeps it: every op's output lives until the backward pass has
 * used it. Everything is f32. It needs no device.
 */
import { cropsPerImage, type TrainConfig } from "../config.ts";
import { type BlockSpec, regnetBlocks } from "../nn/regnet_spec.ts";
import { halvedSide, type NetworkSummary } from "./network.ts";

/** Bytes on one trainer's device. */
export interface MemoryPlan {
  readonly weightsBytes: number;
  readonly optimizerBytes: number;
  /** Of every replica carried, and their sum over the world. */
  readonly gradientBytes: number;
  /** Saved activations of every replica carried, when each op's output is kept. */
  readonly activationBytes: number;
  /** The same when only the blocks' outputs are kept and one block at a time is computed again. */
  readonly checkpointedActivationBytes: number;
  readonly totalBytes: number;
  readonly checkpointedTotalBytes: number;
}

/** Numbers that a block's ops keep for one image; `output` is the block's own output among them. */
function blockActivations(block: BlockSpec, size: number): { all: number; output: number } {
  const { stage, stride, width, squeezeWidth, projected } = block;
  const output = width * halvedSide(size, stage + 2) ** 2;
  const input = stride === 2 ? width * halvedSide(size, stage + 1) ** 2 : output;
  // A convolution and its batch norm keep one output each.
  const convolutions = 2 * (input + output * (projected ? 3 : 2));
  // Average, fc1 with and without bias, ReLU, fc2 with and without bias, sigmoid, and the scaled channels.
  const squeeze = squeezeWidth > 0 ? output + 4 * width + 3 * squeezeWidth : 0;
  return { all: convolutions + squeeze + output, output };
}

/** Numbers kept for the trunk's pass over one image of `size` pixels. */
export function trunkActivations({ spec }: NetworkSummary, size: number): { all: number; checkpointed: number } {
  const blocks = regnetBlocks(spec).map((block) => blockActivations(block, size));
  const images = 3 * size ** 2, stem = 2 * spec.stemWidth * halvedSide(size, 1) ** 2;
  const features = spec.widths[spec.widths.length - 1];
  const all = images + stem + blocks.reduce((sum, block) => sum + block.all, 0) + features;
  const kept = images + stem + blocks.reduce((sum, block) => sum + block.output, 0) + features;
  return { all, checkpointed: kept + Math.max(...blocks.map((block) => block.all - block.output)) };
}

/** Numbers kept for one row of the head: features, layers, normalised embedding, scores, targets, loss. */
function headActivations({ headDims }: NetworkSummary, config: TrainConfig): number {
  const layers = headDims.slice(1).reduce((sum, width, i) => {
    const last = i + 2 === headDims.length;
    // Product and bias; a hidden layer's batch norm or ReLU.
    return sum + width * (last ? 2 : 3);
  }, 0);
  return headDims[0] + layers + headDims[headDims.length - 1] + 2 * config.prototypes.count;
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
  const passes = config.crops.map(({ size, count }) => {
    const { all, checkpointed } = trunkActivations(network, size);
    return { all: all * count, checkpointed: checkpointed * count };
  });
  const activations = (kind: "all" | "checkpointed") =>
    4 * images * (head + passes.reduce((sum, pass) => sum + pass[kind], 0));
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
