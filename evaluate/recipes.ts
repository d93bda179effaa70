/**
 * How classifiers on a trunk are trained, as numbers: the published settings of linear probes, fine-tuning and low-shot
 * fine-tuning by name. It trains nothing.
 */
import type { AugmentationOptions } from "../data/crops.ts";

/** Where a head takes its features from: the output of stage 1 … 4, or the pooled features behind the last. */
export type FeatureLayer = "stage1" | "stage2" | "stage3" | "stage4" | "pooled";

/** One linear classifier on frozen or trained features. */
export interface HeadRecipe {
  readonly layer: FeatureLayer;
  /** Cells to which a stage's output is average-pooled, rows × columns, before it is flattened. @default [1, 1] */
  readonly grid?: readonly [number, number];
  /** Batch normalisation over the channels before the linear layer (VISSL's `eval_mlp`). @default false */
  readonly batchNorm?: boolean;
}

/** How the learning rate falls: by a factor at the ends of epochs, or along half a cosine to 0. */
export type RateSchedule =
  | { readonly kind: "steps"; readonly epochs: readonly number[]; readonly factor: number }
  | { readonly kind: "cosine" };

/** Everything that training a classifier needs besides data and trunk. */
export interface ClassifierRecipe {
  readonly epochs: number;
  /** Images of a step. */
  readonly batch: number;
  /** Learning rates for a batch of 256; they grow with the batch. A trunk rate of 0 leaves the trunk as it is. */
  readonly learningRate: { readonly trunk: number; readonly head: number };
  readonly schedule: RateSchedule;
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  /** Whether weight decay also acts on batch normalisation. */
  readonly decayNorms: boolean;
  /** Random crops and their colours. */
  readonly crop: { readonly size: number; readonly scale: readonly [number, number] } & AugmentationOptions;
  /** The test's one crop: the shorter side is resized to `resize`, the middle `size` are taken. */
  readonly test: { readonly size: number; readonly resize: number };
  readonly heads: readonly HeadRecipe[];
  /** Leaves out the last step of an epoch when it is not full. */
  readonly dropLast: boolean;
  /** `softmax`: one class per image; `sigmoid`: any number, binary cross-entropy. */
  readonly loss: "softmax" | "sigmoid";
}

/** Random resized crop and flip, colours untouched. */
const PLAIN_CROP = {
  size: 224,
  scale: [0.08, 1],
  jitterProbability: 0,
  grayProbability: 0,
  blurProbability: 0,
} as const;
/** SwAV's augmentations for fine-tuning: colour distortion of strength 1 and blur. */
const SWAV_CROP = { size: 224, scale: [0.08, 1] } as const;
const CENTRE = { size: 224, resize: 256 } as const;
const POOLED: readonly HeadRecipe[] = [{ layer: "pooled" }];

