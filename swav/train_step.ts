/**
 * One training step of SwAV, top to bottom, for the replicas that this trainer carries. Where the sums over the other
 * replicas and the codes come from is the caller's business; here they are promises.
 */
import type { Assigner } from "../collectives/collective.ts";
import type { Joint } from "../methods/joint.ts";
import { meanDeviation, trunkFeatures } from "../methods/passes.ts";
import {
  type FollowContext as MethodFollowContext,
  followStep,
  type GivenStep,
  type GradientSum,
  type Objective,
  type PreparedStep,
  prepareStep,
  type ReplicaInput as MethodInput,
  type ReplicaPass,
  type ReplicaResult,
  type StepContext as MethodContext,
  takeStep,
} from "../methods/step.ts";
import { l2Normalize } from "../tensor/ops/l2_normalize.ts";
import { freeTensors, readTensors, type Tensor } from "../tensor/tensor.ts";
import { swavLoss } from "./loss.ts";
import type { SwavModel } from "./model.ts";
import type { EmbeddingQueue } from "./queue.ts";

export type { GivenStep, GradientSum, PreparedStep, ReplicaResult };

/** One replica's input. */
export interface ReplicaInput extends MethodInput {
  /** Where it is in use: fills up the scores, and takes this step's embeddings when the step is committed. */
  readonly queue?: EmbeddingQueue;
}

/** What of SwAV's own a step works with, computed here or followed. */
interface SwavOptions {
  readonly model: SwavModel;
  /** Whether the prototypes rest: no gradient, no momentum, no decay. */
  readonly frozenPrototypes: boolean;
  /** The queue of a replica, which takes its embeddings in the commit; none is left out. @default the inputs' */
  queueOf?(replica: number): EmbeddingQueue | undefined;
}

/** What a step works with. */
export interface StepContext
  extends Omit<MethodContext, "model" | "resting" | "begin" | "changes" | "carried">, SwavOptions {
  readonly model: SwavModel;
  readonly assignCrops: readonly number[];
  readonly temperature: number;
  readonly assigner: Assigner;
}

/** What following a step works with. */
export interface FollowContext
  extends Omit<MethodFollowContext, "model" | "resting" | "begin" | "carried">, SwavOptions {
  readonly model: SwavModel;
}

/** Name of the prototypes' weight among the model's parameters. */
export const prototypesName = "prototypes.weight";

/** Computes one step, to be committed or discarded: normalise the prototypes, go forward, assign, go backward, average. */
export function prepareTrainStep(inputs: readonly ReplicaInput[], context: StepContext): Promise<PreparedStep> {
  return prepareStep(inputs, withPrototypes(context, inputs), swav(context));
}

/** Takes one step: prepares it and commits it at once. */
export function trainStep(inputs: readonly ReplicaInput[], context: StepContext): Promise<readonly ReplicaResult[]> {
  return takeStep(inputs, withPrototypes(context, inputs), swav(context));
}

/** Takes a step that others have computed; queues are found by `queueOf` alone. */
export function followTrainStep(context: FollowContext, given: GivenStep): Promise<void> {
  return followStep(withPrototypes(context), given);
}

/** Tells the step that all methods share what SwAV changes at its start and keeps at its end. */
function withPrototypes<Context extends SwavOptions>(context: Context, inputs: readonly ReplicaInput[] = []) {
  const { model: { prototypes }, frozenPrototypes } = context;
  const local = new Map(inputs.map(({ replica, queue }) => [replica, queue]));
  return {
    ...context,
    resting: new Set(frozenPrototypes ? [prototypesName] : []),
    begin: () => prototypes.normalize(),
    changes: [prototypes.weight.tensor],
    carried(replica: number, rows: Float32Array<ArrayBuffer>) {
      (context.queueOf?.(replica) ?? local.get(replica))?.push(rows);
    },
  };
}

/** The objective: cross-entropy of each crop's scores against the codes of the assign crops. */
function swav(context: StepContext): Objective<ReplicaInput> {
  const { batch, assignCrops, temperature, replicas } = context;
  return async (passes, joint) => {
    const forwards = await joint.all(passes.map((pass) => forward(pass, context)));
    const { codes, made } = await assign(forwards, { ...context, joint });
    const options = { batch, assignCrops, temperature, replicas };
    return forwards.map(({ tape, scores }, index) => ({
      losses: () => swavLoss(tape, { scores, codes: codes[index] }, options),
      ...made[index],
    }));
  };
}

