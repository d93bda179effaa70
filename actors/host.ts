/**
 * The host: starts actors on its machine as the controller asks, passes their log lines on, reports how they end, and
 * stops them all when it is told to or loses the controller. It does not know what the actors do.
 */
import { errorText } from "../wire/link.ts";
import type { Message } from "../wire/messages.ts";
import type { Behavior, Effect } from "./runtime/behavior.ts";
import { type Clock, realClock } from "./runtime/clock.ts";
import type { SpawnedActor } from "./runtime/spawn.ts";
import { actorIds } from "./seats.ts";

/** How a host starts actors, and what it tells of its machine. */
export interface HostPorts {
  /** One line per adapter. */
  readonly adapters: readonly string[];
  /** Digest of the program that its actors run; absent where nobody is to compare it. */
  readonly code?: string;
  spawn(order: SpawnOrder): SpawnedActor;
  /** Watches over a process that a host before this one has started; absent where actors end with their host. */
  find?(process: { readonly id: string; readonly pid: number }): SpawnedActor;
  /** What its waits go by. @default the real one */
  readonly clock?: Clock;
}

/** One actor to be started. */
export interface SpawnOrder {
  readonly id: string;
  readonly role: string;
  /** Start of the run's actors that it belongs to, from 0. */
  readonly attempt: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly onLogLine: (line: string) => void;
}

interface HostState {
  readonly actors: Map<string, SpawnedActor>;
  /** Number of the newest start of each actor. */
  readonly attempts: Map<string, number>;
  /** Role and start of the actors whose processes run. */
  readonly living: Map<string, { readonly role: string; readonly attempt: number }>;
  /** Log lines not yet passed on, by actor; bounded by `linesMax` each. */
  readonly lines: Map<string, string[]>;
  /** How often in a row a process could not be started. */
  notStarted: number;
  stopping: boolean;
  /** Its wish to go, which a controller that starts anew has not heard. */
  leaving: Message | undefined;
  /** Attempt that all actors are ended for. */
  halting: number | undefined;
  /** Starts before this attempt are void: it was begun by ending all actors. */
  lowest: number;
}

/** How a host ends that has asked to go, once nothing hangs on it. */
export const leftInPeace = "it leaves";
/** How a host ends that has lost its controller. */
export const controllerGone = "the controller is gone";

const flushMs = 300;
const linesMax = 250;
const stopGraceMs = 2_000;
/** An actor of a lost attempt has nothing to finish: terminated after this, killed after as long again. */
const haltGraceMs = 200;
/** Longer than any run: an actor's life is one task of its host. */
const lifeMs = 2 ** 31 - 1;

/** The behaviour of a host. */
export function hostBehavior(ports: HostPorts): Behavior<HostState> {
  return {
    init: () => [{
      actors: new Map(),
      attempts: new Map(),
      living: new Map(),
      lines: new Map(),
      notStarted: 0,
      stopping: false,
      leaving: undefined,
      halting: undefined,
      lowest: 0,
    }, [hostReady(ports, new Map()), flushLater]],
    handle(state, message, from): [HostState, Effect[]] {
      switch (message.type) {
        case "spawn":
          return [state, state.stopping ? [] : [spawn(state, message, ports)]];
        case "take-over":
          return [state, message.actors.flatMap((actor) => takeOver(state, actor, ports))];
        case "actor-exited":
          return [state, exited(state, message)];
        case "halt":
          return [state, haltAll(state, message.attempt)];
        case "rejoined":
          return [state, [hostReady(ports, state.living), ...leave(state.leaving)]];
        case "leaving":
          if (from !== "self") return [state, []];
          state.leaving = message;
          return [state, leave(message)];
        case "alarm":
          return [state, [...flush(state), flushLater]];
        case "stop":
          return from === "self"
            ? [state, [{ kind: "stop", reason: message.reason }]]
            : [state, stopAll(state, message.reason)];
        case "peer-down":
          return [state, message.peer === actorIds.controller ? stopAll(state, controllerGone) : []];
        default:
          return [state, []];
      }
    },
  };
}

/** Tells the controller of this machine, and of the actors that one before it had started here. */
function hostReady({ adapters, code }: HostPorts, living: HostState["living"]): Effect {
  const found = [...living].map(([id, { role, attempt }]) => ({ id, role, attempt }));
  const message: Message = {
    type: "host-ready",
    adapters: [...adapters],
    ...(code === undefined ? {} : { code }),
    ...(found.length === 0 ? {} : { living: found }),
  };
  return { kind: "send", to: actorIds.controller, message };
}

function leave(message: Message | undefined): Effect[] {
  return message === undefined ? [] : [{ kind: "send", to: actorIds.controller, message }];
}

const flushLater: Effect = {
  kind: "timer",
  name: "flush",
  delayMs: flushMs,
  message: { type: "alarm", name: "flush" },
};

