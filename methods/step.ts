/**
 * The training step that all methods share, for the replicas that this trainer carries: forward and losses by a method's
 * objective, backward, the sum over all replicas, the update. It knows no loss, and not where the sums come from.
 */
import type { Collective } from "../collectives/collective.ts";
import type { Device } from "../device/device.ts";
import type { ForwardContext, ModuleBuffer, Parameter } from "../nn/module.ts";
import type { Segment } from "../nn/segments.ts";
import type { Trunk } from "../nn/trunks.ts";
import type { LossScale } from "../optim/loss_scale.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import { HalfCopies } from "../tensor/halves.ts";
import { type Lane, runLanes } from "../tensor/lanes.ts";
import { concatRows } from "../tensor/ops/rows.ts";
import { markOverflow } from "../tensor/ops/update.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Storage, type Tensor, tensorFrom, zeros } from "../tensor/tensor.ts";

/** What a method trains: a trunk and whatever stands on it. */
export interface Network {
  readonly device: Device;
  readonly trunk: Trunk;
  /** In order of the forward pass, the trunk's as `trunk.…`. */
  readonly parameters: readonly Parameter[];
  /** Running statistics. */
  readonly buffers: readonly ModuleBuffer[];
}

/** One replica's input. */
export interface ReplicaInput {
  readonly replica: number;
  /** One tensor per crop size, `[crops · batch, size, size, 3]`, crop-major, normalised. Freed by the step. */
  readonly views: readonly Tensor[];
}

/** Collects gradients of all local replicas and gives back their sum over the world. */
export interface GradientSum {
  /** A parameter's gradient of one replica is final; it stays valid until {@linkcode GradientSum.finish} has resolved. */
  add(replica: number, parameter: Parameter, gradient: Tensor): void;
  /** Sums over all replicas by parameter name, owned by the caller. */
  finish(): Promise<ReadonlyMap<string, Tensor>>;
}

/** What a step works with, whatever the method. */
export interface StepContext {
  readonly step: number;
  readonly model: Network;
  readonly optimizer: Optimizer;
  readonly learningRate: number;
  /** Samples of each replica. */
  readonly batch: number;
  /** Replicas of the world. */
  readonly replicas: number;
  /** Names of parameters that rest: no gradient, no momentum, no decay. @default none */
  readonly resting?: ReadonlySet<string>;
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
  readonly gradients: GradientSum;
}

/** What one replica's step gave. */
export interface ReplicaResult {
  readonly replica: number;
  /** The method's loss, the mean over this replica's samples. */
  readonly loss: number;
  /** Mean standard deviation over the batch of each component of the first crop's embeddings. */
  readonly embeddingDeviation: number;
  /** Of methods that learn from labels: share of the images whose class came first. */
  readonly top1?: number;
}

/** One replica's pass through a step. */
export interface ReplicaPass<Input extends ReplicaInput> {
  readonly tape: Tape;
  readonly input: Input;
  /** For the layers; each pass adds its name. */
  readonly forward: Omit<ForwardContext, "pass">;
}

/** What an objective gives for one replica. */
export interface ReplicaLosses {
  /** Records the loss; called once. Its rows' sum is this replica's share of the world's mean loss. */
  losses(): Tensor;
  readonly embeddingDeviation: number;
  readonly top1?: number;
}

/** From the crops of all local replicas to their losses; this is all in which methods differ. */
export type Objective<Input extends ReplicaInput> = (
  passes: readonly ReplicaPass<Input>[],
) => Promise<readonly ReplicaLosses[]>;

