/**
 * One training step of SwAV, top to bottom, for the replicas that this trainer carries. Where the sums over the other
 * replicas and the codes come from is the caller's business; here they are promises.
 */
import type { Assigner, Collective } from "../collectives/collective.ts";
import type { ForwardContext, Parameter } from "../nn/module.ts";
import type { Segment } from "../nn/segments.ts";
import type { LossScale } from "../optim/loss_scale.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import { concatRows } from "../tensor/ops/rows.ts";
import { HalfCopies } from "../tensor/halves.ts";
import { type Lane, runLanes } from "../tensor/lanes.ts";
import { l2Normalize } from "../tensor/ops/l2_normalize.ts";
import { markOverflow } from "../tensor/ops/update.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Storage, type Tensor, tensorFrom, zeros } from "../tensor/tensor.ts";
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
  /** How activations and their gradients are stored. @default "f32" */
  readonly storage?: Storage;
  /** Units of the trunk that are run again in the backward pass. @default none */
  readonly segments?: readonly Segment[];
  /**
   * Whether trunk passes of a group's replicas go one after the other, with more exchanges and less memory; equal on all
   * trainers. @default false
   */
  readonly passesInTurn?: boolean;
  /** Multiplies the loss, and is told of the step; an update whose gradients overflow is left out. None when absent. */
  readonly lossScale?: LossScale;
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
  const { model, gradients, replicas } = context;
  model.prototypes.normalize();
  const halves = context.storage === "f16" ? new HalfCopies(model.device) : undefined;
  const tapes = inputs.map(() => new Tape(model.device, { gradients: true, halves }));
  try {
    const forwards = await Promise.all(inputs.map((input, index) => forward(tapes[index], input, context)));
    const { codes, deviations } = await assign(forwards, context);
    const losses = await Promise.all(forwards.map((each, index) => backward(each, codes[index], context)));
    const sums = await gradients.finish();
    const overflow = update(sums, context);
    for (const sum of sums.values()) sum.device.free(sum.buffer);
    const values = await readTensors(overflow === undefined ? losses : [...losses, overflow]);
    if (overflow !== undefined) settle(overflow, { overflowed: values[losses.length][0] !== 0, context });
    return inputs.map(({ replica }, index) => ({
      replica,
      loss: values[index].reduce((sum, value) => sum + value, 0) * replicas,
      embeddingDeviation: deviations[index],
    }));
  } finally {
    for (const tape of tapes) tape.dispose();
    halves?.drop();
  }
}

/** Name of the prototypes' weight among the model's parameters. */
export const prototypesName = "prototypes.weight";

/** What a replica's forward pass gave. */
interface Forward {
  readonly tape: Tape;
  readonly input: ReplicaInput;
  /** `[crops · batch, dim]`. */
  readonly embeddings: Tensor;
  /** `[crops · batch, prototypes]`. */
  readonly scores: Tensor;
}

async function forward(tape: Tape, input: ReplicaInput, context: StepContext): Promise<Forward> {
  const { model, storage, segments } = context;
  const { replica, views } = input;
  for (const view of views) tape.adopt(view);
  const collective = context.collective?.(replica);
  // Running statistics are those of replica 0's group, as VISSL saves rank 0's (section 4.3 of its large-scale docs).
  const forward = { tape, training: true, updateStatistics: replica === 0, collective, storage, segments };

  const features = await trunkPasses(views, { trunk: model.trunk, forward, inTurn: context.passesInTurn });
  const projected = await model.head.forward(concatRows(tape, features), { ...forward, pass: "head" });
  const embeddings = l2Normalize(tape, projected);
  // Scores stay in f32 whatever the storage.
  const scores = model.prototypes.forward(embeddings, { ...forward, storage: "f32", pass: "prototypes" });
  return { tape, input, embeddings, scores };
}

/**
 * One trunk pass per crop size: each resolution has its own batch statistics. Where these are a group's, the passes run
 * side by side, so that a layer's exchanges of all sizes are one, unless memory matters more.
 */
async function trunkPasses(
  views: readonly Tensor[],
  { trunk, forward, inTurn = false }: {
    trunk: SwavModel["trunk"];
    forward: Omit<ForwardContext, "pass">;
    inTurn?: boolean;
  },
): Promise<Tensor[]> {
  const passes = views.map((view, index) => (lane?: Lane) =>
    trunk.forward(view, { ...forward, ...lane, pass: `crops ${index}` })
  );
  const { tape, collective } = forward;
  if (collective !== undefined && passes.length > 1 && !inTurn) return await runLanes(tape, { collective, passes });
  const features: Tensor[] = [];
  for (const pass of passes) features.push(await pass());
  return features;
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

/** Hands the gradients of one replica over; resolves to its loss by rows, which the tape frees. */
async function backward(
  { tape, input, scores }: Forward,
  codes: Float32Array<ArrayBuffer>,
  context: StepContext,
): Promise<Tensor> {
  const { model, batch, assignCrops, temperature, replicas, gradients, frozenPrototypes, lossScale } = context;
  const losses = swavLoss(tape, { scores, codes }, { batch, assignCrops, temperature, replicas });
  const byTensor = new Map(model.parameters.map((parameter) => [parameter.tensor, parameter]));
  const scaled = lossScale && new Float32Array(losses.size).fill(lossScale.value);
  await tape.backward(losses, {
    gradient: scaled && tape.adopt(tensorFrom(tape.device, scaled, losses.shape)),
    keep: [losses],
    onGradient(leaf, gradient) {
      const parameter = byTensor.get(leaf);
      if (parameter === undefined) return;
      if (frozenPrototypes && parameter.name === prototypesName) return;
      gradients.add(input.replica, parameter, gradient);
    },
  });
  return losses;
}

/** Moves the weights; with a loss scale the mark of an overflow is given, which the caller has to fetch and settle. */
function update(sums: ReadonlyMap<string, Tensor>, context: StepContext): Tensor | undefined {
  const { model, optimizer, learningRate, frozenPrototypes, lossScale } = context;
  const learning = model.parameters.filter(({ name }) => !(frozenPrototypes && name === prototypesName));
  if (lossScale === undefined) {
    optimizer.step(learning, sums, learningRate);
    return undefined;
  }
  const overflow = zeros(model.device, [1]);
  // Found in the sum over all replicas, so that every trainer decides alike.
  markOverflow([...sums.values()], overflow);
  optimizer.step(learning, sums, { learningRate, lossScaled: { scale: lossScale.value, overflow } });
  return overflow;
}

function settle(
  overflow: Tensor,
  { overflowed, context }: { overflowed: boolean; context: StepContext },
): void {
  freeTensors([overflow]);
  if (overflowed) context.optimizer.retract();
  context.lossScale?.after({ overflow: overflowed });
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
