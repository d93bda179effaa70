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

/** The order to start one actor; a trainer's carries the environment that chooses its GPU. */
export function spawnOrder(
  { id, role, host, index }: Placement,
  { cluster: { adapters }, attempt }: { cluster: TrainConfig["cluster"]; attempt: number },
): Effect {
  const environment = role === "trainer" ? adapters[index % Math.max(1, adapters.length)]?.environment ?? {} : {};
  return { kind: "send", to: host, message: { type: "spawn", id, role, attempt, environment: { ...environment } } };
}

/** Lets no earlier start of these actors in: one may live that neither this controller nor its hosts know of. */
export function refuseOlder(peers: readonly string[], below: number): Effect {
  return { kind: "disconnect", peers, reason: `start ${below} of it counts`, below };
}

/** Starts every actor of the run, the evaluator too; each order names the attempt, which the actor's token will name. */
export function startOrders(state: ControllerState, config: TrainConfig): Effect[] {
  const { attempt } = state;
  const { cluster } = config;
  for (const { id } of state.placements) state.starts.set(id, attempt);
  const orders = state.placements.map((placement) => spawnOrder(placement, { cluster, attempt }));
  const ids = state.placements.map(({ id }) => id);
  return [refuseOlder(ids, attempt), ...orders, ...startEvaluator(state, config)];
}

/** Tells these actors, or all that are ready, where the others are and which starts of them count. */
export function directoryOrders(state: ControllerState, to?: readonly string[]): Effect[] {
  const actors = state.placements.flatMap(({ id }) => {
    const url = state.urls.get(id);
    return url === null || url === undefined ? [] : [{ id, url, attempt: state.starts.get(id) ?? 0 }];
  });
  const receivers = to ?? state.placements.map(({ id }) => id).filter((id) => state.ready.has(id));
  return receivers.map((id): Effect => ({ kind: "send", to: id, message: { type: "directory", actors } }));
}

/** Tells one actor what the run is, and who carries which replicas. */
export function configureOrder(
  state: ControllerState,
  { config, choices }: ControllerOptions,
  { id, role, index }: Placement,
): Effect {
  const forTrainer = role === "trainer" ? { adapter: adapterOf(config.cluster, index), choices } : {};
  const message: Message = {
    type: "configure",
    config: structuredClone(config) as Record<string, unknown>,
    trainers: state.seats.map((seat) => ({ ...seat })),
    shards: state.placements.filter((each) => each.role === "sync").map((each) => each.id),
    epoch: state.epoch,
    ...forTrainer,
  };
  return { kind: "send", to: id, message };
}

/** Tells every actor where the others are, what the run is, and who carries which replicas. */
export function configureOrders(state: ControllerState, options: ControllerOptions): Effect[] {
  return state.placements.flatMap((placement): Effect[] => [
    ...directoryOrders(state, [placement.id]),
    configureOrder(state, options, placement),
  ]);
}

/** Has the state before step `state.step` written, as one of the trainers has it. */
export function saveOrders(state: ControllerState): Effect[] {
  const { step, epoch, plateau, seats: [{ id: by }] } = state;
  const message: Message = { type: "save", step, epoch, by, progress: { plateau }, pinned: pinnedSteps(state) };
  return [by, actorIds.checkpointer].map((to): Effect => ({ kind: "send", to, message }));
}

/** Has a host end all its actors of starts before `attempt`. */
export function halt(host: string, attempt: number): Effect {
  return { kind: "send", to: host, message: { type: "halt", attempt } };
}

/** Ends every actor that has started, and the hosts. */
export function stopOrders(state: ControllerState, reason: string): Effect[] {
  const started = state.placements.map(({ id }) => id).filter((id) => state.urls.has(id));
  return [...started, ...state.hosts].map((to): Effect => ({ kind: "send", to, message: { type: "stop", reason } }));
}
