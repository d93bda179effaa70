/**
 * Every option of a training run as one zod schema: names, types, ranges, defaults and the sentence that the reference
 * page prints. Rules that join several options are in `checks.ts`. This file knows nothing of files, of command lines,
 * or of what the options make happen.
 */
import { z } from "zod";

const positiveInteger = z.int().positive();
const wholeNumber = z.int().nonnegative();
const positive = z.number().positive();
const notNegative = z.number().nonnegative();
const fraction = z.number().min(0).max(1);
const range = z.tuple([z.number().positive(), z.number().positive()]);
const three = z.tuple([z.number(), z.number(), z.number()]);

const model = z.strictObject({
  name: z.string().optional().describe(
    "A published network instead of explicit stages: `regnety_200mf` … `regnety_256gf`, `regnety_10b`, `regnetx_400mf` … " +
      "`regnetx_32gf`, `resnet_50`, `resnet_101`, `resnet_152`, `resnext_101_32x8d`, `vit_s_16`, `vit_b_16`",
  ),
  rule: z.enum(["seer", "torchvision"]).default("seer").describe(
    "Width rule of a named model; the libraries differ on RegNetY-800MF and -8GF, and RegNetX-400MF",
  ),
  family: z.enum(["regnet", "resnet", "vit"]).optional().describe("What explicit stages are of; `regnet` where absent"),
  stemWidth: positiveInteger.optional().describe(
    "Channels after the stem; with `widths`, `depths` and, for RegNets, `groupWidth`",
  ),
  widths: z.array(positiveInteger).min(1).optional().describe(
    "Channels of each stage; of a vision transformer one, a token's",
  ),
  depths: z.array(positiveInteger).min(1).optional().describe(
    "Blocks of each stage; of a vision transformer one number",
  ),
  groupWidth: positiveInteger.optional().describe(
    "Channels per group of the 3x3 convolutions; divides every width (RegNets)",
  ),
  groups: positiveInteger.optional().describe("Groups of the 3x3 convolutions of a ResNet; 1 where absent"),
  bottleneck: positiveInteger.optional().describe(
    "Output channels of a ResNet's block over those of its 3x3 convolution; 4 where absent",
  ),
  patch: positiveInteger.optional().describe("Side of a vision transformer's patches in pixels"),
  heads: positiveInteger.optional().describe("Heads of a vision transformer's attention; they divide its width"),
  mlpRatio: positive.optional().describe(
    "Hidden width of a vision transformer's linear layers over that of a token; 4 where absent",
  ),
  imageSize: positiveInteger.optional().describe(
    "Side of the images that a vision transformer has a position a patch for; other sizes resample them; 224 where absent",
  ),
  seRatio: fraction.default(0.25).describe(
    "Squeeze-and-excitation width over the block's input width; 0 leaves it out",
  ),
}).prefault({ stemWidth: 16, widths: [32, 64, 128], depths: [1, 1, 1], groupWidth: 8 });

const head = z.strictObject({
  dims: z.array(positiveInteger).min(1).default([256, 64]).describe(
    "Hidden and output widths of the projection head; its input is the trunk's width",
  ),
  batchNorm: z.boolean().default(true).describe("BatchNorm after each hidden layer (SwAV: yes; SEER: no)"),
  lastBatchNorm: z.boolean().default(false).describe("BatchNorm after the last layer too (SimCLR: yes)"),
}).prefault({});

const method = z.strictObject({
  name: z.enum(["swav", "simclr", "supervised", "hashtag"]).default("swav").describe(
    "What the network learns from: `swav`, codes of other crops; `simclr`, the other crop of an image against all images; " +
      "`supervised`, the class of each image; `hashtag`, its tags",
  ),
  classes: z.int().min(2).optional().describe(
    "Classes or tags of `supervised` and `hashtag`; left out, they are counted in the images when a run is started",
  ),
  images: z.enum(["train", "all"]).default("train").describe(
    "Which labelled images `supervised` and `hashtag` learn from: the training part as `evaluate` splits them, or all",
  ),
  targets: z.enum(["sampled", "shared"]).default("sampled").describe(
    "What `hashtag` aims at: one of an image's tags, drawn anew in each step, or all of them in equal shares",
  ),
}).prefault({});

const prototypes = z.strictObject({
  count: z.int().min(2).default(100).describe("Number of prototypes K"),
  frozenSteps: wholeNumber.default(0).describe("Steps at the start in which the prototypes do not learn"),
}).prefault({});

const crop = z.strictObject({
  size: positiveInteger.describe("Side of the crop in pixels"),
  count: positiveInteger.describe("Crops of this size per image"),
  scale: range.describe("Smallest and largest share of the image's area"),
});

