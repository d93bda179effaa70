/**
 * Who is late, silent or lost, and the failure that it makes; timers as messages to oneself. Pure functions of the
 * controller's memory.
 */
import { type ControllerState, isPlaced, tailOf, type waitOf } from "./controller_state.ts";
import type { RunFailure } from "./events.ts";
import type { Message } from "../wire/messages.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";

/** A failure before it is known where the actor was. */
export interface Cause extends Omit<RunFailure, "host"> {
  /** Whether all live, and only a link between two of them is gone. @default false */
  readonly linkOnly?: boolean;
}

/** Longest silence of an actor's main thread before it counts as frozen. */
const silenceMs = 20_000;
/** Silence that makes an actor suspect when something is late: a few heartbeats. */
const lateMs = 4_000;
/** Longest silence of an actor's pulse: its process is frozen or cut off. Several pulses must be missing. */
const pulseSilenceMs = 1_500;
/** Time between two looks at the pulses. */
export const pulseWatchMs = 250;

/** Time for the better-informed report (last words, exit code) to arrive before a lost link is reported. */
const lostLinkGraceMs = 1_500;

/** Time for other losses of the same blow to be told: of a host elsewhere, and of an actor of which links alone tell. */
const lostHostGraceMs = 50, lostOrphanGraceMs = 20;

/** How long a better-informed report of a lost link is waited for: none comes of hosts elsewhere, nor of orphans. */
function lossGraceMs({ hosts, outlived, starts }: ControllerState, id: string): number {
  if (id !== actorIds.localHost && hosts.includes(id)) return lostHostGraceMs;
  return outlived.has(id) && outlived.get(id) === starts.get(id) ? lostOrphanGraceMs : lostLinkGraceMs;
}

/** What a message of trouble means: a failure, or something to wait for the better-informed report of. */
export function troubleOf(
  state: ControllerState,
  message: Message,
  from: string,
): { readonly cause?: Cause; readonly effects: Effect[] } {
  const known = (id: string) => isPlaced(state, id) || state.hosts.includes(id) || id === actorIds.localHost;
  switch (message.type) {
    case "failed":
      // The last words of one that was left out.
      if (!known(from)) return { effects: [] };
      return { cause: { actor: from, error: message.error, lines: message.logTail.slice(-20) }, effects: [] };
    case "actor-exited": {
      // The end of a process that another has replaced.
      if ((message.attempt ?? Infinity) < (state.starts.get(message.actor) ?? 0)) return { effects: [] };
      if (!known(message.actor)) return { effects: [] };
      state.tails.set(message.actor, message.lines);
      return { cause: { actor: message.actor, error: endOf(message), lines: message.lines }, effects: [] };
    }
    case "peer-down":
      // The link of an actor that was ended for a restart may break late.
      if (!state.urls.has(message.peer) && !state.hosts.includes(message.peer)) return { effects: [] };
      state.lost.set(message.peer, message.reason);
      return { effects: [alarm("lost", lossGraceMs(state, message.peer))] };
    case "unreachable":
      if (state.phase !== "training" && state.phase !== "regrouping") return { effects: [] };
      // Sent before it heard of the epoch, in which the peer may be another already.
      if (state.phase === "regrouping" && state.regrouping.waiting.has(from)) return { effects: [] };
      if (!state.urls.has(from) || !state.urls.has(message.peer)) return { effects: [] };
      state.broken.set([message.peer, from].sort().join(" "), [message.peer, from]);
      return { effects: [alarm("broken", lostLinkGraceMs)] };
    case "leaving":
      if (state.hosts.includes(from)) state.leaving.add(from);
      return { effects: [] };
    case "lacks":
      if (message.epoch !== state.epoch) return { effects: [] };
      for (const id of message.trainers) state.lacking?.set(id, (state.lacking.get(id) ?? 0) + 1);
      return { effects: [] };
    default:
      return { effects: [] };
  }
}

/** How a process ended. The exit code is negative where nobody knows it, or where it has not started, which lines say. */
export function endOf({ code, lines }: Extract<Message, { type: "actor-exited" }>): string {
  // 128 and the number of SIGKILL, which a process cannot send word of.
  if (code === 137) return "its process was killed (exit code 137, as when the system is out of memory)";
  return code < 0 ? lines.at(-1) ?? "its process ended" : `its process ended with exit code ${code}`;
}

/** The host that is gone, by a message that comes while hosts end their actors. */
export function lostHost(state: ControllerState, message: Message): { host: string; error: string } | undefined {
  if (message.type === "actor-exited") return { host: message.actor, error: endOf(message) };
  if (message.type !== "peer-down") return undefined;
  const known = state.urls.has(message.peer) || state.hosts.includes(message.peer);
  return known ? { host: message.peer, error: `connection lost: ${message.reason}` } : undefined;
}

