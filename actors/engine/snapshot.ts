/**
 * A trainer's state as named tensors, out and back: weights and running statistics under torchvision's names, optimiser
 * state, queues. The trainer that carries replica 0 gives the whole state; the others their queues and the digest of
 * their weights, so that a trainer that has drifted is found.
 */
import { sha256Hex } from "../../checkpoint/manifest.ts";
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
  /** Queues of the local replicas, by replica. */
  readonly queues: ReadonlyMap<number, EmbeddingQueue>;
}

const stepCountName = "step_count";
const lossScaleName = "loss_scale";
const queuePattern = /^queue\.(\d+)\.(\d+)$/;
const writtenPattern = /^queue\.(\d+)\.written$/;

/** The state as parts; all of it when `whole`, else the queues alone. `digest` is the SHA-256 of the trained weights. */
export async function snapshot(
  holders: StateHolders & { readonly whole: boolean },
): Promise<{ parts: StatePart[]; digest: string }> {
  const { model, optimizer, lossScale, queues, whole } = holders;
  const state = await stateDict({ parameters: () => [...model.parameters], buffers: () => [...model.buffers] });
  const digest = weightsDigest(state, model);
  const parts: StatePart[] = [];
  for (const [replica, queue] of queues) {
    const { rings, written } = await queue.state();
    rings.forEach((ring, crop) => parts.push(part("optimizer", `queue.${replica}.${crop}`, ring)));
    parts.push(part("optimizer", `queue.${replica}.written`, new Float32Array([written])));
  }
  if (!whole) return { parts, digest };
  for (const [name, { shape, data }] of state) parts.push({ file: "model", name, tensor: toWire(data, shape) });
  const names = [...optimizer.state().keys()];
  const values = await readTensors([...optimizer.state().values()]);
  names.forEach((name, index) => parts.push(part("optimizer", name, values[index].slice())));
  parts.push(part("optimizer", stepCountName, new Float32Array([optimizer.stepCount])));
  if (lossScale !== undefined) parts.push(part("optimizer", lossScaleName, lossScale.state()));
  return { parts, digest };
}

/** Writes a whole state into the trainer; parts of other trainers' replicas are left out. */
export function restore(parts: readonly StatePart[], holders: StateHolders): void {
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

function weightsDigest(state: StateDict, model: Network): string {
  const digests = model.parameters.map(({ name }) => {
    const data = state.get(name)?.data ?? new Float32Array();
    return `${name} ${sha256Hex(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))}`;
  });
  return sha256Hex(digests.join("\n"));
}
