/**
 * Small SwAV trainers in one process: a model, an optimiser, queues of all replicas, and sums over replicas in memory; for
 * tests of steps as transactions.
 */
import { memoryGroup } from "../../collectives/memory_collective.ts";
import type { Collective } from "../../collectives/collective.ts";
import type { Device } from "../../device/device.ts";
import type { Parameter } from "../../nn/module.ts";
import { larc } from "../../optim/larc.ts";
import { LossScale } from "../../optim/loss_scale.ts";
import { assignWorld, type ReplicaScores } from "../../swav/assign.ts";
import { buildSwavModel } from "../../swav/model.ts";
import { EmbeddingQueue } from "../../swav/queue.ts";
import type { GradientSum, StepContext } from "../../swav/train_step.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { numbers } from "../kernels/run.ts";

export type Vector = Float32Array<ArrayBuffer>;

export const BATCH = 2, REPLICAS = 2, PROTOTYPES = 7, DIM = 6;
const SIZES = [16, 8];
export const ASSIGN_CROPS = [0, 1];

/** A trainer's whole state. */
export function makeTrainer(device: Device, { mixed = false } = {}) {
  const model = buildSwavModel(device, {
    trunk: { stemWidth: 8, widths: [8, 16], depths: [1, 1], groupWidth: 8 },
    headDims: [12, DIM],
    headBatchNorm: true,
    prototypes: PROTOTYPES,
    seed: 3,
  });
  const shape = { assignCrops: ASSIGN_CROPS.length, length: 2 * BATCH, dim: DIM };
  const queues = Array.from({ length: REPLICAS }, () => new EmbeddingQueue(device, shape));
  // Two clean steps double the scale, and the first steps overflow.
  const lossScale = mixed ? new LossScale({ start: 2 ** 127, growthSteps: 2, max: 2 ** 127 }) : undefined;
  return { device, model, optimizer: larc(), queues, lossScale };
}

export type Trainer = ReturnType<typeof makeTrainer>;

/** All bits that a trainer keeps, by name. */
export async function bitsOf({ model, optimizer, queues, lossScale }: Trainer): Promise<Map<string, number[]>> {
  const named: [string, Tensor][] = [
    ...[...model.parameters, ...model.buffers].map(({ name, tensor }): [string, Tensor] => [name, tensor]),
    ...optimizer.state(),
  ];
  const values = await readTensors(named.map(([, tensor]) => tensor));
  const all = new Map<string, Vector>(named.map(([name], index) => [name, values[index]]));
  for (const [replica, queue] of queues.entries()) {
    const { rings, written } = await queue.state();
    rings.forEach((ring, crop) => all.set(`queue ${replica} ${crop}`, ring));
    all.set(`queue ${replica} written`, Float32Array.of(written));
  }
  all.set("loss scale", lossScale?.state() ?? Float32Array.of());
  all.set("steps", Float32Array.of(optimizer.stepCount));
  return new Map(
    [...all].map(([name, array]) => [name, [...new Uint32Array(array.buffer, array.byteOffset, array.length)]]),
  );
}

/** Frees a trainer. */
export function freeTrainer({ model, optimizer, queues }: Trainer): void {
  optimizer.dispose();
  freeTensors([...model.parameters, ...model.buffers].map(({ tensor }) => tensor));
  freeTensors(queues.flatMap((queue) => queue.tensors()));
}

/** What the trainers of a world reach each other by in one step. */
export interface World {
  readonly collectives: readonly Collective[];
  readonly gradients: readonly Collective[];
  readonly assign: (replica: number, scores: ReplicaScores) => Promise<Vector>;
  readonly share: (pieces: ReadonlyMap<number, Vector>) => Promise<readonly Vector[]>;
}

