/**
 * A shard of the parameter sync: adds vectors of the replicas along the fixed tree and answers everyone who contributed.
 * What the vectors mean (gradients, batch statistics) it does not know.
 */
import { TreeAccumulator } from "../collectives/tree.ts";
import { f32FromWire, toWire } from "../wire/tensor.ts";
import type { Behavior, Effect } from "./runtime/behavior.ts";

/** Most sums under way at once; a run needs a few per layer and slice. */
const pendingMax = 65_536;

interface PendingSum {
  readonly accumulator: TreeAccumulator;
  readonly contributors: Set<string>;
}

type SyncState = Map<string, PendingSum>;

/** The behaviour of one shard. */
export function syncBehavior(): Behavior<SyncState> {
  return {
    init: () => [new Map(), []],
    handle(state, message, from): [SyncState, Effect[]] {
      if (message.type === "stop") return [state, [{ kind: "stop", reason: message.reason }]];
      if (message.type === "configure") {
        return [state, [{ kind: "send", to: from, message: { type: "ready", detail: "" } }]];
      }
      if (message.type !== "contribute") return [state, []];
      const { key, slots, low, high } = message;
      const values = f32FromWire(message.values);
      const sum = state.get(key) ?? { accumulator: new TreeAccumulator(slots, values.length), contributors: new Set() };
      if (state.size >= pendingMax) {
        throw new RangeError(`Parameter sync holds ${pendingMax} unfinished sums, the latest ${key}`);
      }
      state.set(key, sum);
      sum.contributors.add(from);
      const total = sum.accumulator.add({ low, high }, values);
      if (total === undefined) return [state, []];
      state.delete(key);
      const reduced = toWire(total);
      return [
        state,
        [...sum.contributors].map((to) => ({ kind: "send", to, message: { type: "reduced", key, values: reduced } })),
      ];
    },
  };
}