/** What a replica's forward pass gave. */
interface Forward extends ReplicaPass<ReplicaInput> {
  /** `[crops · batch, dim]`. */
  readonly embeddings: Tensor;
  /** `[crops · batch, prototypes]`. */
  readonly scores: Tensor;
}

async function forward(pass: ReplicaPass<ReplicaInput>, context: StepContext): Promise<Forward> {
  const { model } = context;
  const { tape, forward } = pass;
  const features = await trunkFeatures(pass, context);
  const projected = await model.head.forward(features, { ...forward, pass: "head" });
  const embeddings = l2Normalize(tape, projected);
  // Scores stay in f32 whatever the storage.
  const scores = model.prototypes.forward(embeddings, { ...forward, storage: "f32", pass: "prototypes" });
  return { ...pass, embeddings, scores };
}

/**
 * The codes of all local replicas, whose scores are fetched together; how widely their embeddings are spread, and those
 * that a queue is to take.
 */
async function assign(
  forwards: readonly Forward[],
  { step, model, batch, assignCrops, assigner, joint }: StepContext & { joint: Joint },
): Promise<{
  codes: Float32Array<ArrayBuffer>[];
  made: { embeddingDeviation: number; carry: Float32Array<ArrayBuffer> | undefined }[];
}> {
  const queued = forwards.map(({ input }) => input.queue?.scores(model.prototypes) ?? []);
  const read = readTensors(
    forwards.flatMap(({ scores, embeddings }, index) => [scores, embeddings, ...queued[index]]),
  );
  freeTensors(queued.flat());
  const values = await read;
  let next = 0;
  const requests = forwards.map(({ input, scores, embeddings }, index) => {
    const [scoreRows, embeddingRows] = values.slice(next, next += 2);
    const queue = values.slice(next, next += queued[index].length);
    const request = worldScores(scoreRows, { batch, assignCrops, columns: scores.shape[1], queue });
    const embeddingDeviation = meanDeviation(embeddingRows, { rows: batch, columns: embeddings.shape[1] });
    const carry = input.queue && cropRows(embeddingRows, { batch, assignCrops, columns: embeddings.shape[1] });
    return { made: { embeddingDeviation, carry }, request: { step, replica: input.replica, batch, ...request } };
  });
  const codes = await joint.all(requests.map(({ request }) => joint.within(assigner.assign(request))));
  return { codes, made: requests.map(({ made }) => made) };
}

/** Rows of the assign crops alone, `[assignCrops, batch, columns]`, of `[crops · batch, columns]`. */
function cropRows(
  rows: Float32Array<ArrayBuffer>,
  { batch, assignCrops, columns }: { batch: number; assignCrops: readonly number[]; columns: number },
): Float32Array<ArrayBuffer> {
  const size = batch * columns;
  const result = new Float32Array(assignCrops.length * size);
  assignCrops.forEach((crop, index) => result.set(rows.subarray(crop * size, (crop + 1) * size), index * size));
  return result;
}

/** Rows of the assign crops, each followed by the queue's, as `[assignCrops, rows, prototypes]`. */
function worldScores(
  scores: Float32Array<ArrayBuffer>,
  parts: {
    batch: number;
    assignCrops: readonly number[];
    columns: number;
    queue: readonly Float32Array[];
  },
): { rows: number; scores: Float32Array<ArrayBuffer> } {
  const { batch, assignCrops, columns, queue } = parts;
  const queueRows = (queue[0]?.length ?? 0) / columns;
  const rows = batch + queueRows;
  const result = new Float32Array(assignCrops.length * rows * columns);
  assignCrops.forEach((crop, index) => {
    const start = index * rows * columns;
    result.set(scores.subarray(crop * batch * columns, (crop + 1) * batch * columns), start);
    if (queue[index] !== undefined) result.set(queue[index], start + batch * columns);
  });
  return { rows, scores: result };
}
