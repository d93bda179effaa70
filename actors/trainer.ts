/**
 * The trainer's main thread: it stands between the other actors and its GPU worker, so that links and heartbeats are
 * served while the worker waits for the GPU. Each message goes where its type says. It computes nothing.
 */
import type { Link } from "../wire/link.ts";
import type { Message } from "../wire/messages.ts";
import type { ActorContext, Behavior, Effect, Role } from "./runtime/behavior.ts";
import { cutOff, lostPeer } from "./membership.ts";
import { actorIds } from "./seats.ts";

/** Id under which the GPU worker is linked to its trainer. */
export const workerId = "gpu";

interface TrainerState {
  /** Sync shards, known once configured. */
  shards: readonly string[];
}

/**
 * The shard that owns a sum: slices of the gradient in turn by their number, others by a hash of their key, so that all
 * trainers agree without asking.
 */
export function shardOf(key: string, shards: readonly string[]): string {
  const slice = /^gradient\/\d+\/(\d+)@/.exec(key);
  if (slice !== null) return shards[Number(slice[1]) % shards.length];
  let hash = 2166136261; // FNV-1a
  for (const character of new TextEncoder().encode(key)) hash = Math.imul(hash ^ character, 16777619) >>> 0;
  return shards[hash % shards.length];
}

function destination(message: Message, shards: readonly string[]): string {
  switch (message.type) {
    case "contribute":
      return shardOf(message.key, shards);
    case "scores":
      return actorIds.sinkhorn;
    case "want-batch":
      return actorIds.loader;
    case "snapshot-part":
    case "snapshot-end":
      return actorIds.checkpointer;
    case "state-part":
    case "state-end":
      return message.to ?? actorIds.controller;
    default:
      return actorIds.controller;
  }
}

/** The behaviour of a trainer's main thread; `workerId` must be reachable on its network. */
export function trainerBehavior(): Behavior<TrainerState> {
  return {
    init: () => [{ shards: [] }, []],
    handle(state, message, from): [TrainerState, Effect[]] {
      if (message.type === "peer-down") {
        if (message.peer !== workerId) return [state, lostPeer(message)];
        return [state, [{ kind: "fail", error: new Error(`GPU worker ended: ${message.reason}`) }]];
      }
      if (from === workerId && message.type === "failed") {
        return [state, [{ kind: "fail", error: new Error(message.error) }]];
      }
      if (from === workerId) return [state, [{ kind: "send", to: destination(message, state.shards), message }]];
      if (message.type === "stop") return [state, [{ kind: "stop", reason: message.reason }]];
      if (message.type === "directory") return [state, []];
      const next = message.type === "configure" ? { shards: message.shards } : state;
      const cuts = message.type === "regroup" ? cutOff(message) : [];
      return [next, [...cuts, { kind: "send", to: workerId, message }]];
    },
  };
}

/** The trainer's role; `startWorker` opens the link to its GPU worker. */
export function trainerRole(startWorker: (context: ActorContext) => Link | Promise<Link>): Role {
  return {
    // On resume the checkpointer speaks first.
    listens: true,
    async create(context) {
      context.adopt(await startWorker(context));
      return trainerBehavior();
    },
  };
}
