/**
 * The training step that all methods share, as a transaction, for the replicas that this trainer carries: forward and
 * losses by a method's objective, backward, the sum over all replicas; then the update, or everything back as it was. It
 * knows no loss, and not where the sums come from.
 */
import type { Collective } from "../collectives/collective.ts";
import type { Device } from "../device/device.ts";
import type { ForwardContext, ModuleBuffer, Parameter } from "../nn/module.ts";
import type { Segment } from "../nn/segments.ts";
import type { Trunk } from "../nn/trunks.ts";
import type { LossScale } from "../optim/loss_scale.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import { HalfCopies } from "../tensor/halves.ts";
import { fingerprint, fingerprintHex } from "../tensor/ops/fingerprint.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Storage, type Tensor } from "../tensor/tensor.ts";
import { Undo } from "../tensor/undo.ts";
import type { Joint } from "./joint.ts";
import { computePasses } from "./passes.ts";
import {
  joined,
  leaveBehind,
  type Leavings,
  markSums,
  moveWeights,
  splitPieces,
  type Sums,
  type UpdateContext,
} from "./update.ts";

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
  /** What the method does to the model before the forward pass; it only encodes. */
  begin?(): void;
  /** Tensors that {@linkcode StepContext.begin} changes. @default none */
  readonly changes?: readonly Tensor[];
  /**
   * Gives this trainer's pieces of what the step leaves behind, by replica, and resolves to those of all replicas, in their
   * order. A piece is what the method carries on, and behind it, of replica 0, the running statistics: all buffers in
   * order. Not called where a step leaves nothing behind, which all trainers tell alike. Absent where all replicas are
   * carried here.
   */
  share?(pieces: ReadonlyMap<number, Float32Array<ArrayBuffer>>): Promise<readonly Float32Array<ArrayBuffer>[]>;
  /**
   * Whether the step goes without what protects it: it has no fingerprint of the weights and no copies to undo it by, so
   * that it must be committed. For measuring what protection costs, and nothing else. @default false
   */
  readonly unprotected?: boolean;
  /** Takes what the method carries on to later steps; called in the commit, for each replica that has some, in order. */
  carried?(replica: number, carry: Float32Array<ArrayBuffer>): void;
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
  /** What the method carries on to later steps, handed to {@linkcode StepContext.carried}; as long on all replicas. */
  readonly carry?: Float32Array<ArrayBuffer>;
}

/**
 * From the crops of all local replicas to their losses; this is all in which methods differ. What runs for several
 * replicas at a time and touches the device goes through `joint`, and so does what comes from other replicas.
 */
export type Objective<Input extends ReplicaInput> = (
  passes: readonly ReplicaPass<Input>[],
  joint: Joint,
) => Promise<readonly ReplicaLosses[]>;

/**
 * A step that is computed and has moved nothing yet. Until it is committed or discarded, running statistics and what the
 * method changes at a step's start are those of the middle of the step, and no other step may begin.
 */
export interface PreparedStep {
  /** In order of the inputs. */
  readonly results: readonly ReplicaResult[];
  /** Fingerprint of the weights that the step began with (all parameters), 32 hex characters; empty without protection. */
  readonly weights: string;
  /** Whether gradients overflow, so that the update will be left out. */
  readonly overflows: boolean;
  /**
   * Moves the weights and takes what the step leaves behind (running statistics, what the method carries on). It only
   * encodes.
   *
   * @throws {TypeError} When the step is committed or discarded already.
   * @throws {RangeError} When gradients overflow although the loss scale is 1; the step is taken then, without an update.
   */
  commit(): void;
  /** Puts everything back as it was before the step, bit for bit; does nothing once committed or discarded. */
  discard(): void;
}

/** What of a step is given to a trainer that follows it. */
export interface GivenStep {
  /** Sums over all replicas by parameter name; freed by the step. */
  readonly sums: ReadonlyMap<string, Tensor>;
  /** What {@linkcode StepContext.share} resolved to; empty where it was not called. */
  readonly shared: readonly Float32Array<ArrayBuffer>[];
}

/** What following a step needs. */
export type FollowContext = UpdateContext & Pick<StepContext, "begin" | "carried">;

/**
 * Computes a step: forward and losses by the objective, backward and beside it the others' pieces, sums over all replicas
 * and beside them one readback. Where anything fails, everything is as it was before. The inputs' views are freed in any
 * case.
 */
export async function prepareStep<Input extends ReplicaInput>(
  inputs: readonly Input[],
  context: StepContext,
  objective: Objective<Input>,
): Promise<PreparedStep> {
  const { model, storage, unprotected = false, changes = [] } = context;
  // Running statistics are those of replica 0's group, as VISSL saves rank 0's (section 4.3 of its large-scale docs).
  const statistics = inputs.some(({ replica }) => replica === 0) ? model.buffers.map(({ tensor }) => tensor) : [];
  const undo = new Undo();
  undo.keep(unprotected ? [] : [...changes, ...statistics]);
  const halves = storage === "f16" ? new HalfCopies(model.device) : undefined;
  const tapes = inputs.map(({ views }) => {
    const tape = new Tape(model.device, { gradients: true, halves });
    for (const view of views) tape.adopt(view);
    return tape;
  });
  let leaving: Promise<Leavings> | undefined, summing: Promise<Sums> | undefined;
  const marks: Tensor[] = [];
  try {
    context.begin?.();
    const { prepared, losses } = await computePasses({
      inputs,
      tapes,
      context,
      objective,
      forwarded(prepared) {
        // The others' pieces come while the backward pass is computed.
        leaving = leavings(inputs, prepared, { statistics, context });
        leaving.catch(() => {});
      },
    });
    const told = outcome(inputs, { prepared, losses, undo, context });
    summing = context.gradients.finish();
    const [parts, left = { carries: [] }, sums] = await Promise.all([told, leaving, summing]);
    const mark = markSums(sums, context);
    if (mark !== undefined) marks.push(mark);
    const overflowed = mark !== undefined && (await readTensors([mark]))[0][0] !== 0;
    return new Prepared(context, { ...parts, left, sums, mark, overflowed, undo });
  } catch (error) {
    undo.restore();
    undo.drop();
    // Where they come later than the failure too.
    summing?.then((sums) => freeTensors([...sums.values()]), () => {});
    freeTensors(marks);
    throw error;
  } finally {
    for (const tape of tapes) tape.dispose();
    halves?.drop();
  }
}

