/**
 * The recipes that ship with SEER. A preset is a partial configuration: what it leaves out keeps the schema's default.
 * Sources of the SEER values: arXiv 2103.01988, and the configuration files of VISSL that it was run with
 * (`configs/config/pretrain/swav`).
 */
import { ConfigError } from "./error.ts";
import { nearest } from "./nearest.ts";
import type { TrainConfigInput } from "./schema.ts";

/**
 * Small enough for two CPU cores and a few minutes, on the emoji images that `quickstart` renders. They are 64 px wide and
 * mostly white, so crops are larger than SEER's, blur and colour changes milder, the assignment sharper: with SEER's own
 * values the loss stays at ln K here.
 */
const quickstart: TrainConfigInput = {
  model: { stemWidth: 16, widths: [32, 64, 128], depths: [1, 1, 1], groupWidth: 8 },
  head: { dims: [256, 64], batchNorm: true },
  prototypes: { count: 100, frozenSteps: 0 },
  crops: [
    { size: 48, count: 2, scale: [0.35, 1] },
    { size: 24, count: 2, scale: [0.12, 0.45] },
  ],
  assignCrops: [0, 1],
  augmentation: { hue: 0.15, grayscaleProbability: 0.15, blurProbability: 0.3, blurSigma: [0.1, 0.5] },
  loss: { temperature: 0.1 },
  sinkhorn: { epsilon: 0.02, iterations: 3 },
  optimizer: { name: "adamw", weightDecay: 1e-5 },
  schedule: { name: "cosine", learningRate: 0.003, endFactor: 0.001 },
  replicas: 4,
  batchPerReplica: 16,
  syncBatchNormGroup: 1,
  steps: 200,
  data: { sideMax: 64 },
  cluster: { trainers: 2, syncShards: 1 },
  checkpoint: { everySteps: 50, keep: 2 },
  run: { name: "quickstart" },
};

/** What both published SEER runs have in common. */
const seer: TrainConfigInput = {
  head: { dims: [8192, 8192, 256], batchNorm: false },
  prototypes: { count: 16_000, frozenSteps: 313 },
  crops: [
    { size: 224, count: 2, scale: [0.14, 1] },
    { size: 96, count: 4, scale: [0.05, 0.14] },
  ],
  assignCrops: [0, 1],
  loss: { temperature: 0.1 },
  sinkhorn: { epsilon: 0.05, iterations: 10 },
  optimizer: {
    name: "larc",
    momentum: 0.9,
    weightDecay: 1e-5,
    trustCoefficient: 0.001,
    epsilon: 1e-8,
    excludeBiasAndNorm: false,
  },
  syncBatchNormGroup: 64,
  checkpoint: { everySteps: 1000, keep: 3 },
};

/**
 * RegNetY-128GF, batch 4,096 as 128 x 32, constant learning rate 0.3 · 4096 / 256 = 4.8, warmed up over 8,000 steps. One
 * pass over a billion images.
 */
const seer128: TrainConfigInput = {
  ...seer,
  model: { name: "regnety_128gf" },
  // One node of 8 x 32 images gives 0.3 · 256 / 256.
  schedule: { name: "constant", learningRate: 4.8, warmupSteps: 8000, warmupStart: 0.3 },
  replicas: 128,
  batchPerReplica: 32,
  steps: 244_140,
  cluster: { trainers: 128, syncShards: 16, stepTimeoutMs: 600_000 },
  run: { name: "seer-128gf" },
};

/** RegNetY-256GF (widths 746 … 10,444), batch 8,192 as 512 x 16, cosine from 9.6 to 0.0096 over a billion images. */
const seer256: TrainConfigInput = {
  ...seer,
  model: { name: "regnety_256gf" },
  schedule: { name: "cosine", learningRate: 9.6, warmupSteps: 8000, warmupStart: 0.15, endFactor: 0.001 },
  replicas: 512,
  batchPerReplica: 16,
  steps: 122_070,
  cluster: { trainers: 512, syncShards: 64, stepTimeoutMs: 600_000 },
  run: { name: "seer-256gf" },
};

/** For tests: two stages, 16-pixel crops, a few seconds on a software adapter. */
const testTiny: TrainConfigInput = {
  model: { stemWidth: 8, widths: [16, 24], depths: [1, 1], groupWidth: 8 },
  head: { dims: [32, 16], batchNorm: false },
  prototypes: { count: 12, frozenSteps: 1 },
  crops: [
    { size: 16, count: 2, scale: [0.14, 1] },
    { size: 8, count: 2, scale: [0.05, 0.14] },
  ],
  optimizer: { name: "larc", weightDecay: 1e-5 },
  schedule: { name: "cosine", learningRate: 0.5, warmupSteps: 2, warmupStart: 0.1 },
  replicas: 4,
  batchPerReplica: 3,
  syncBatchNormGroup: 2,
  steps: 6,
  data: { sideMax: 32, cacheBytes: 4 * 2 ** 20 },
  cluster: { trainers: 1, sliceBytes: 4096, stepTimeoutMs: 60_000 },
  checkpoint: { everySteps: 2, keep: 2 },
  run: { name: "test-tiny" },
};

/** All presets by name. */
export const presets: Readonly<Record<string, TrainConfigInput>> = {
  quickstart,
  "seer-128gf": seer128,
  "seer-256gf": seer256,
  "test-tiny": testTiny,
};

/**
 * The preset of this name.
 *
 * @throws ConfigError naming the nearest preset
 */
export function findPreset(name: string): TrainConfigInput {
  if (Object.hasOwn(presets, name)) return presets[name];
  const names = Object.keys(presets);
  throw new ConfigError(
    "",
    `cannot use preset "${name}": there is none of that name; did you mean "${nearest(name, names)}"? Known: ${
      names.join(", ")
    }`,
  );
}
