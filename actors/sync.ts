/**
 * A shard of the parameter sync: adds vectors of the replicas along the fixed tree and answers everyone who contributed.
 * What the vectors mean (gradients, batch statistics) it does not know.
 */
import { JoinAccumulator } from "../collectives/join.ts";
import { TreeAccumulator } from "../collectives/tree.ts";
import type { Message } from "../wire/messages.ts";
import { f32FromWire, toWire } from "../wire/tensor.ts";
import { cutOff, lacks, lostPeer, regrouped, type Seat } from "./membership.ts";
import type { Behavior, Effect } from "./runtime/behavior.ts";

/** Most sums under way at once; a run needs a few per layer and slice. */
const pendingMax = 65_536;

interface PendingSum {
  /** Its replicas, `[low, high)`. */
  readonly group: { readonly low: number; readonly high: number };
  readonly accumulator: TreeAccumulator | JoinAccumulator;
  /** Who contributed, and who else gets the sum. */
  readonly receivers: Set<string>;
}

interface SyncState {
  /** Membership epoch: contributions of another are void. */
  epoch: number;
  trainers: readonly Seat[];
  readonly sums: Map<string, PendingSum>;
}

/** The behaviour of one shard. */
export function syncBehavior(): Behavior<SyncState> {
  return {
    init: () => [{ epoch: 0, trainers: [], sums: new Map() }, []],
    handle(state, message, from): [SyncState, Effect[]] {
      switch (message.type) {
        case "stop":
          return [state, [{ kind: "stop", reason: message.reason }]];
        case "configure":
          state.epoch = message.epoch ?? 0;
          state.trainers = message.trainers;
          return [state, [{ kind: "send", to: from, message: { type: "ready", detail: "" } }]];
        case "regroup":
          state.epoch = message.epoch;
          state.trainers = message.trainers;
          state.sums.clear();
          return [state, [...cutOff(message), regrouped(message.epoch)]];
        case "contribute":
          return [state, message.epoch === state.epoch ? add(state, message, from) : []];
        case "peer-down":
          return [state, lostPeer(message)];
        case "inquire":
          return [state, message.epoch === state.epoch ? [lacks(state.epoch, missingFrom(state))] : []];
        default:
          return [state, []];
      }
    },
  };
}

/** The trainers whose parts of unfinished sums have not come. */
function missingFrom({ trainers, sums }: SyncState): string[] {
  return [...sums.values()].flatMap(({ group, receivers }) =>
    trainers.filter(({ id, low, high }) => low < group.high && group.low < high && !receivers.has(id)).map(({ id }) =>
      id
    )
  );
}

function add({ epoch, sums }: SyncState, message: Extract<Message, { type: "contribute" }>, from: string): Effect[] {
  const { key, slots, low, high, join = false, observers = [] } = message;
  const values = f32FromWire(message.values);
  // Keys end in the group's first replica.
  const first = Number(/@(\d+)$/.exec(key)?.[1] ?? 0);
  const sum = sums.get(key) ?? {
    group: { low: first, high: first + slots },
    accumulator: join ? new JoinAccumulator(slots) : new TreeAccumulator(slots, values.length),
    receivers: new Set(),
  };
  if (sums.size >= pendingMax) {
    throw new RangeError(`Parameter sync holds ${pendingMax} unfinished sums, the latest ${key}`);
  }
  sums.set(key, sum);
  for (const receiver of [from, ...observers.map(({ id }) => id)]) sum.receivers.add(receiver);
  // Their addresses come from the controller, maybe later than this: what an earlier start had is not theirs.
  const fences = observers.map(({ id, attempt }): Effect => ({
    kind: "disconnect",
    peers: [id],
    reason: `start ${attempt} of it counts`,
    below: attempt,
  }));
  const total = sum.accumulator.add({ low, high }, values);
  if (total === undefined) return fences;
  sums.delete(key);
  const reduced = toWire(total);
  const sends = [...sum.receivers].map((to): Effect => ({
    kind: "send",
    to,
    message: { type: "reduced", key, epoch, values: reduced },
  }));
  return [...fences, ...sends];
}