/** Takes one step: prepares it and commits it at once. */
export async function takeStep<Input extends ReplicaInput>(
  inputs: readonly Input[],
  context: StepContext,
  objective: Objective<Input>,
): Promise<readonly ReplicaResult[]> {
  const prepared = await prepareStep(inputs, context, objective);
  prepared.commit();
  return prepared.results;
}

/**
 * Takes a step that others have computed, and comes to the same bits: weights, the optimiser's state, running statistics,
 * what the method carries on, the loss scale.
 *
 * @throws {RangeError} When the running statistics lack; nothing has changed then but that the sums are freed.
 */
export async function followStep(context: FollowContext, { sums, shared }: GivenStep): Promise<void> {
  const { model, lossScale } = context;
  const mark = markSums(sums, context);
  let overflowed = false;
  try {
    const left = splitPieces(shared, model);
    if (mark !== undefined) overflowed = (await readTensors([mark]))[0][0] !== 0;
    context.begin?.();
    moveWeights(context, { sums, mark, overflowed });
    leaveBehind(context, left);
  } finally {
    freeTensors([...sums.values(), ...mark === undefined ? [] : [mark]]);
  }
  lossScale?.after({ overflow: overflowed });
}

/** What a {@linkcode Prepared} step holds. */
interface PreparedParts extends Pick<PreparedStep, "results" | "weights"> {
  readonly sums: Sums;
  readonly mark: Tensor | undefined;
  readonly overflowed: boolean;
  readonly left: Leavings;
  readonly undo: Undo;
}

class Prepared implements PreparedStep {
  readonly results: readonly ReplicaResult[];
  readonly weights: string;
  readonly overflows: boolean;
  readonly #context: StepContext;
  #parts: PreparedParts | undefined;

  constructor(context: StepContext, parts: PreparedParts) {
    this.results = parts.results;
    this.weights = parts.weights;
    this.overflows = parts.overflowed;
    this.#context = context;
    this.#parts = parts;
  }

  commit(): void {
    const parts = this.#parts;
    if (parts === undefined) {
      throw new TypeError("Cannot commit the step: it must be prepared, it is committed or discarded already");
    }
    try {
      moveWeights(this.#context, parts);
      leaveBehind(this.#context, parts.left);
    } finally {
      this.#free(parts);
    }
    this.#context.lossScale?.after({ overflow: parts.overflowed });
  }

  discard(): void {
    if (this.#parts === undefined) return;
    this.#parts.undo.restore();
    this.#free(this.#parts);
  }

  #free({ undo, sums, mark }: PreparedParts): void {
    this.#parts = undefined;
    undo.drop();
    freeTensors([...sums.values(), ...mark === undefined ? [] : [mark]]);
  }
}

function resultOf(
  replica: number,
  { embeddingDeviation, top1 }: ReplicaLosses,
  { values, context }: { values: Float32Array; context: StepContext },
): ReplicaResult {
  const loss = values.reduce((sum, value) => sum + value, 0) * context.replicas;
  return { replica, loss, embeddingDeviation, ...(top1 === undefined ? {} : { top1 }) };
}

/**
 * What a step reports, once its passes are given to the device. The fingerprint comes here and not at the step's start
 * because the device has nothing else to do while gradients travel.
 */
async function outcome(
  inputs: readonly ReplicaInput[],
  { prepared, losses, undo, context }: {
    prepared: readonly ReplicaLosses[];
    losses: readonly Tensor[];
    undo: Undo;
    context: StepContext;
  },
): Promise<Pick<PreparedParts, "results" | "weights">> {
  const { model: { parameters }, unprotected = false } = context;
  const weights = unprotected ? [] : [fingerprint(parameters.map(({ tensor }) => undo.before(tensor)))];
  const values = await readTensors([...losses, ...weights]).finally(() => freeTensors(weights));
  return {
    results: inputs.map(({ replica }, index) => resultOf(replica, prepared[index], { values: values[index], context })),
    weights: unprotected ? "" : fingerprintHex(parameters.map(({ name }) => name), values[losses.length]),
  };
}

/** What the step leaves behind of all replicas, known after its forward pass; asks the others where there are any. */
async function leavings(
  inputs: readonly ReplicaInput[],
  prepared: readonly ReplicaLosses[],
  { statistics, context }: { statistics: readonly Tensor[]; context: StepContext },
): Promise<Leavings> {
  const { model } = context;
  const own = inputs.map(({ replica }, index) => ({ replica, carry: prepared[index].carry ?? new Float32Array() }));
  const carries = own.filter(({ carry }) => carry.length > 0);
  if (context.share === undefined || (model.buffers.length === 0 && carries.length === 0)) return { carries };
  const moved = await readTensors(statistics);
  const pieces = new Map(own.map(({ replica, carry }) => [replica, joined([carry, ...replica === 0 ? moved : []])]));
  const all = splitPieces(await context.share(pieces), model);
  // The trainer that carries replica 0 has moved its running statistics already.
  return pieces.has(0) ? { carries: all.carries } : all;
}
