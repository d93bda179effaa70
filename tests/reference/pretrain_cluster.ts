/**
 * The reference case as a cluster: controller, host, trainers with their engines, sync shards, Sinkhorn coordinator and
 * checkpointer over real WebSockets; the loader alone is a stand-in, since the crops come from the reference.
 */
import { Engine } from "../../actors/engine/engine.ts";
import type { RunEvent } from "../../actors/events.ts";
import { processRoles } from "../../actors/roles.ts";
import { mathsDigest, runFolder } from "../../actors/run_identity.ts";
import type { Behavior, Role } from "../../actors/runtime/behavior.ts";
import { actorIds } from "../../actors/seats.ts";
import { trainerRole, workerId } from "../../actors/trainer.ts";
import { f32Tensor, type SafeTensor } from "../../checkpoint/safetensors.ts";
import { DirectoryStore } from "../../checkpoint/store.ts";
import type { TrainConfig } from "../../config.ts";
import type { Device } from "../../device/device.ts";
import { memoryLinkPair } from "../../wire/memory_link.ts";
import { toWire } from "../../wire/tensor.ts";
import { runOverSockets } from "../actors/socket_run.ts";
import type { ReferenceArrays } from "./arrays.ts";
import { cropsOf, initialState } from "./pretrain_case.ts";

/** Writes the case's first weights as the checkpoint before step 0 and runs the cluster from there; all its events. */
export async function clusterOf(
  reference: ReferenceArrays,
  { config, device }: { config: TrainConfig; device: Device },
): Promise<RunEvent[]> {
  const model = new Map<string, SafeTensor>();
  for (const [name, { shape, data }] of initialState(reference)) model.set(name, f32Tensor(data, shape));
  await new DirectoryStore(runFolder(config)).save({
    runId: config.run.name,
    step: 0,
    progress: {},
    configDigest: mathsDigest(config),
    createdAt: new Date(0),
    model,
    optimizer: new Map(),
  });
  const roles = {
    ...processRoles,
    loader: emptyLoader(),
    trainer: referenceTrainer(reference, { config, device }),
  };
  return await runOverSockets({ config, roles, resume: {} });
}

/** Serves batches without images; the trainers' crops come from the reference. */
function emptyLoader(): Role {
  const behavior: Behavior<null> = {
    init: () => [null, []],
    handle(state, message, from) {
      switch (message.type) {
        case "stop":
          return [state, [{ kind: "stop", reason: message.reason }]];
        case "configure":
          return [state, [
            { kind: "send", to: actorIds.controller, message: { type: "source", images: 1, stepsPerEpoch: 1 } },
            { kind: "send", to: actorIds.controller, message: { type: "ready", detail: "" } },
          ]];
        case "want-batch": {
          const { step, replica } = message;
          const numbers = { ids: [], offsets: [], widths: [], heights: [] };
          const pixels = toWire(new Uint8Array(0));
          return [state, [
            { kind: "send", to: from, message: { type: "batch", step, replica, ...numbers, pixels, replaced: [] } },
          ]];
        }
        default:
          return [state, []];
      }
    },
  };
  return { listens: true, create: () => behavior };
}

/** A trainer whose engine gets the reference's crops. */
function referenceTrainer(
  reference: ReferenceArrays,
  { config, device }: { config: TrainConfig; device: Device },
): Role {
  return trainerRole((context) => {
    const [trainerSide, engineSide] = memoryLinkPair(context.id, workerId);
    const engine = new Engine({
      id: context.id,
      send: (message) => engineSide.send(message),
      openDevice: () => Promise.resolve(device),
      now: () => performance.now(),
      views: (on, { step, replica }) => cropsOf(reference, on, { step, replica, replicas: config.replicas }),
    });
    engineSide.onMessage = (message) => engine.receive(message);
    return trainerSide;
  });
}
