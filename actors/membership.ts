/**
 * What every actor of the run's steps does alike when who takes part changes: links to those that are gone end and their
 * processes are let in no more, and a link that broke is told. Pure functions.
 */
import type { Message } from "../wire/messages.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";

/** Ends the links to those that a new membership epoch leaves out. */
export function cutOff({ epoch, gone }: Extract<Message, { type: "regroup" }>): Effect[] {
  return gone.map(({ actor, below }): Effect => ({
    kind: "disconnect",
    peers: [actor],
    reason: `epoch ${epoch} begins`,
    below,
  }));
}

/** Tells the controller of a link that broke, which may know more; that of the controller itself is only noted. */
export function lostPeer({ peer, reason }: Extract<Message, { type: "peer-down" }>): Effect[] {
  const log: Effect = { kind: "log", level: "warn", text: `lost ${peer}: ${reason}` };
  if (peer === actorIds.controller) return [log];
  const message: Message = { type: "unreachable", peer, reason: reason.slice(0, 1_000) };
  return [log, { kind: "send", to: actorIds.controller, message }];
}

/** A trainer and its replicas, `[low, high)`. */
export type Seat = Extract<Message, { type: "regroup" }>["trainers"][number];

/** Tells the controller whose parts are waited for, when a step is late. */
export function lacks(epoch: number, trainers: readonly string[]): Effect {
  const message: Message = { type: "lacks", epoch, trainers: [...new Set(trainers)] };
  return { kind: "send", to: actorIds.controller, message };
}

/** The answer to a new epoch. */
export function regrouped(epoch: number): Effect {
  return { kind: "send", to: actorIds.controller, message: { type: "regrouped", epoch } };
}
