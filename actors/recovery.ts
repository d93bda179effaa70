/**
 * What the controller does about a loss that cannot be mended one by one (`regroup.ts`): all actors of the attempt are ended
 * and started anew from the newest checkpoint (one_for_all, as OTP calls it); the controller and the hosts live on. A run
 * that makes no progress any more gives up, naming the first cause. Pure decisions about the controller's memory.
 */
import { PLATEAU_START } from "../optim/schedule.ts";
import type { ControllerState } from "./controller_state.ts";
import type { RunFailure } from "./events.ts";
import type { Message } from "../wire/messages.ts";
import { noteOrphans } from "./orphans.ts";
import { haltEvaluator } from "./probing.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";

/** Restarts since the run last took a step it had never taken before. */
export interface Restarts {
  readonly taken: number;
  /** One after the last step ever taken. */
  readonly furthest: number;
  /** What the first of these restarts was for. */
  readonly first: RunFailure | undefined;
  /** The latest blow: when it fell, and whom it has hit. Who falls together counts once. */
  readonly blow: { readonly at: number; readonly actors: readonly string[] };
}

/** No restart so far. */
export const NO_RESTARTS: Restarts = { taken: 0, furthest: 0, first: undefined, blow: { at: -Infinity, actors: [] } };

/** Losses of different actors within this time are one blow: a host that goes takes its actors along. */
const blowMs = 100;

/** Time a host has to end its actors; it kills them long before. */
export const haltTimeoutMs = 10_000;
const backoffMaxMs = 30_000;

/** The wait before restart number `restart`, counted from 1: none, then 1 s, doubled each time, at most 30 s. */
export function backoffMs(restart: number): number {
  return restart <= 1 ? 0 : Math.min(backoffMaxMs, 1000 * 2 ** (restart - 2));
}

/** Losses in a row without a new step before this one, which counts with others of the same blow. */
export function lossesBefore({ restarts }: ControllerState, actor: string, now: number): number {
  return sameBlow(restarts, actor, now) ? restarts.taken - 1 : restarts.taken;
}

/** Whether a loss now is one that a new start can mend. */
export function mayRestart(state: ControllerState): boolean {
  // What fails before the first step fails again: a folder without images, a device that is too small.
  const underWay = state.phase === "training" || state.phase === "regrouping" || state.attempt > state.firstAttempt;
  return underWay;
}

/** The failure to report when the run ends for it: with restarts behind it, the first cause, and that they did not help. */
export function rootCause(state: ControllerState, failure: RunFailure): RunFailure {
  const { taken, first } = state.restarts;
  if (first === undefined) return failure;
  const latest = failure.error === first.error ? "" : `; at last: ${failure.actor}: ${failure.error}`;
  return { ...first, error: `${first.error} (${taken} restarts gave no new step${latest})` };
}

/** Takes the step before `state.step` down as taken; a step never taken before ends the count of restarts. */
export function noteProgress(state: ControllerState): void {
  if (state.step <= state.restarts.furthest) return;
  state.restarts = { ...NO_RESTARTS, furthest: state.step };
  if (state.hosts.includes(actorIds.localHost)) state.hostLosses = 0;
}

function sameBlow({ blow }: Restarts, actor: string, now: number): boolean {
  return now - blow.at < blowMs && !blow.actors.includes(actor);
}

/** Counts a loss in a row without a new step, whether it is mended or all start anew. */
export function countRestart(state: ControllerState, failure: RunFailure, now: number): void {
  const { taken, first, blow, furthest } = state.restarts;
  const same = sameBlow(state.restarts, failure.actor, now);
  state.restarts = {
    furthest,
    taken: same ? taken : taken + 1,
    first: first ?? failure,
    blow: same ? { ...blow, actors: [...blow.actors, failure.actor] } : { at: now, actors: [failure.actor] },
  };
}

/**
 * Begins a restart for `failure`: forgets all that this attempt has told, and has every host end its actors. Hosts that are
 * lost are not counted on any more.
 */
export function beginRestart(state: ControllerState, failure: RunFailure, now: number): Effect[] {
  countRestart(state, failure, now);
  // Its host may be gone, or go before it has ended them.
  noteOrphans(state);
  state.stepping = false;
  state.held = false;
  state.owed = false;
  state.epoch = state.attempt += 1;
  for (const each of [state.joining, state.broken, state.starts]) each.clear();
  state.phase = "halting";
  state.hosts = state.hosts.filter((host) => host !== failure.actor && !state.lost.has(host));
  const hosts = new Set(state.hosts);
  state.halting = new Set(hosts);
  for (const host of state.leaving) if (!hosts.has(host)) state.leaving.delete(host);
  // A link of an ended process may break late: by then its actor may have come back in another.
  const gone = [...state.urls.keys()].filter((id) => !hosts.has(id));
  for (const id of gone) state.urls.delete(id);
  for (const id of [...state.heardAt.keys()]) if (!hosts.has(id)) state.heardAt.delete(id);
  for (const id of [...state.pulses.keys()]) if (!hosts.has(id)) state.pulses.delete(id);
  for (const each of [state.lost, state.ready, state.restored, state.reports, state.perplexity]) each.clear();
  state.loaded = false;
  state.saving = undefined;
  state.heldBack = false;
  state.stepsTaken = 0;
  state.step = state.saved?.step ?? state.startedAt;
  state.plateau = PLATEAU_START;
  return [
    { kind: "disconnect", peers: gone, reason: `attempt ${state.attempt} begins`, below: state.attempt },
    ...haltEvaluator(state),
    ...[
      "step",
      "saving",
      "starting",
      "configuring",
      "restoring",
      "regrouping",
      "lost",
      "broken",
      "restart",
      "halting",
      "hosts",
    ].map((
      name,
    ): Effect => ({
      kind: "cancel-timer",
      name,
    })),
    ...state.hosts.map((to): Effect => ({ kind: "send", to, message: { type: "halt", attempt: state.attempt } })),
  ];
}

/** Whether a message counts while hosts end the actors of a lost attempt, whose own last words do not. */
export function countsWhileHalting(state: ControllerState, message: Message, from: string): boolean {
  if (from === "self") return true;
  if (message.type === "actor-exited") return message.actor === actorIds.localHost;
  // A host may come at any time: one that joins, or the local one anew.
  if (message.type === "host-ready" || message.type === "hello" && message.role === "host") return true;
  return state.hosts.includes(from);
}

/** Whether all actors may start anew: every host has ended those of before, and the local host is there. */
export function mayStart(state: ControllerState): boolean {
  return state.phase === "halting" && state.halting.size === 0 && state.hosts.includes(actorIds.localHost);
}

/** A host is done ending its actors, or is gone. Whether all are. */
export function halted(state: ControllerState, host: string): boolean {
  state.halting.delete(host);
  if (host === actorIds.localHost) state.orphans.clear();
  return state.phase === "halting" && state.halting.size === 0;
}
