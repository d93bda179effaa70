/**
 * Gradients of one step on their way out and back: a slice of the flat gradient leaves as soon as its parameters are
 * final, while the backward pass goes on, and comes back as the sum over all replicas. Which actor adds it up is not
 * known here.
 */
import type { Collective } from "../../collectives/collective.ts";
import { gatherSlice, scatterSlice, type SlicePlan, SliceProgress } from "../../collectives/slices.ts";
import type { Device } from "../../device/device.ts";
import type { Parameter } from "../../nn/module.ts";
import type { GradientSum } from "../../methods/step.ts";
import { readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";

/** What a {@linkcode GradientStream} needs. */
export interface GradientStreamOptions {
  readonly device: Device;
  readonly step: number;
  /** Parameters in the order in which the backward pass finishes them. */
  readonly plan: SlicePlan;
  readonly parameters: ReadonlyMap<string, Parameter>;
  /** Local replicas. */
  readonly replicas: readonly number[];
  /** All replicas of the world as one of them sees it. */
  world(replica: number): Collective;
}

interface ReplicaProgress {
  readonly slices: SliceProgress;
  /** Gradients read back, until every slice they lie in is sent. */
  readonly values: Map<string, Promise<Float32Array<ArrayBuffer>>>;
}

/** The gradient sum of one step, over messages. */
export class GradientStream implements GradientSum {
  readonly #options: GradientStreamOptions;
  readonly #progress = new Map<number, ReplicaProgress>();
  readonly #sums: Promise<void>[] = [];
  readonly #totals = new Map<string, Float32Array<ArrayBuffer>>();

  constructor(options: GradientStreamOptions) {
    this.#options = options;
    for (const replica of options.replicas) {
      this.#progress.set(replica, { slices: new SliceProgress(options.plan), values: new Map() });
    }
    for (const { name, size } of options.plan.parameters) this.#totals.set(name, new Float32Array(size));
  }

  /** @inheritdoc */
  add(replica: number, parameter: Parameter, gradient: Tensor): void {
    const progress = this.#progress.get(replica);
    if (progress === undefined) throw new RangeError(`Replica ${replica} is not carried here`);
    this.#pending.push({ replica, name: parameter.name, gradient });
    const ready = progress.slices.finish(parameter.name);
    if (ready.length === 0) return;
    this.#readPending(replica, progress);
    for (const slice of ready) {
      const sum = this.#exchange(slice, replica, progress);
      // Failures surface in finish(); when the step fails before that, they must not end the process.
      sum.catch(() => {});
      this.#sums.push(sum);
    }
  }

  /** @inheritdoc */
  async finish(): Promise<ReadonlyMap<string, Tensor>> {
    await Promise.all(this.#sums);
    for (const [replica, { slices }] of this.#progress) {
      if (!slices.complete) {
        throw new Error(`Step ${this.#options.step}: replica ${replica} lacks gradients of some parameters`);
      }
    }
    const { device, parameters } = this.#options;
    return new Map(
      [...this.#totals].map((
        [name, values],
      ) => [name, tensorFrom(device, values, parameters.get(name)?.tensor.shape ?? [])]),
    );
  }

  #pending: { replica: number; name: string; gradient: Tensor }[] = [];

  /** Reads the gradients that have gathered since the last slice in one readback. */
  #readPending(replica: number, progress: ReplicaProgress): void {
    const mine = this.#pending.filter((entry) => entry.replica === replica);
    this.#pending = this.#pending.filter((entry) => entry.replica !== replica);
    const read = readTensors(mine.map(({ gradient }) => gradient));
    mine.forEach(({ name }, index) => progress.values.set(name, read.then((values) => values[index])));
    // Failures surface where the values are awaited.
    read.catch(() => {});
  }

  async #exchange(slice: number, replica: number, progress: ReplicaProgress): Promise<void> {
    const { plan, step, world, replicas } = this.#options;
    const names = plan.slices[slice].pieces.map((piece) => plan.parameters[piece.parameter].name);
    const arrays = new Map<string, Float32Array<ArrayBuffer>>();
    for (const name of names) {
      const values = await progress.values.get(name);
      if (values !== undefined) arrays.set(name, values);
    }
    const arrayOf = (from: ReadonlyMap<string, Float32Array<ArrayBuffer>>) => (name: string) => {
      const values = from.get(name);
      if (values === undefined) throw new Error(`Step ${step}: no gradient of ${name}`);
      return values;
    };
    const sum = await world(replica).allReduce(`gradient/${step}/${slice}`, gatherSlice(plan, slice, arrayOf(arrays)));
    // Every local replica gets the same sum; one of them writes it down.
    if (replica === replicas[0]) scatterSlice(plan, slice, { values: sum, arrayOf: arrayOf(this.#totals) });
  }
}
