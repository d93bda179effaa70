/**
 * What the controller does about its evaluator: has it judge every so many steps' snapshots while training goes on, one at
 * a time with at most one waiting, and shows its results. Whatever happens to the evaluator, training never waits for it
 * and never fails with it. Pure decisions about the controller's memory; it computes nothing.
 */
import type { TrainConfig } from "../config.ts";
import type { Message } from "../wire/messages.ts";
import type { ControllerOptions, ControllerPorts, ControllerState } from "./controller_state.ts";
import type { ActorStatus } from "./events.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds, adapterOf } from "./seats.ts";
import { alarm, endOf } from "./watch.ts";

/** A checkpoint to be judged: the state before `step`. */
interface Snapshot {
  readonly step: number;
  readonly folder: string;
}

/** The controller's memory of its evaluator. */
export interface Probing {
  /** `absent`: not started in this attempt; `gone`: given up for the rest of the run. */
  evaluator: "absent" | "starting" | "idle" | "busy" | "gone";
  running: Snapshot | undefined;
  waiting: Snapshot | undefined;
  /** Losses of the evaluator since its last result. */
  losses: number;
  /** What it said before it ended. */
  lastWords: string | undefined;
  /** Null until it has started. */
  pid: number | null;
  /** Its last message, monotonic milliseconds. */
  heardAt: number;
}

/** Nothing started, nothing judged. */
export function noProbing(): Probing {
  return {
    evaluator: "absent",
    running: undefined,
    waiting: undefined,
    losses: 0,
    lastWords: undefined,
    pid: null,
    heardAt: 0,
  };
}

/** Losses in a row that are answered by a new start. */
const restartsMax = 2;
const timer = "probe";

/** Whether a run has its snapshots judged. */
export function probes({ probe }: TrainConfig): boolean {
  return probe.protocols.length > 0;
}

/** Whether the state before `step` is to be judged; the last one is in any case. */
export function probeDue(config: TrainConfig, { step, steps }: { step: number; steps: number }): boolean {
  return probes(config) && step > 0 && (step % config.probe.everySteps === 0 || step >= steps);
}

/** Steps whose checkpoints the evaluator still needs. */
export function pinnedSteps({ probing: { running, waiting } }: ControllerState): number[] {
  return [running, waiting].flatMap((snapshot) => snapshot === undefined ? [] : [snapshot.step]);
}

/** Whether a snapshot is being judged or waits for it. */
export function probesLeft(state: ControllerState): boolean {
  return state.probing.evaluator !== "gone" && pinnedSteps(state).length > 0;
}

/** Whether the run's end waits: for a snapshot that is being judged or waits for it, unless the run is interrupted. */
export function waitsForLast(state: ControllerState): boolean {
  if (state.interrupted || !probesLeft(state)) return false;
  state.phase = "judging";
  return true;
}

/** Says which snapshots nobody will judge any more. */
export function tellUnjudged(state: ControllerState, ports: ControllerPorts): void {
  if (!probesLeft(state)) return;
  for (const step of pinnedSteps(state)) ports.emit({ kind: "probe-skipped", step, for: null });
}

/** Starts the evaluator beside the other actors, if the run wants one. */
export function startEvaluator(state: ControllerState, config: TrainConfig): Effect[] {
  const { probing } = state;
  if (!probes(config) || probing.evaluator === "gone") return [];
  probing.evaluator = "starting";
  probing.lastWords = undefined;
  probing.pid = null;
  const adapter = config.probe.adapter ?? config.cluster.adapters[0];
  const environment = { ...adapter?.environment };
  const attempt = ++state.attempt;
  state.starts.set(actorIds.evaluator, attempt);
  return [
    {
      kind: "send",
      to: actorIds.localHost,
      message: { type: "spawn", id: actorIds.evaluator, role: "evaluator", attempt, environment },
    },
    alarm(timer, config.cluster.startTimeoutMs),
  ];
}

/** The host ends the evaluator with all others; what it was judging is judged again by the next one. */
export function haltEvaluator({ probing }: ControllerState): Effect[] {
  if (probing.evaluator !== "gone") probing.evaluator = "absent";
  putBack(probing);
  return [{ kind: "cancel-timer", name: timer }];
}

function putBack(probing: Probing): void {
  probing.waiting ??= probing.running;
  probing.running = undefined;
}

/** A checkpoint is written; the evaluator gets it now, or when it is free, in place of one that waits already. */
export function snapshotSaved(
  state: ControllerState,
  snapshot: Snapshot,
  { options: { config }, ports }: { options: ControllerOptions; ports: ControllerPorts },
): Effect[] {
  const { probing, steps } = state;
  if (probing.evaluator === "gone" || !probeDue(config, { step: snapshot.step, steps })) return [];
  if (probing.waiting !== undefined) {
    ports.emit({ kind: "probe-skipped", step: probing.waiting.step, for: snapshot.step });
  }
  const { step, folder } = snapshot;
  probing.waiting = { step, folder };
  return next(state, config);
}

