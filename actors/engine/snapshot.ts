/**
 * The training state as named tensors, out and back: weights and running statistics under torchvision's names, optimiser
 * state, the queues of all replicas. Every trainer has all of it, so any one of them can give it.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { loadStateDict, type StateDict, stateDict } from "../../nn/state_dict.ts";
import type { LossScale } from "../../optim/loss_scale.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import type { Network } from "../../methods/step.ts";
import type { EmbeddingQueue } from "../../swav/queue.ts";
import { readTensors } from "../../tensor/tensor.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

/** One named tensor on its way to or from a checkpoint. */
export type StatePart = Extract<Message, { type: "state-part" }>["part"];

/** What has a state. */
export interface StateHolders {
  readonly model: Network;
  readonly optimizer: Optimizer;
  /** In mixed precision. */
  readonly lossScale?: LossScale;
  /** Queues of all replicas, by replica. */
  readonly queues: ReadonlyMap<number, EmbeddingQueue>;
}

const stepCountName = "step_count";
const lossScaleName = "loss_scale";
const queuePattern = /^queue\.(\d+)\.(\d+)$/;
const writtenPattern = /^queue\.(\d+)\.written$/;

/** The state as parts. */
export async function snapshot({ model, optimizer, lossScale, queues }: StateHolders): Promise<StatePart[]> {
  const state = await stateDict({ parameters: () => [...model.parameters], buffers: () => [...model.buffers] });
  const parts: StatePart[] = [];
  for (const [replica, queue] of queues) {
    const { rings, written } = await queue.state();
    rings.forEach((ring, crop) => parts.push(part("optimizer", `queue.${replica}.${crop}`, ring)));
    parts.push(part("optimizer", `queue.${replica}.written`, new Float32Array([written])));
  }
  for (const [name, { shape, data }] of state) parts.push({ file: "model", name, tensor: toWire(data, shape) });
  const names = [...optimizer.state().keys()];
  const values = await readTensors([...optimizer.state().values()]);
  names.forEach((name, index) => parts.push(part("optimizer", name, values[index].slice())));
  parts.push(part("optimizer", stepCountName, new Float32Array([optimizer.stepCount])));
  if (lossScale !== undefined) parts.push(part("optimizer", lossScaleName, lossScale.state()));
  return parts;
}

/** SHA-256 of a part's numbers, in hex. */
export function partDigest({ tensor: { bytes } }: StatePart): string {
  return createHash("sha256").update(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)).digest("hex");
}

/** Writes a whole state into the trainer. */
export function restore(parts: Iterable<StatePart>, holders: StateHolders): void {
  const { model, optimizer, lossScale, queues } = holders;
  const weights: StateDict = new Map();
  const state = new Map<string, Float32Array<ArrayBuffer>>();
  const rings = new Map<number, Float32Array<ArrayBuffer>[]>();
  const written = new Map<number, number>();
  let stepCount = 0;
  for (const { file, name, tensor } of parts) {
    const data = new Float32Array(f32FromWire(tensor));
    const ring = queuePattern.exec(name);
    const count = writtenPattern.exec(name);
    if (file === "model") weights.set(name, { shape: tensor.shape, data });
    else if (name === stepCountName) stepCount = data[0];
    else if (name === lossScaleName) lossScale?.load(data);
    else if (count !== null) written.set(Number(count[1]), data[0]);
    else if (ring !== null) {
      const own = rings.get(Number(ring[1])) ?? [];
      own[Number(ring[2])] = data;
      rings.set(Number(ring[1]), own);
    } else state.set(name, data);
  }
  loadStateDict({ parameters: () => [...model.parameters], buffers: () => [...model.buffers] }, weights);
  optimizer.load(model.parameters, { state, stepCount });
  for (const [replica, queue] of queues) {
    const own = rings.get(replica);
    if (own !== undefined) queue.load({ rings: own, written: written.get(replica) ?? 0 });
  }
}

function part(file: StatePart["file"], name: string, data: Float32Array<ArrayBuffer>): StatePart {
  return { file, name, tensor: toWire(data) };
}