/** A world whose members all live. */
export function makeWorld(): World {
  return {
    collectives: memoryGroup(REPLICAS),
    gradients: memoryGroup(REPLICAS),
    assign: gathering<ReplicaScores, Vector>((all) =>
      assignWorld(all, { crops: ASSIGN_CROPS.length, prototypes: PROTOTYPES, epsilon: 0.05, iterations: 3 }).codes
    ),
    share: sharing(),
  };
}

/** Calls of all replicas that wait for each other. */
function gathering<Given, Result>(solve: (all: readonly Given[]) => readonly Result[]) {
  const calls = new Map<number, { given: Given; result: PromiseWithResolvers<Result> }>();
  return (replica: number, given: Given): Promise<Result> => {
    const result = Promise.withResolvers<Result>();
    calls.set(replica, { given, result });
    if (calls.size === REPLICAS) {
      const all = [...calls].sort(([a], [b]) => a - b).map(([, call]) => call);
      const solved = solve(all.map((call) => call.given));
      all.forEach((call, index) => call.result.resolve(solved[index]));
    }
    return result.promise;
  };
}

function sharing(): World["share"] {
  const all: Vector[] = [];
  const complete = Promise.withResolvers<readonly Vector[]>();
  return (pieces) => {
    for (const [replica, piece] of pieces) all[replica] = piece;
    if (Object.keys(all).length === REPLICAS) complete.resolve(all);
    return complete.promise;
  };
}

/** A step's context; the trainer carries `replicas`. */
export function contextOf(
  { model, optimizer, queues, lossScale }: Trainer,
  { step, world, onSums }: { step: number; world: World; onSums?: (sums: ReadonlyMap<string, Vector>) => void },
): StepContext {
  return {
    step,
    model,
    optimizer,
    lossScale,
    learningRate: 0.3,
    batch: BATCH,
    replicas: REPLICAS,
    assignCrops: ASSIGN_CROPS,
    temperature: 0.1,
    frozenPrototypes: step === 0,
    collective: (replica) => world.collectives[replica],
    gradients: new MemoryGradients(model.device, { step, world: world.gradients, onSums }),
    assigner: { assign: ({ replica, ...scores }) => world.assign(replica, scores) },
    share: world.share,
    queueOf: (replica) => queues[replica],
  };
}

/** A replica's input of a step; queues are in use from step 1 on. */
export function inputOf({ device, queues }: Trainer, { step, replica }: { step: number; replica: number }) {
  const views = SIZES.map((size) =>
    tensorFrom(device, numbers(2 * BATCH * size * size * 3, 100 * step + 10 * replica + size), [
      2 * BATCH,
      size,
      size,
      3,
    ])
  );
  return { replica, views, queue: step > 0 ? queues[replica] : undefined };
}

/** Sums over replicas that may live on several trainers. */
class MemoryGradients implements GradientSum {
  readonly #sums: Promise<readonly [Parameter, Vector]>[] = [];
  readonly #device: Device;
  readonly #options: { step: number; world: readonly Collective[]; onSums?(sums: ReadonlyMap<string, Vector>): void };

  constructor(
    device: Device,
    options: { step: number; world: readonly Collective[]; onSums?(sums: ReadonlyMap<string, Vector>): void },
  ) {
    this.#device = device;
    this.#options = options;
  }

  add(replica: number, parameter: Parameter, gradient: Tensor): void {
    const { step, world } = this.#options;
    const sum = readTensors([gradient]).then(async ([values]) =>
      [parameter, await world[replica].allReduce(`${step} ${parameter.name}`, values.slice())] as const
    );
    sum.catch(() => {});
    this.#sums.push(sum);
  }

  async finish(): Promise<ReadonlyMap<string, Tensor>> {
    const sums = new Map(
      (await Promise.all(this.#sums)).map(([parameter, sum]) => [parameter.name, { parameter, sum }]),
    );
    this.#options.onSums?.(new Map([...sums].map(([name, { sum }]) => [name, sum])));
    return new Map(
      [...sums].map(([name, { parameter, sum }]) => [name, tensorFrom(this.#device, sum, parameter.tensor.shape)]),
    );
  }
}