/** Takes one step: forward and losses by the objective, backward, average, update. */
export async function takeStep<Input extends ReplicaInput>(
  inputs: readonly Input[],
  context: StepContext,
  objective: Objective<Input>,
): Promise<ReplicaResult[]> {
  const { model, gradients, replicas, storage, segments } = context;
  const halves = storage === "f16" ? new HalfCopies(model.device) : undefined;
  const tapes = inputs.map(() => new Tape(model.device, { gradients: true, halves }));
  try {
    const passes = inputs.map((input, index): ReplicaPass<Input> => {
      const tape = tapes[index], { replica } = input;
      const collective = context.collective?.(replica);
      // Running statistics are those of replica 0's group, as VISSL saves rank 0's (section 4.3 of its large-scale docs).
      const forward = { tape, training: true, updateStatistics: replica === 0, collective, storage, segments };
      return { tape, input, forward };
    });
    const prepared = await objective(passes);
    const losses = await Promise.all(passes.map((pass, index) => backward(pass, prepared[index], context)));
    const sums = await gradients.finish();
    const overflow = update(sums, context);
    for (const sum of sums.values()) sum.device.free(sum.buffer);
    const values = await readTensors(overflow === undefined ? losses : [...losses, overflow]);
    if (overflow !== undefined) settle(overflow, { overflowed: values[losses.length][0] !== 0, context });
    return inputs.map(({ replica }, index): ReplicaResult => {
      const loss = values[index].reduce((sum, value) => sum + value, 0) * replicas;
      const { embeddingDeviation, top1 } = prepared[index];
      return { replica, loss, embeddingDeviation, ...(top1 === undefined ? {} : { top1 }) };
    });
  } finally {
    for (const tape of tapes) tape.dispose();
    halves?.drop();
  }
}

/**
 * The trunk's features of all crops, `[crops · batch, width]`, crop-major; the crops become the tape's. One trunk pass per
 * crop size: each resolution has its own batch statistics. Where these are a group's, the passes run side by side, so that
 * a layer's exchanges of all sizes are one, unless memory matters more.
 */
export async function trunkFeatures<Input extends ReplicaInput>(
  { tape, input, forward }: ReplicaPass<Input>,
  { model, passesInTurn = false }: Pick<StepContext, "model" | "passesInTurn">,
): Promise<Tensor> {
  const { views } = input;
  for (const view of views) tape.adopt(view);
  const passes = views.map((view, index) => (lane?: Lane) =>
    model.trunk.forward(view, { ...forward, ...lane, pass: `crops ${index}` })
  );
  const { collective } = forward;
  if (collective !== undefined && passes.length > 1 && !passesInTurn) {
    return concatRows(tape, await runLanes(tape, { collective, passes }));
  }
  const features: Tensor[] = [];
  for (const pass of passes) features.push(await pass());
  return concatRows(tape, features);
}

/** Hands the gradients of one replica over; resolves to its loss by rows, which the tape frees. */
async function backward<Input extends ReplicaInput>(
  { tape, input }: ReplicaPass<Input>,
  prepared: ReplicaLosses,
  { model, gradients, resting, lossScale }: StepContext,
): Promise<Tensor> {
  const losses = prepared.losses();
  const byTensor = new Map(model.parameters.map((parameter) => [parameter.tensor, parameter]));
  const scaled = lossScale && new Float32Array(losses.size).fill(lossScale.value);
  await tape.backward(losses, {
    gradient: scaled && tape.adopt(tensorFrom(tape.device, scaled, losses.shape)),
    keep: [losses],
    onGradient(leaf, gradient) {
      const parameter = byTensor.get(leaf);
      if (parameter === undefined || resting?.has(parameter.name)) return;
      gradients.add(input.replica, parameter, gradient);
    },
  });
  return losses;
}

/** Moves the weights; with a loss scale the mark of an overflow is given, which the caller has to fetch and settle. */
function update(sums: ReadonlyMap<string, Tensor>, context: StepContext): Tensor | undefined {
  const { model, optimizer, learningRate, resting, lossScale } = context;
  const learning = model.parameters.filter(({ name }) => !resting?.has(name));
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

/** Mean over components of the standard deviation over the first `rows` rows; 0 when all rows are equal. */
export function meanDeviation(values: Float32Array, { rows, columns }: { rows: number; columns: number }): number {
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