function next({ probing }: ControllerState, config: TrainConfig): Effect[] {
  const { evaluator, waiting } = probing;
  if (evaluator !== "idle" || waiting === undefined) return [];
  probing.evaluator = "busy";
  probing.running = waiting;
  probing.waiting = undefined;
  return [
    { kind: "send", to: actorIds.evaluator, message: { type: "probe", ...waiting } },
    alarm(timer, config.probe.timeoutMs),
  ];
}

/** Whether a message is the evaluator's, or about it, and so nothing that the run's other actors hang on. */
export function concernsEvaluator(message: Message, from: string): boolean {
  if (from === actorIds.evaluator) return true;
  if (message.type === "actor-exited") return message.actor === actorIds.evaluator;
  if (message.type === "peer-down") return message.peer === actorIds.evaluator;
  return message.type === "alarm" && message.name === timer;
}

/** The evaluator's line in the run's status; none while there is no evaluator. */
export function evaluatorStatus(state: ControllerState, now: number): ActorStatus[] {
  const { evaluator, pid, heardAt } = state.probing;
  if (evaluator === "absent" || evaluator === "gone") return [];
  const starting = pid === null ? "starting" : "started";
  return [{
    id: actorIds.evaluator,
    role: "evaluator",
    host: actorIds.localHost,
    pid,
    attempt: state.starts.get(actorIds.evaluator) ?? 0,
    state: evaluator === "starting" ? starting : "ready",
    step: null,
    lastHeardMs: pid === null ? null : Math.round(now - heardAt),
  }];
}

/** Takes a message for which {@linkcode concernsEvaluator} holds. */
export function evaluatorSays(
  state: ControllerState,
  message: Message,
  { options, ports }: { options: ControllerOptions; ports: ControllerPorts },
): Effect[] {
  const { probing } = state;
  const { config } = options;
  if (probing.evaluator === "absent" || probing.evaluator === "gone") return [];
  probing.heardAt = ports.now();
  switch (message.type) {
    case "hello":
      probing.pid = message.pid;
      ports.emit({ kind: "started", actor: actorIds.evaluator, pid: message.pid });
      return [{ kind: "send", to: actorIds.evaluator, message: configure(state, config) }];
    case "ready":
      probing.evaluator = "idle";
      ports.emit({ kind: "ready", actor: actorIds.evaluator, detail: message.detail });
      return [{ kind: "cancel-timer", name: timer }, ...next(state, config)];
    case "probed":
      for (const { protocol, top1 } of message.results) {
        ports.emit({ kind: "probe", record: { step: message.step, probe: protocol, top1, seconds: message.seconds } });
      }
      probing.evaluator = "idle";
      probing.running = undefined;
      probing.losses = 0;
      return [{ kind: "cancel-timer", name: timer }, ...next(state, config)];
    case "failed":
      probing.lastWords = message.error.split("\n")[0];
      return [];
    case "actor-exited":
      // The end of one that another has replaced.
      if ((message.attempt ?? Infinity) < (state.starts.get(actorIds.evaluator) ?? 0)) return [];
      return lost(state, probing.lastWords ?? endOf(message), { config, ports });
    case "alarm":
      return giveUp(state, `waited too long for it to ${probing.evaluator === "busy" ? "judge" : "start"}`, ports);
    default:
      return [];
  }
}

function configure(state: ControllerState, config: TrainConfig): Message {
  return {
    type: "configure",
    config: structuredClone(config) as Record<string, unknown>,
    trainers: [],
    shards: state.placements.filter(({ role }) => role === "sync").map(({ id }) => id),
    adapter: adapterOf({ ...config.cluster, adapters: adaptersOf(config) }, 0),
  };
}

function adaptersOf({ probe, cluster }: TrainConfig): TrainConfig["cluster"]["adapters"] {
  return probe.adapter === undefined ? cluster.adapters : [probe.adapter];
}

/** It is started anew by itself, the others know nothing of it. */
function lost(
  state: ControllerState,
  error: string,
  { config, ports }: { config: TrainConfig; ports: ControllerPorts },
): Effect[] {
  const { probing } = state;
  probing.losses += 1;
  if (probing.losses > restartsMax) return giveUp(state, error, ports);
  ports.emit({ kind: "evaluator-lost", error, step: probing.running?.step ?? null, startsAnew: true });
  putBack(probing);
  return startEvaluator(state, config);
}

function giveUp(state: ControllerState, error: string, ports: ControllerPorts): Effect[] {
  const { probing } = state;
  ports.emit({ kind: "evaluator-lost", error, step: probing.running?.step ?? null, startsAnew: false });
  probing.evaluator = "gone";
  return [
    { kind: "cancel-timer", name: timer },
    { kind: "send", to: actorIds.evaluator, message: { type: "stop", reason: error } },
  ];
}
