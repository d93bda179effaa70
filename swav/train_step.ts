/**
 * One training step of SwAV, top to bottom, for the replicas that this trainer carries. Where the sums over the other
 * replicas and the codes come from is the caller's business; here they are promises.
 */
import type { Assigner, Collective } from "../collectives/collective.ts";
import type { Parameter } from "../nn/module.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import { concatRows } from "../tensor/ops/rows.ts";
import { l2Normalize } from "../tensor/ops/l2_normalize.ts";
import { Tape } from "../tensor/tape.ts";
import { readTensors, type Tensor } from "../tensor/tensor.ts";
import { swavLoss } from "./loss.ts";
import type { SwavModel } from "./model.ts";
import type { EmbeddingQueue } from "./queue.ts";

/** One replica's input. */
export interface ReplicaInput {
  readonly replica: number;
  /** One tensor per crop size, `[crops · batch, size, size, 3]`, crop-major, normalised. Freed by the step. */
  readonly views: readonly Tensor[];
  readonly queue?: EmbeddingQueue;
}

/** Collects gradients of all local replicas and gives back their sum over the world. */
export interface GradientSum {
  /** A parameter's gradient of one replica is final; it stays valid until {@linkcode GradientSum.finish} has resolved. */
  add(replica: number, parameter: Parameter, gradient: Tensor): void;
  /** Sums over all replicas by parameter name, owned by the caller. */
  finish(): Promise<ReadonlyMap<string, Tensor>>;
}

/** What a step works with. */
export interface StepContext {
  readonly step: number;
  readonly model: SwavModel;
  readonly optimizer: Optimizer;
  readonly learningRate: number;
  /** Samples of each replica. */
  readonly batch: number;
  /** Replicas of the world. */
  readonly replicas: number;
  readonly assignCrops: readonly number[];
  readonly temperature: number;
  /** Whether the prototypes rest: no gradient, no momentum, no decay. */
  readonly frozenPrototypes: boolean;
  /** SyncBN's group as a replica sees it; absent for statistics of each replica alone. */
  collective?(replica: number): Collective;
  readonly assigner: Assigner;
  readonly gradients: GradientSum;
}

/** What one replica's step gave. */
export interface ReplicaResult {
  readonly replica: number;
  /** SwAV loss, the mean over this replica's samples. */
  readonly loss: number;
  /** Mean standard deviation over the batch of each component of the first crop's embeddings. */
  readonly embeddingDeviation: number;
}

/** Takes one step: normalise the prototypes, go forward, assign, go backward, average, update. */
export async function trainStep(inputs: readonly ReplicaInput[], context: StepContext): Promise<ReplicaResult[]> {
  const { model, optimizer, gradients, learningRate, frozenPrototypes } = context;
  model.prototypes.normalize();
  const tapes: Tape[] = [];
  try {
    const results = await Promise.all(inputs.map((input) => {
      const tape = new Tape(model.device, { gradients: true });
      tapes.push(tape);
      return forwardBackward(tape, input, context);
    }));
    const sums = await gradients.finish();
    const learning = model.parameters.filter(({ name }) => !(frozenPrototypes && name === prototypesName));
    optimizer.step(learning, sums, learningRate);
    for (const sum of sums.values()) sum.device.free(sum.buffer);
    return results;
  } finally {
    for (const tape of tapes) tape.dispose();
  }
}

/** Name of the prototypes' weight among the model's parameters. */
export const prototypesName = "prototypes.weight";

async function forwardBackward(tape: Tape, input: ReplicaInput, context: StepContext): Promise<ReplicaResult> {
  const { model, batch, assignCrops, temperature, replicas, gradients } = context;
  const { replica, views, queue } = input;
  for (const view of views) tape.adopt(view);
  const collective = context.collective?.(replica);
  // Running statistics are those of replica 0's group, as VISSL saves rank 0's (section 4.3 of its large-scale docs).
  const forward = { tape, training: true, updateStatistics: replica === 0, collective };

  // One trunk pass per crop size: each resolution has its own batch statistics.
  const features: Tensor[] = [];
  for (const [index, view] of views.entries()) {
    features.push(await model.trunk.forward(view, { ...forward, pass: `crops ${index}` }));
  }
  const projected = await model.head.forward(concatRows(tape, features), { ...forward, pass: "head" });
  const embeddings = l2Normalize(tape, projected);
  const scores = model.prototypes.forward(embeddings, { ...forward, pass: "prototypes" });

  const [queueScores, [scoreRows, embeddingRows]] = await Promise.all([
    queue?.scores(model.prototypes),
    readTensors([scores, embeddings]),
  ]);
  const request = worldScores(scoreRows, { batch, assignCrops, columns: scores.shape[1], queue: queueScores });
  const codes = await context.assigner.assign({ step: context.step, replica, batch, ...request });
  queue?.push(embeddings, { batch, assignCrops });

  const losses = swavLoss(tape, { scores, codes }, { batch, assignCrops, temperature, replicas });
  const byTensor = new Map(model.parameters.map((parameter) => [parameter.tensor, parameter]));
  const lossRows = readTensors([losses]);
  // A lost device fails the backward pass too; its failure is the one to tell.
  lossRows.catch(() => {});
  await tape.backward(losses, {
    onGradient(leaf, gradient) {
      const parameter = byTensor.get(leaf);
      if (parameter === undefined) return;
      if (context.frozenPrototypes && parameter.name === prototypesName) return;
      gradients.add(replica, parameter, gradient);
    },
  });
  const [rows] = await lossRows;
  const loss = rows.reduce((sum, value) => sum + value, 0) * replicas;
  return {
    replica,
    loss,
    embeddingDeviation: meanDeviation(embeddingRows, { rows: batch, columns: embeddings.shape[1] }),
  };
}

/** Rows of the assign crops, each followed by the queue's, as `[assignCrops, rows, prototypes]`. */
function worldScores(
  scores: Float32Array<ArrayBuffer>,
  parts: {
    batch: number;
    assignCrops: readonly number[];
    columns: number;
    queue?: readonly Float32Array[];
  },
): { rows: number; scores: Float32Array<ArrayBuffer> } {
  const { batch, assignCrops, columns, queue = [] } = parts;
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

/** Mean over components of the standard deviation over the first `rows` rows; 0 when all rows are equal. */
function meanDeviation(values: Float32Array, { rows, columns }: { rows: number; columns: number }): number {
  let total = 0;
  for (let column = 0; column < columns; column++) {
    let sum = 0, squares = 0;
    for (let row = 0; row < rows; row++) sum += values[row * columns + column];
    const mean = sum / rows;
    for (let row = 0; row < rows; row++) squares += (values[row * columns + column] - mean) ** 2;
    total += Math.sqrt(squares / rows);
  }
  return total / columns;
}