/** Milliseconds since the last message or heartbeat of `id`. */
function silentMs(state: ControllerState, id: string, now: number): number {
  return now - (state.heardAt.get(id) ?? now);
}

/** The started actor heard of longest ago, if that is over `limitMs` ago; when all are silent, this process was late. */
function silentActor(state: ControllerState, { limitMs, now }: { limitMs: number; now: number }): string | undefined {
  const started = [...state.urls.keys()];
  const silence = (id: string) => silentMs(state, id, now);
  const silent = started.filter((id) => silence(id) > limitMs);
  if (silent.length === started.length && started.length > 1) return undefined;
  return silent.sort((a, b) => silence(b) - silence(a))[0];
}

/** The failure of an actor whose main thread has been silent for too long. */
export function silentCause(state: ControllerState, now: number): Cause | undefined {
  const actor = silentActor(state, { limitMs: silenceMs, now });
  if (actor === undefined) return undefined;
  const error = `no sign of life for ${Math.round(silentMs(state, actor, now) / 1000)} s`;
  return { actor, error, lines: tailOf(state, actor) };
}

/** Time for those who add up to tell whose part is missing. */
const inquiryMs = 1_000;

/** Asks, once, for whom a late step waits: all trainers may be late because of one. */
export function inquiry(state: ControllerState, wait: string): Effect[] | undefined {
  if (wait !== "step" || state.lacking !== undefined) return undefined;
  state.lacking = new Map();
  const asked = state.placements.filter(({ role }) => role === "sync" || role === "sinkhorn");
  const { epoch } = state;
  return [
    ...asked.map(({ id }): Effect => ({ kind: "send", to: id, message: { type: "inquire", epoch } })),
    alarm("step", inquiryMs),
  ];
}

/** The failure of a wait that took too long; whoever waits for a frozen actor is late too, so that one is named. */
export function lateCause(state: ControllerState, wait: NonNullable<ReturnType<typeof waitOf>>, now: number): Cause {
  const [[lacking] = []] = [...state.lacking ?? []].sort(([, a], [, b]) => b - a);
  const late = lacking ?? wait.on[0] ?? actorIds.sinkhorn;
  const told = lacking === undefined ? "" : `; the others wait for ${lacking}`;
  const error = `waited too long for ${wait.on.join(", ") || late} to ${wait.doing}${told}`;
  const frozen = silentActor(state, { limitMs: lateMs, now });
  if (frozen === undefined) return { actor: late, error, lines: tailOf(state, late) };
  const since = `${frozen} has given no sign of life for ${Math.round(silentMs(state, frozen, now) / 1000)} s`;
  return { actor: frozen, error: `${error}; ${since}`, lines: tailOf(state, frozen) };
}

/** The failure of the first link that was lost. */
export function lostCause(state: ControllerState): Cause | undefined {
  // A host takes its actors along.
  const lost = [...state.lost].find(([id]) => state.hosts.includes(id)) ?? [...state.lost][0];
  if (lost === undefined) return undefined;
  const [actor, reason] = lost;
  return { actor, error: `connection lost: ${reason}`, lines: tailOf(state, actor) };
}

/** The failure of the first link between two actors that broke while both live. */
export function brokenCause(state: ControllerState): Cause | undefined {
  for (const [actor, teller] of state.broken.values()) {
    if (!state.urls.has(actor) || !state.urls.has(teller)) continue;
    return { actor, error: `its link to ${teller} broke`, lines: tailOf(state, actor), linkOnly: true };
  }
}

/**
 * The failure of an actor whose pulse is missing. A look that comes late itself proves nothing, for what has arrived may
 * not have been read: it starts all silences anew.
 */
export function pulseCause(state: ControllerState, now: number): Cause | undefined {
  const late = now - state.pulsesAt > 2 * pulseWatchMs;
  state.pulsesAt = now;
  if (late) {
    for (const id of state.pulses.keys()) state.pulses.set(id, now);
    return undefined;
  }
  // What fails before the first step fails the run, so that a machine that is busy starting processes is given more time.
  const underWay = state.phase === "training" || state.phase === "regrouping";
  const limitMs = underWay ? pulseSilenceMs : silenceMs;
  const missing = [...state.pulses].filter(([actor, at]) => state.urls.has(actor) && now - at > limitMs);
  // A host takes its actors along.
  for (const [actor, at] of missing.sort(([a], [b]) => +state.hosts.includes(b) - +state.hosts.includes(a))) {
    const error = `no pulse for ${((now - at) / 1000).toFixed(1)} s: its process is frozen or cut off`;
    return { actor, error, lines: tailOf(state, actor) };
  }
}

/** Delivers `alarm` of this name to the actor itself after `delayMs`. */
export function alarm(name: string, delayMs: number): Effect {
  return { kind: "timer", name, delayMs, message: { type: "alarm", name } };
}