const augmentation = z.strictObject({
  ratio: range.default([3 / 4, 4 / 3]).describe("Smallest and largest aspect ratio of a crop, width over height"),
  flip: fraction.default(0.5).describe("Probability of a horizontal flip"),
  jitterProbability: fraction.default(0.8).describe("Probability of colour jitter"),
  brightness: fraction.default(0.8).describe("Brightness factor is drawn from 1 ± this"),
  contrast: fraction.default(0.8).describe("Contrast factor is drawn from 1 ± this"),
  saturation: fraction.default(0.8).describe("Saturation factor is drawn from 1 ± this"),
  hue: z.number().min(0).max(0.5).default(0.2).describe("Hue shift is drawn from ± this, in turns"),
  grayscaleProbability: fraction.default(0.2).describe("Probability of turning a crop gray"),
  blurProbability: fraction.default(0.5).describe("Probability of a Gaussian blur"),
  blurSigma: range.default([0.1, 2]).describe("Smallest and largest standard deviation of the blur, in pixels"),
  mean: three.default([0.485, 0.456, 0.406]).describe("Mean taken from each of R, G, B in [0, 1]"),
  std: z.tuple([positive, positive, positive]).default([0.229, 0.224, 0.225]).describe(
    "Standard deviation that divides each of R, G, B",
  ),
}).prefault({});

const loss = z.strictObject({
  temperature: positive.default(0.1).describe("Temperature τ of the prediction's softmax (SwAV, SimCLR)"),
}).prefault({});

const sinkhorn = z.strictObject({
  epsilon: positive.default(0.05).describe("Entropy weight ε of the assignment; smaller is sharper"),
  iterations: positiveInteger.default(3).describe("Row-then-column normalisations"),
  hardIterations: wholeNumber.default(0).describe("Steps at the start whose assignments are rounded to one prototype"),
}).prefault({});

const queue = z.strictObject({
  length: wholeNumber.default(0).describe("Embeddings kept over all replicas to fill small batches; 0 turns it off"),
  startStep: wholeNumber.default(0).describe("First step that uses the queue"),
}).prefault({});

const optimizer = z.strictObject({
  name: z.enum(["larc", "sgd", "adamw"]).default("adamw").describe("Update rule; SEER's is `larc`"),
  momentum: z.number().min(0).lt(1).default(0.9).describe("Momentum of `larc` and `sgd`"),
  weightDecay: notNegative.default(1e-5).describe("Weight decay; decoupled for `adamw`"),
  trustCoefficient: positive.default(0.001).describe("Trust coefficient of `larc`"),
  epsilon: positive.default(1e-8).describe("Term that keeps the denominators of `larc` and `adamw` from zero"),
  beta1: z.number().min(0).lt(1).default(0.9).describe("Decay of the first moment of `adamw`"),
  beta2: z.number().min(0).lt(1).default(0.999).describe("Decay of the second moment of `adamw`"),
  excludeBiasAndNorm: z.boolean().default(false).describe(
    "Leave biases and BatchNorm out of weight decay and LARC (SEER: no)",
  ),
}).prefault({});

const schedule = z.strictObject({
  name: z.enum(["cosine", "constant", "plateau"]).default("cosine").describe(
    "Course of the learning rate after warm-up",
  ),
  learningRate: positive.default(0.002).describe("Peak learning rate, absolute (not per 256 images)"),
  warmupSteps: wholeNumber.default(0).describe("Steps of linear warm-up"),
  warmupStart: notNegative.default(0).describe("Learning rate at step 0 when there is a warm-up"),
  endFactor: fraction.default(0.001).describe("Last learning rate of `cosine` over the peak"),
  plateau: z.strictObject({
    window: positiveInteger.default(500).describe("Steps averaged before the loss is compared"),
    patience: positiveInteger.default(3).describe("Windows without improvement before the learning rate halves"),
    threshold: notNegative.default(0.001).describe("Relative decrease of the loss that counts as improvement"),
  }).prefault({}),
}).prefault({});

const data = z.strictObject({
  folder: z.string().default("").describe(
    "Folder of images, searched with its sub-folders; empty: the quickstart's images; with labels for `supervised` and " +
      "`hashtag`, in any form that `evaluate --data` takes",
  ),
  sideMax: positiveInteger.default(1024).describe("Images are shrunk to this longest side when decoded, in pixels"),
  cacheBytes: wholeNumber.default(512 * 2 ** 20).describe("Memory for decoded images in each data loader"),
}).prefault({});

const adapter = z.strictObject({
  provider: z.enum(["deno", "dawn"]).optional().describe("WebGPU implementation"),
  name: z.string().optional().describe("Part of the adapter's name"),
  environment: z.record(z.string(), z.string()).optional().describe("Environment variables that select the device"),
});

const tls = z.strictObject({
  certificate: z.string().default("").describe(
    "PEM file with this machine's certificate chain; needed when `cluster.listen` is not loopback",
  ),
  key: z.string().default("").describe("PEM file with the certificate's private key"),
  authority: z.string().default("").describe(
    "PEM file with the authority that signed the certificates of all machines",
  ),
}).prefault({});

