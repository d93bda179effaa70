/**
 * Compares ten whole training steps with PyTorch (case 6 of generate.py): once with the train step alone on one replica
 * that holds all images, once as a cluster of several trainers over WebSockets that share the same images.
 */
import type { RunEvent } from "../../actors/events.ts";
import { learningRateAt } from "../../actors/step_record.ts";
import type { Device } from "../../device/device.ts";
import { buildModel, buildOptimizer, storageOf } from "../../actors/engine/build.ts";
import type { TrainConfig } from "../../config.ts";
import type { Parameter } from "../../nn/module.ts";
import { loadStateDict, type StateDict, stateDict } from "../../nn/state_dict.ts";
import { LossScale } from "../../optim/loss_scale.ts";
import { PLATEAU_START } from "../../optim/schedule.ts";
import { assignWorld } from "../../swav/assign.ts";
import { type GradientSum, trainStep } from "../../swav/train_step.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { type ReferenceArrays, referenceArrays, row } from "./arrays.ts";
import type { ReferenceRow } from "./augment.ts";
import { clusterOf } from "./pretrain_cluster.ts";
import { cropsOf, initialState, pretrainConfig, stepsOf } from "./pretrain_case.ts";
import { readReference } from "./read_reference.ts";

const bounds = {
  learningRate: 1e-12,
  loss: 1e-5,
  mixedLoss: 0.01,
  gradientNorm: 1e-4,
  weight: 1e-3,
  statistics: 1e-3,
} as const;

/** What ten steps gave. */
interface TenSteps {
  readonly losses: readonly number[];
  readonly rates: readonly number[];
  readonly norms: readonly number[];
  readonly state: StateDict;
}

/** Rows for `folder`'s pretrain_steps.safetensors with one replica in one process. */
export async function comparePretrainSteps(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "pretrain_steps");
  const { losses, rates, norms, state } = await takeSteps(reference, { device, precision: "f32" });
  return [
    ...stepRows("one process", reference, { losses, rates }),
    ...reference.setting<number[]>("gradient_norms").map((norm, step) =>
      row(`one process: gradient norm ${step}`, { ours: [norms[step]], reference: [norm], bound: bounds.gradientNorm })
    ),
    ...weightRows("one process", reference, (name) => state.get(name)?.data ?? new Float32Array()),
  ];
}

/** The losses alone, of the same steps in mixed precision. */
export async function compareMixedSteps(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "pretrain_steps");
  const { losses } = await takeSteps(reference, { device, precision: "mixed" });
  return reference.setting<number[]>("losses").map((loss, step) =>
    row(`mixed precision: loss ${step}`, { ours: [losses[step]], reference: [loss], bound: bounds.mixedLoss })
  );
}

async function takeSteps(
  reference: ReferenceArrays,
  { device, precision }: { device: Device; precision: TrainConfig["precision"] },
): Promise<TenSteps> {
  const config = { ...pretrainConfig(reference, { trainers: 1, runFolder: "" }), precision };
  const lossScale = precision === "mixed" ? new LossScale() : undefined;
  const model = buildModel(device, config);
  const whole = { parameters: () => [...model.parameters], buffers: () => [...model.buffers] };
  loadStateDict(whole, initialState(reference));
  const optimizer = buildOptimizer(config);
  const losses: number[] = [], rates: number[] = [], norms: number[] = [];
  for (let step = 0; step < stepsOf(reference); step++) {
    const learningRate = learningRateAt(config, step, { steps: stepsOf(reference), plateau: PLATEAU_START });
    const gradients = new LocalGradients();
    const views = cropsOf(reference, device, { step, replica: 0, replicas: 1 });
    const [result] = await trainStep([{ replica: 0, views }], {
      step,
      model,
      optimizer,
      learningRate,
      batch: config.batchPerReplica,
      replicas: 1,
      assignCrops: config.assignCrops,
      temperature: config.loss.temperature,
      frozenPrototypes: step < config.prototypes.frozenSteps,
      storage: storageOf(config),
      lossScale,
      assigner: { assign: (request) => Promise.resolve(assignAlone(config, request)) },
      gradients,
    });
    losses.push(result.loss);
    rates.push(learningRate);
    norms.push(gradients.norm);
  }
  const state = await stateDict(whole);
  optimizer.dispose();
  freeTensors([...model.parameters, ...model.buffers].map(({ tensor }) => tensor));
  return { losses, rates, norms, state };
}

