/** What a trainer's device memory is used for, by sums over the tensors that live from step to step. */
import type { Device } from "../../device/device.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import type { Network } from "../../methods/step.ts";
import type { EmbeddingQueue } from "../../swav/queue.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { StepMemory } from "../events.ts";

function bytesOf(tensors: Iterable<Tensor>): number {
  let bytes = 0;
  for (const { buffer } of tensors) bytes += buffer.byteLength;
  return bytes;
}

/**
 * Memory by purpose; to be asked between steps.
 *
 * @param replicas carried here: gradients of each live beside their sum until a step ends
 * @param resting names of parameters without a gradient
 */
export function memoryUse(
  device: Device,
  { model, optimizer, queues, replicas = 1, resting = new Set() }: {
    model: Network;
    optimizer: Optimizer;
    queues: ReadonlyMap<number, EmbeddingQueue>;
    replicas?: number;
    resting?: ReadonlySet<string>;
  },
): StepMemory {
  const { liveBytes, peakBytes, reservedBytes } = device.memory;
  const lasting = {
    parameters: bytesOf([...model.parameters, ...model.buffers].map(({ tensor }) => tensor)),
    optimizer: bytesOf(optimizer.state().values()),
    queues: bytesOf([...queues.values()].flatMap((queue) => queue.tensors())),
  };
  const sum = lasting.parameters + lasting.optimizer + lasting.queues;
  const learning = model.parameters.filter(({ name }) => !resting.has(name));
  return {
    ...lasting,
    transient: Math.max(0, peakBytes - sum),
    gradients: (replicas + 1) * bytesOf(learning.map(({ tensor }) => tensor)),
    live: liveBytes,
    reserved: reservedBytes,
  };
}