const cluster = z.strictObject({
  trainers: positiveInteger.default(1).describe("Trainer processes; the replicas are shared out among them"),
  syncShards: positiveInteger.default(1).describe("Parameter sync actors, each owning a slice of the gradient"),
  sliceBytes: z.int().min(4096).default(1 << 20).describe("Bytes of gradient per message"),
  listen: z.string().min(1).default("127.0.0.1").describe("Address the controller listens on"),
  tls,
  port: z.int().min(0).max(65535).default(0).describe("Port the controller listens on; 0 takes a free one"),
  stepTimeoutMs: positiveInteger.default(120_000).describe("A step that takes longer stops the run"),
  startTimeoutMs: positiveInteger.default(120_000).describe("An actor that takes longer to start stops the run"),
  restarts: wholeNumber.default(5).describe(
    "Restarts from the newest checkpoint, in a row without a new step, before the run gives up; 0 stops at the first loss",
  ),
  gpu: z.enum(["auto", "deno", "dawn"]).default("auto").describe(
    "WebGPU implementation; `auto`: Dawn on a GPU, Deno's own on a software adapter",
  ),
  tune: z.enum(["auto", "on", "off"]).default("auto").describe(
    "`on`: time kernels never timed here; `off`: stated defaults; `auto`: `on` on a GPU only",
  ),
  adapters: z.array(adapter).default([]).describe("Adapter of each trainer in turn; empty: what `gpu` finds"),
}).prefault({});

const checkpoint = z.strictObject({
  everySteps: wholeNumber.default(100).describe("Steps between checkpoints; 0 writes only the last one"),
  keep: positiveInteger.default(3).describe("Checkpoints kept, counted from the newest"),
}).prefault({});

const probe = z.strictObject({
  protocols: z.array(z.enum(["knn", "linear"])).default([]).describe(
    "How snapshots are judged while training goes on: `knn`, `linear` or both; empty: not at all",
  ),
  everySteps: positiveInteger.default(100).describe(
    "Steps between snapshots that are judged, each written as a checkpoint; the last one is judged too",
  ),
  data: z.string().default("").describe("Labelled images, as `evaluate --data` takes them; empty: `data.folder`"),
  adapter: adapter.optional().describe(
    "GPU of the evaluator; not given: the first of `cluster.adapters`, else what `cluster.gpu` finds",
  ),
  timeoutMs: positiveInteger.default(600_000).describe(
    "A snapshot that takes longer is given up, and no more are judged; training goes on",
  ),
}).prefault({});

const run = z.strictObject({
  folder: z.string().min(1).default("runs").describe("Folder that holds the runs"),
  name: z.string().default("").describe("Name of the run's own folder; empty: made from the preset and the time"),
}).prefault({});

const checkpointing = z.strictObject({
  mode: z.enum(["none", "auto", "listed"]).default("none").describe(
    "Which activations are computed again in the backward pass, with the same bits: none, the cheapest that save most or " +
      "meet `memoryBudgetBytes`, or `segments`",
  ),
  segments: z.array(z.string().regex(/^\d+(-\d+)?$/)).default([]).describe(
    "Units run again together, e.g. `0-1,2,3-5`; the stem is unit 0, blocks count from 1",
  ),
  memoryBudgetBytes: positive.optional().describe("Device memory that a trainer may take; with `auto`"),
}).prefault({});

/** The schema of a whole training configuration, before the rules of `checks.ts`. */
export const trainConfigSchema = z.strictObject({
  seed: z.int().min(0).max(0xffffffff).default(0).describe("Seed of weights, sample order and augmentation"),
  method,
  model,
  head,
  prototypes,
  crops: z.array(crop).min(1).default([
    { size: 48, count: 2, scale: [0.14, 1] },
    { size: 24, count: 2, scale: [0.05, 0.14] },
  ]).describe("Crops taken of each image, in order"),
  assignCrops: z.array(wholeNumber).min(1).default([0, 1]).describe("Crops whose assignments the other crops predict"),
  augmentation,
  loss,
  sinkhorn,
  queue,
  optimizer,
  schedule,
  replicas: positiveInteger.default(4).describe("Logical replicas; part of the mathematics, unlike `cluster.trainers`"),
  batchPerReplica: positiveInteger.default(16).describe("Images of each replica in each step"),
  precision: z.enum(["f32", "mixed"]).default("f32").describe(
    "How activations are stored: `f32`, or `mixed` for half precision with f32 sums and a dynamic loss scale",
  ),
  checkpointing,
  syncBatchNormGroup: positiveInteger.default(1).describe(
    "Replicas that share BatchNorm statistics; divides `replicas`",
  ),
  steps: positiveInteger.optional().describe("Steps of the run; instead of `epochs`"),
  epochs: positive.optional().describe("Passes over the images; instead of `steps`"),
  data,
  cluster,
  checkpoint,
  probe,
  run,
});

/** Arrays and tuples map to readonly ones, since the mapped type is homomorphic. */
type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** A checked, complete and frozen training configuration; docs/config.md lists the keys. */
export type TrainConfig = DeepReadonly<z.output<typeof trainConfigSchema>>;

/** What a user writes: every key optional except inside a crop. */
export type TrainConfigInput = DeepReadonly<z.input<typeof trainConfigSchema>>;