function spawn(state: HostState, order: Extract<Message, { type: "spawn" }>, ports: HostPorts): Effect {
  const { id, role, environment, attempt = 0 } = order;
  return {
    kind: "task",
    name: `run ${id}`,
    timeoutMs: lifeMs,
    async run() {
      const older = state.actors.get(id);
      state.attempts.set(id, attempt);
      if (older !== undefined) await older.stop(haltGraceMs);
      // An even newer start may have been ordered meanwhile, or the end.
      if (state.attempts.get(id) !== attempt || attempt < state.lowest || state.stopping) return;
      const lines: string[] = [];
      state.lines.set(id, lines);
      const onLogLine = (line: string) => {
        // A flood keeps its newest lines; the actor's own file on disk is not this buffer's business.
        if (lines.length >= linesMax) lines.shift();
        lines.push(line.slice(0, 4_000));
      };
      let actor: SpawnedActor;
      try {
        actor = ports.spawn({ id, role, attempt, environment, onLogLine });
      } catch (error) {
        // A machine that is short of processes for a while is not lost: its actors are tried again, and not at once.
        const waitMs = notStartedMs(state.notStarted++);
        await new Promise<void>((resolve) => void (ports.clock ?? realClock).after(waitMs, resolve));
        return { type: "actor-exited", actor: id, attempt, code: -1, lines: [notStarted(error)] };
      }
      state.notStarted = 0;
      return await lifeOf(state, actor, { role, attempt });
    },
  };
}

/** Time after which it is told that a process could not be started, by how often that has happened in a row before. */
export function notStartedMs(times: number): number {
  return Math.min(1_000 * 2 ** times, 8_000);
}

/** What is told of an actor whose process could not be started. */
export function notStarted(error: unknown): string {
  return `its process could not be started: ${errorText(error)}`;
}

/** Counts an actor among the living until its end, which it resolves to. */
async function lifeOf(
  state: HostState,
  actor: SpawnedActor,
  { role, attempt }: { role: string; attempt: number },
): Promise<Message> {
  const { id } = actor;
  state.actors.set(id, actor);
  state.living.set(id, { role, attempt });
  const { code } = await actor.exited;
  if (state.actors.get(id) === actor) {
    state.actors.delete(id);
    state.living.delete(id);
  }
  return { type: "actor-exited", actor: id, attempt, code, lines: actor.logTail().slice(-20) };
}

/** An actor of the host that this one has replaced is watched over like one of its own. */
function takeOver(
  state: HostState,
  { id, role, attempt, pid }: Extract<Message, { type: "take-over" }>["actors"][number],
  { find }: HostPorts,
): Effect[] {
  if (find === undefined || state.stopping || state.attempts.has(id)) return [];
  state.attempts.set(id, attempt);
  const actor = find({ id, pid });
  const life = lifeOf(state, actor, { role, attempt });
  return [{ kind: "task", name: `watch over ${id}`, timeoutMs: lifeMs, run: () => life }];
}

function exited(state: HostState, message: Extract<Message, { type: "actor-exited" }>): Effect[] {
  const lines = flush(state);
  if (state.stopping) return lines;
  if ((message.attempt ?? Infinity) < state.lowest) return [...lines, ...whenHalted(state)];
  return [...lines, { kind: "send", to: actorIds.controller, message }];
}

function flush(state: HostState): Effect[] {
  return [...state.lines].filter(([, lines]) => lines.length > 0).map(([actor, lines]): Effect => ({
    kind: "send",
    to: actorIds.controller,
    message: { type: "log-lines", actor, lines: lines.splice(0) },
  }));
}

/** Ends every actor for a new attempt; their ends are not reported one by one. */
function haltAll(state: HostState, attempt: number): Effect[] {
  if (state.stopping) return [];
  state.halting = state.lowest = attempt;
  const actors = [...state.actors].filter(([id]) => (state.living.get(id)?.attempt ?? 0) < attempt)
    .map(([, actor]) => actor);
  const end: Effect = {
    kind: "task",
    name: "end the actors of a lost attempt",
    timeoutMs: 4 * stopGraceMs,
    async run() {
      await Promise.all(actors.map((actor) => actor.stop(haltGraceMs)));
    },
  };
  return actors.length === 0 ? whenHalted(state) : [end];
}

function whenHalted(state: HostState): Effect[] {
  const attempt = state.halting;
  if (attempt === undefined || [...state.living.values()].some((actor) => actor.attempt < attempt)) return [];
  state.halting = undefined;
  return [{ kind: "send", to: actorIds.controller, message: { type: "halted", attempt } }];
}

function stopAll(state: HostState, reason: string): Effect[] {
  if (state.stopping) return [];
  state.stopping = true;
  return [{
    kind: "task",
    name: "stop the actors",
    timeoutMs: 4 * stopGraceMs,
    async run() {
      await Promise.all([...state.actors.values()].map((actor) => actor.stop(stopGraceMs)));
      return { type: "stop", reason };
    },
  }];
}
