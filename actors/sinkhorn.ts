/**
 * The Sinkhorn coordinator: gathers the scores of all replicas for a step, assigns all samples to prototypes at once, and
 * gives each replica its own rows. The result is that of a single process over the concatenated batch, whichever trainers
 * the scores came from. It holds no model.
 */
import { parseConfig, type TrainConfig } from "../config.ts";
import { assignWorld, type ReplicaScores } from "../swav/assign.ts";
import { f32FromWire, toWire } from "../wire/tensor.ts";
import type { Message } from "../wire/messages.ts";
import { cutOff, lacks, lostPeer, regrouped, type Seat } from "./membership.ts";
import type { Behavior, Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";

/** Steps whose scores may be waiting at once; trainers are never more than one step apart. */
const pendingMax = 4;

interface Gathered extends ReplicaScores {
  readonly from: string;
}

interface SinkhornState {
  config: TrainConfig | undefined;
  /** Membership epoch: scores of another are void. */
  epoch: number;
  trainers: readonly Seat[];
  readonly steps: Map<number, Map<number, Gathered>>;
}

/** The behaviour of the coordinator. */
export function sinkhornBehavior(): Behavior<SinkhornState> {
  return {
    init: () => [{ config: undefined, epoch: 0, trainers: [], steps: new Map() }, []],
    handle(state, message, from): [SinkhornState, Effect[]] {
      if (message.type === "stop") return [state, [{ kind: "stop", reason: message.reason }]];
      if (message.type === "configure") {
        state.config = parseConfig(message.config, { source: "the controller's configuration" });
        state.epoch = message.epoch ?? 0;
        state.trainers = message.trainers;
        return [state, [{ kind: "send", to: from, message: { type: "ready", detail: "" } }]];
      }
      if (message.type === "regroup") {
        state.epoch = message.epoch;
        state.trainers = message.trainers;
        state.steps.clear();
        return [state, [...cutOff(message), regrouped(message.epoch)]];
      }
      if (message.type === "peer-down") return [state, lostPeer(message)];
      if (message.type === "inquire") {
        return [state, message.epoch === state.epoch ? [lacks(state.epoch, missingFrom(state))] : []];
      }
      if (message.type !== "scores" || message.epoch !== state.epoch || state.config === undefined) return [state, []];
      return [state, gather(state, state.config, { message, from })];
    },
  };
}

/** The trainers whose scores of a step have not come, when others' have. */
function missingFrom({ trainers, steps }: SinkhornState): string[] {
  return [...steps.values()].flatMap((gathered) =>
    trainers.filter(({ low, high }) =>
      Array.from({ length: high - low }, (_, i) => low + i).some((id) => !gathered.has(id))
    )
      .map(({ id }) => id)
  );
}

function gather(
  state: SinkhornState,
  config: TrainConfig,
  scores: { message: Extract<Message, { type: "scores" }>; from: string },
): Effect[] {
  const { step, epoch, replica, batch, rows, values } = scores.message;
  if (replica >= config.replicas) {
    throw new RangeError(`Scores of replica ${replica} came from ${scores.from}; the run has ${config.replicas}`);
  }
  const gathered = state.steps.get(step) ?? new Map<number, Gathered>();
  if (gathered.has(replica)) {
    throw new RangeError(`Scores of replica ${replica} for step ${step} came twice, from ${scores.from}`);
  }
  gathered.set(replica, { batch, rows, scores: f32FromWire(values), from: scores.from });
  state.steps.set(step, gathered);
  if (state.steps.size > pendingMax) {
    throw new RangeError(`Scores of ${state.steps.size} steps wait at once, at most ${pendingMax} may`);
  }
  if (gathered.size < config.replicas) return [];
  state.steps.delete(step);
  const inOrder = Array.from(gathered).sort(([a], [b]) => a - b);
  const { codes, perplexity } = assignWorld(inOrder.map(([, row]) => row), {
    crops: config.assignCrops.length,
    prototypes: config.prototypes.count,
    epsilon: config.sinkhorn.epsilon,
    iterations: config.sinkhorn.iterations,
    hard: step < config.sinkhorn.hardIterations,
  });
  return [
    ...inOrder.map(([id, row], index): Effect => ({
      kind: "send",
      to: row.from,
      message: { type: "codes", step, epoch, replica: id, values: toWire(codes[index]) },
    })),
    { kind: "send", to: actorIds.controller, message: { type: "assignment", step, epoch, perplexity } },
  ];
}
