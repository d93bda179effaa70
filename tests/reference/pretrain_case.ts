/** What case 6 of generate.py says: the run's configuration, its first weights, and the crops of each step. */
import { parseConfig, type TrainConfig } from "../../config.ts";
import type { Device } from "../../device/device.ts";
import type { StateDict } from "../../nn/state_dict.ts";
import { type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { channelsLast, type ReferenceArrays } from "./arrays.ts";

/** The generator's schedule; its learning rates are in the file, these four numbers are not. */
const schedule = { warmupStart: 0.3, learningRate: 1.2, warmupSteps: 4, endFactor: 0.001 } as const;

/** Steps in the file. */
export function stepsOf(reference: ReferenceArrays): number {
  return reference.setting<number[]>("losses").length;
}

/** The configuration, with the images shared out among `trainers` replicas on as many trainers. */
export function pretrainConfig(
  reference: ReferenceArrays,
  { trainers, runFolder }: { trainers: number; runFolder: string },
): TrainConfig {
  const [largeCount, largeSize] = reference.setting<number[]>("large_crops");
  const [smallCount, smallSize] = reference.setting<number[]>("small_crops");
  return parseConfig({
    model: {
      stemWidth: reference.setting("stem_width"),
      widths: reference.setting("widths"),
      depths: reference.setting("depths"),
      groupWidth: reference.setting("group_width"),
      seRatio: reference.setting("se_ratio"),
    },
    head: { dims: reference.setting<number[]>("head").slice(1), batchNorm: false },
    prototypes: { count: reference.setting("prototypes"), frozenSteps: reference.setting("frozen_prototype_steps") },
    crops: [
      { size: largeSize, count: largeCount, scale: [0.14, 1] },
      { size: smallSize, count: smallCount, scale: [0.05, 0.14] },
    ],
    assignCrops: [0, 1],
    loss: { temperature: reference.setting("temperature") },
    sinkhorn: { epsilon: reference.setting("epsilon"), iterations: reference.setting("iterations") },
    optimizer: {
      name: "larc",
      momentum: reference.setting("momentum"),
      weightDecay: reference.setting("weight_decay"),
      trustCoefficient: 0.001,
      epsilon: 1e-8,
      excludeBiasAndNorm: false,
    },
    schedule: { name: "cosine", ...schedule },
    replicas: trainers,
    batchPerReplica: reference.setting<number>("batch") / trainers,
    syncBatchNormGroup: trainers,
    steps: stepsOf(reference),
    // Two shards and small slices, so that the gradient crosses as many messages as possible.
    cluster: { trainers, syncShards: 2, sliceBytes: 4096 },
    checkpoint: { everySteps: 0, keep: 2 },
    run: { folder: runFolder === "" ? "unused" : runFolder, name: "reference" },
  }, { source: "the reference case" });
}

/** The first weights and running statistics by name, in torchvision's layouts. */
export function initialState(reference: ReferenceArrays): StateDict {
  return new Map(
    reference.namesUnder("initial.").map((name) => [
      name,
      { shape: reference.shape(`initial.${name}`), data: reference.numbers(`initial.${name}`) },
    ]),
  );
}

/** One replica's crops of a step, large ones first: `[crops · batch, size, size, 3]`, crop-major. */
export function cropsOf(
  reference: ReferenceArrays,
  device: Device,
  { step, replica, replicas }: { step: number; replica: number; replicas: number },
): Tensor[] {
  const images = reference.setting<number>("batch");
  const batch = images / replicas;
  const stored = reference.namesUnder("crops_large").length;
  return ["large", "small"].map((kind) => {
    const name = `crops_${kind}${step % stored}`;
    const [rows, channels, height, width] = reference.shape(name);
    const all = channelsLast(reference.numbers(name), [rows, channels, height, width]);
    const pixels = height * width * channels;
    const crops = rows / images;
    const own = new Float32Array(crops * batch * pixels);
    for (let crop = 0; crop < crops; crop++) {
      const first = (crop * images + replica * batch) * pixels;
      own.set(all.subarray(first, first + batch * pixels), crop * batch * pixels);
    }
    return tensorFrom(device, own, [crops * batch, height, width, channels]);
  });
}