/** The published recipes. */
export const RECIPES = {
  /** SEER's paper (arXiv 2103.01988, section 4.1 and appendix). */
  "finetune": {
    epochs: 35,
    batch: 256,
    learningRate: { trunk: 0.0125, head: 0.0125 },
    schedule: { kind: "steps", epochs: [30], factor: 0.1 },
    momentum: 0.9,
    nesterov: false,
    weightDecay: 1e-4,
    decayNorms: true,
    crop: SWAV_CROP,
    test: CENTRE,
    heads: POOLED,
    dropLast: false,
    loss: "softmax",
  },
  /** VISSL's `eval_resnet_8gpu_transfer_in1k_fulltune.yaml`. */
  "finetune-vissl": {
    epochs: 105,
    batch: 256,
    learningRate: { trunk: 0.1, head: 0.1 },
    schedule: { kind: "steps", epochs: [30, 60, 90, 100], factor: 0.1 },
    momentum: 0.9,
    nesterov: true,
    weightDecay: 0,
    decayNorms: false,
    crop: PLAIN_CROP,
    test: CENTRE,
    heads: POOLED,
    dropLast: false,
    loss: "softmax",
  },
  /** VISSL's `semi_supervised/imagenet1k`: 1% or 10% of the labels. */
  "low-shot": {
    epochs: 70,
    batch: 256,
    learningRate: { trunk: 0.05, head: 0.05 },
    schedule: { kind: "steps", epochs: [30], factor: 0.1 },
    momentum: 0.9,
    nesterov: true,
    weightDecay: 0,
    decayNorms: false,
    crop: PLAIN_CROP,
    test: CENTRE,
    heads: POOLED,
    dropLast: true,
    loss: "softmax",
  },
  /** SwAV's `eval_semisup.py` for 1% (10%: trunk 0.01, head 0.2). */
  "low-shot-swav": {
    epochs: 20,
    batch: 256,
    learningRate: { trunk: 0.02, head: 5 },
    schedule: { kind: "steps", epochs: [12, 16], factor: 0.2 },
    momentum: 0.9,
    nesterov: false,
    weightDecay: 0,
    decayNorms: false,
    crop: PLAIN_CROP,
    test: CENTRE,
    heads: POOLED,
    dropLast: false,
    loss: "softmax",
  },
  /** VISSL's `linear_image_classification/imagenet1k`, layers as its `regnet128Gf.yaml`. */
  "linear": {
    epochs: 28,
    batch: 256,
    learningRate: { trunk: 0, head: 0.01 },
    schedule: { kind: "steps", epochs: [8, 16, 24], factor: 0.1 },
    momentum: 0.9,
    nesterov: true,
    weightDecay: 5e-4,
    decayNorms: false,
    crop: PLAIN_CROP,
    test: CENTRE,
    heads: [
      { layer: "stage3", grid: [3, 1], batchNorm: true },
      { layer: "stage4", grid: [2, 1], batchNorm: true },
      { layer: "pooled", batchNorm: true },
    ],
    dropLast: false,
    loss: "softmax",
  },
  /** SwAV's `eval_linear.py`. */
  "linear-swav": {
    epochs: 100,
    batch: 256,
    learningRate: { trunk: 0, head: 0.3 },
    schedule: { kind: "cosine" },
    momentum: 0.9,
    nesterov: false,
    weightDecay: 1e-6,
    decayNorms: true,
    crop: PLAIN_CROP,
    test: CENTRE,
    heads: POOLED,
    dropLast: false,
    loss: "softmax",
  },
  /** VISSL's linear benchmark on OpenImages. */
  "multi-label": {
    epochs: 16,
    batch: 256,
    learningRate: { trunk: 0, head: 0.003 },
    schedule: { kind: "steps", epochs: [2, 4, 6], factor: 0.1 },
    momentum: 0.9,
    nesterov: true,
    weightDecay: 1e-4,
    decayNorms: true,
    crop: PLAIN_CROP,
    test: CENTRE,
    heads: [{ layer: "pooled", batchNorm: true }],
    dropLast: false,
    loss: "sigmoid",
  },
} as const satisfies Readonly<Record<string, ClassifierRecipe>>;

/** Name of a published recipe. */
export type RecipeName = keyof typeof RECIPES;

/** Factor of the learning rate in a step; `epoch` counts with fractions. */
export function rateFactor(schedule: RateSchedule, { epoch, epochs }: { epoch: number; epochs: number }): number {
  if (schedule.kind === "cosine") return 0.5 * (1 + Math.cos(Math.PI * epoch / epochs));
  return schedule.factor ** schedule.epochs.filter((boundary) => epoch >= boundary).length;
}

/** What a head is called in a table: `"stage4 2x1 + BN"`. */
export function headName({ layer, grid = [1, 1], batchNorm = false }: HeadRecipe): string {
  const cells = grid[0] * grid[1] === 1 ? "" : ` ${grid[0]}x${grid[1]}`;
  return `${layer}${cells}${batchNorm ? " + BN" : ""}`;
}
