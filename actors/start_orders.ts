/**
 * What the controller orders: which actors to spawn where and what each is told, the taking of a checkpoint, the end. Pure
 * functions.
 */
import type { TrainConfig } from "../config.ts";
import type { Message } from "../wire/messages.ts";
import type { ControllerOptions, ControllerState } from "./controller_state.ts";
import { pinnedSteps, startEvaluator } from "./probing.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds, adapterOf, type Placement } from "./seats.ts";

/** One order a placement; a trainer's carries the environment that chooses its GPU. */
export function spawnOrders(placements: readonly Placement[], { adapters }: TrainConfig["cluster"]): Effect[] {
  return placements.map(({ id, role, host, index }): Effect => {
    const environment = role === "trainer" ? adapters[index % Math.max(1, adapters.length)]?.environment ?? {} : {};
    return { kind: "send", to: host, message: { type: "spawn", id, role, environment: { ...environment } } };
  });
}

/** Starts every actor of the run, the evaluator too; each order names the attempt, which the actor's token will name. */
export function startOrders(state: ControllerState, config: TrainConfig): Effect[] {
  const { attempt } = state;
  return [...spawnOrders(state.placements, config.cluster), ...startEvaluator(state, config)].map((order) =>
    order.kind === "send" && order.message.type === "spawn"
      ? { ...order, message: { ...order.message, attempt } }
      : order
  );
}

/** Tells every actor where the others are, what the run is, and who carries which replicas. */
export function configureOrders(state: ControllerState, { config, choices }: ControllerOptions): Effect[] {
  const actors = state.placements.flatMap(({ id }) => {
    const url = state.urls.get(id);
    return url === null || url === undefined ? [] : [{ id, url }];
  });
  const shards = state.placements.filter(({ role }) => role === "sync").map(({ id }) => id);
  const trainers = state.seats.map((seat) => ({ ...seat }));
  return state.placements.flatMap(({ id, role, index }): Effect[] => {
    const forTrainer = role === "trainer" ? { adapter: adapterOf(config.cluster, index), choices } : {};
    const configure: Message = {
      type: "configure",
      config: structuredClone(config) as Record<string, unknown>,
      trainers,
      shards,
      ...forTrainer,
    };
    return [
      { kind: "send", to: id, message: { type: "directory", actors } },
      { kind: "send", to: id, message: configure },
    ];
  });
}

/** Has the state before step `state.step` written. */
export function saveOrders(state: ControllerState): Effect[] {
  const { step, plateau } = state;
  const message: Message = { type: "save", step, progress: { plateau }, pinned: pinnedSteps(state) };
  return [...state.seats.map((seat) => seat.id), actorIds.checkpointer]
    .map((to): Effect => ({ kind: "send", to, message }));
}

/** Ends every actor that has started, and the hosts. */
export function stopOrders(state: ControllerState, reason: string): Effect[] {
  const started = state.placements.map(({ id }) => id).filter((id) => state.urls.has(id));
  return [...started, ...state.hosts].map((to): Effect => ({ kind: "send", to, message: { type: "stop", reason } }));
}