/** The same rows (without gradient norms) for a cluster of `trainers` trainers with one replica each. */
export async function comparePretrainCluster(
  folder: string,
  { device, trainers }: { device: Device; trainers: number },
): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "pretrain_steps");
  const runFolder = await Deno.makeTempDir({ prefix: "pretrain-steps-" });
  try {
    const config = pretrainConfig(reference, { trainers, runFolder });
    const events = await clusterOf(reference, { config, device });
    const end = events.at(-1);
    if (end?.kind !== "ended") throw new Error(`The cluster must reach its end, it gave ${describe(end)}`);
    const records = events.flatMap((event) => event.kind === "step" ? [event.record] : []);
    const { tensors } = await readReference(`${end.folder}/model.safetensors`);
    const what = `${trainers} trainers`;
    return [
      ...stepRows(what, reference, {
        losses: records.map(({ loss }) => loss),
        rates: records.map(({ learningRate }) => learningRate),
      }),
      ...weightRows(what, reference, (name) => new Float32Array(tensors[name]?.bytes.buffer ?? new ArrayBuffer(0))),
    ];
  } finally {
    await Deno.remove(runFolder, { recursive: true });
  }
}

function describe(end: RunEvent | undefined): string {
  return end?.kind === "failed" ? `${end.failure.actor}: ${end.failure.error}` : end?.kind ?? "nothing";
}

function stepRows(
  what: string,
  reference: ReferenceArrays,
  { losses, rates }: { losses: readonly number[]; rates: readonly number[] },
): ReferenceRow[] {
  const one = (name: string, ours: number, expected: number, bound: number) =>
    row(`${what}: ${name}`, { ours: [ours], reference: [expected], bound });
  return [
    ...reference.setting<number[]>("learning_rates").map((rate, step) =>
      one(`learning rate ${step}`, rates[step], rate, bounds.learningRate)
    ),
    ...reference.setting<number[]>("losses").map((loss, step) => one(`loss ${step}`, losses[step], loss, bounds.loss)),
  ];
}

function weightRows(
  what: string,
  reference: ReferenceArrays,
  valuesOf: (name: string) => Float32Array,
): ReferenceRow[] {
  return reference.namesUnder("final.").map((name) => {
    const bound = name.includes("running_") ? bounds.statistics : bounds.weight;
    return row(`${what}: final ${name}`, {
      ours: valuesOf(name),
      reference: reference.numbers(`final.${name}`),
      bound,
    });
  });
}

function assignAlone(
  { assignCrops, prototypes, sinkhorn }: TrainConfig,
  request: { batch: number; rows: number; scores: Float32Array<ArrayBuffer> },
): Float32Array<ArrayBuffer> {
  const { codes } = assignWorld([request], { crops: assignCrops.length, prototypes: prototypes.count, ...sinkhorn });
  return codes[0];
}

/** The gradients of the only replica, and their norm over all parameters. */
class LocalGradients implements GradientSum {
  readonly #gradients = new Map<string, Tensor>();
  norm = NaN;

  add(_replica: number, { name }: Parameter, gradient: Tensor): void {
    this.#gradients.set(name, gradient);
  }

  async finish(): Promise<ReadonlyMap<string, Tensor>> {
    const entries = [...this.#gradients];
    const values = await readTensors(entries.map(([, tensor]) => tensor));
    this.norm = Math.sqrt(values.reduce((sum, array) => sum + array.reduce((s, v) => s + v * v, 0), 0));
    return new Map(entries.map(([name, { device, shape }], i) => [name, tensorFrom(device, values[i].slice(), shape)]));
  }
}
