/**
 * One training step of SwAV, top to bottom, for the replicas that this trainer carries. Where the sums over the other
 * replicas and the codes come from is the caller's business; here they are promises.
 */
import type { Assigner } from "../collectives/collective.ts";
import {
  type GradientSum,
  meanDeviation,
  type ReplicaInput as MethodInput,
  type ReplicaPass,
  type ReplicaResult,
  type StepContext as MethodContext,
  takeStep,
  trunkFeatures,
} from "../methods/step.ts";
import { l2Normalize } from "../tensor/ops/l2_normalize.ts";
import { freeTensors, readTensors, type Tensor } from "../tensor/tensor.ts";
import { swavLoss } from "./loss.ts";
import type { SwavModel } from "./model.ts";
import type { EmbeddingQueue } from "./queue.ts";

export type { GradientSum, ReplicaResult };

/** One replica's input. */
export interface ReplicaInput extends MethodInput {
  readonly queue?: EmbeddingQueue;
}

/** What a step works with. */
export interface StepContext extends Omit<MethodContext, "resting"> {
  readonly model: SwavModel;
  readonly assignCrops: readonly number[];
  readonly temperature: number;
  /** Whether the prototypes rest: no gradient, no momentum, no decay. */
  readonly frozenPrototypes: boolean;
  readonly assigner: Assigner;
}

/** Name of the prototypes' weight among the model's parameters. */
export const prototypesName = "prototypes.weight";

/** Takes one step: normalise the prototypes, go forward, assign, go backward, average, update. */
export async function trainStep(inputs: readonly ReplicaInput[], context: StepContext): Promise<ReplicaResult[]> {
  const { model, batch, assignCrops, temperature, replicas, frozenPrototypes } = context;
  model.prototypes.normalize();
  const resting = new Set(frozenPrototypes ? [prototypesName] : []);
  return await takeStep(inputs, { ...context, resting }, async (passes) => {
    const forwards = await Promise.all(passes.map((pass) => forward(pass, context)));
    const { codes, deviations } = await assign(forwards, context);
    const options = { batch, assignCrops, temperature, replicas };
    return forwards.map(({ tape, scores }, index) => ({
      losses: () => swavLoss(tape, { scores, codes: codes[index] }, options),
      embeddingDeviation: deviations[index],
    }));
  });
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

/** The codes of all local replicas, whose scores are fetched together; and how widely their embeddings are spread. */
async function assign(
  forwards: readonly Forward[],
  { step, model, batch, assignCrops, assigner }: StepContext,
): Promise<{ codes: Float32Array<ArrayBuffer>[]; deviations: number[] }> {
  const queued = forwards.map(({ input }) => input.queue?.scores(model.prototypes) ?? []);
  const values = await readTensors(
    forwards.flatMap(({ scores, embeddings }, index) => [scores, embeddings, ...queued[index]]),
  );
  freeTensors(queued.flat());
  let next = 0;
  const requests = forwards.map(({ input, scores, embeddings }, index) => {
    const [scoreRows, embeddingRows] = values.slice(next, next += 2);
    const queue = values.slice(next, next += queued[index].length);
    const request = worldScores(scoreRows, { batch, assignCrops, columns: scores.shape[1], queue });
    const deviation = meanDeviation(embeddingRows, { rows: batch, columns: embeddings.shape[1] });
    return { deviation, request: { step, replica: input.replica, batch, ...request } };
  });
  const codes = await Promise.all(requests.map(({ request }) => assigner.assign(request)));
  for (const { input, embeddings } of forwards) input.queue?.push(embeddings, { batch, assignCrops });
  return { codes, deviations: requests.map(({ deviation }) => deviation) };
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
