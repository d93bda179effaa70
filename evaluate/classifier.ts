/**
 * Trains linear classifiers on a trunk, frozen or trained along, by a recipe, and asks them about the test images. The
 * same images, recipe and seed give the same bits on the same device. It knows no file format and no run.
 */
import { packImages } from "../data/batch.ts";
import { centreCropParameters, type CropParameters, cropParameters } from "../data/crops.ts";
import type { DecodedImage } from "../data/decode.ts";
import { randomStream } from "../data/random.ts";
import type { Device } from "../device/device.ts";
import type { Trunk } from "../nn/trunks.ts";
import type { Parameter } from "../nn/module.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import { sgd } from "../optim/sgd.ts";
import { augment, type Normalisation } from "../tensor/augment.ts";
import { sigmoidCrossEntropy } from "../tensor/ops/sigmoid_cross_entropy.ts";
import { softmaxCrossEntropy } from "../tensor/ops/softmax_cross_entropy.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../tensor/tensor.ts";
import { ClassifierHead, layersOf } from "./classifier_head.ts";
import type { ImageReader } from "./features.ts";
import { type ClassifierRecipe, headName, rateFactor } from "./recipes.ts";

/** Images with what they show. */
export interface MarkedImages {
  readonly ids: readonly number[];
  /** What image `id` is to each class: 1, 0 or −1 (left out). */
  marksOf(id: number): Int8Array;
}

/** Options of {@linkcode trainClassifier}. */
export interface ClassifierOptions {
  readonly device: Device;
  /** Stays the caller's; a trunk rate above 0 changes its weights and running statistics. */
  readonly trunk: Trunk;
  readonly images: ImageReader;
  readonly train: MarkedImages;
  readonly test: MarkedImages;
  readonly classes: number;
  readonly recipe: ClassifierRecipe;
  /** Of initial heads, order and crops. @default 0 */
  readonly seed?: number;
  readonly normalisation?: Normalisation;
  /** Told the mean loss of each epoch, by head. */
  readonly onEpoch?: (epoch: { readonly epoch: number; readonly epochs: number; readonly losses: number[] }) => void;
}

/** What a head says about the test images. */
export interface HeadScores {
  /** {@linkcode headName} of its recipe. */
  readonly name: string;
  /** Logits `[images, classes]`. */
  readonly scores: Float32Array<ArrayBuffer>;
}

/** Scores of every head. */
export interface ClassifierResult {
  /** The test images, unreadable ones left out. */
  readonly ids: readonly number[];
  readonly heads: readonly HeadScores[];
}

/** Some parameters that are updated alike. */
interface Group {
  readonly parameters: readonly Parameter[];
  readonly optimizer: Optimizer;
  /** Peak learning rate at the recipe's batch. */
  readonly rate: number;
}

function makeGroups(
  { recipe, trunk }: Pick<ClassifierOptions, "recipe" | "trunk">,
  heads: readonly ClassifierHead[],
): Group[] {
  const { learningRate, batch, momentum, nesterov, weightDecay, decayNorms } = recipe;
  const group = (parameters: Parameter[], { peak, decay }: { peak: number; decay: number }): Group[] => {
    if (parameters.length === 0) return [];
    const optimizer = sgd({ momentum, nesterov, weightDecay: decay });
    return [{ parameters, optimizer, rate: peak * batch / 256 }];
  };
  const split = (parameters: readonly Parameter[], peak: number) => {
    const norms = normsOf(parameters);
    return [
      ...group(parameters.filter((parameter) => !norms.has(parameter)), { peak, decay: weightDecay }),
      ...group([...norms], { peak, decay: decayNorms ? weightDecay : 0 }),
    ];
  };
  const trained = learningRate.trunk > 0 ? split(trunk.parameters(), learningRate.trunk) : [];
  return [...trained, ...split(heads.flatMap((head) => head.parameters()), learningRate.head)];
}

/** The parameters of batch normalisations: its weights, and the biases that share their prefix. */
function normsOf(parameters: readonly Parameter[]): Set<Parameter> {
  const prefix = ({ name }: Parameter) => name.slice(0, name.lastIndexOf("."));
  const norms = new Set(parameters.filter(({ kind }) => kind === "normalization").map(prefix));
  return new Set(parameters.filter((parameter) => norms.has(prefix(parameter))));
}

/** Images with their marks, ready for the device. */
interface Batch {
  readonly images: readonly DecodedImage[];
  readonly ids: readonly number[];
}

async function loadBatch(images: ImageReader, ids: readonly number[]): Promise<Batch> {
  const loaded = await Promise.all(ids.map((id) => images.read(id)));
  const readable = ids.flatMap((id, i) => {
    const image = loaded[i];
    return image === null ? [] : [{ id, image }];
  });
  return { images: readable.map(({ image }) => image), ids: readable.map(({ id }) => id) };
}

/** Crops of a batch on the device. */
function cropsOf(
  { device, normalisation }: Pick<ClassifierOptions, "device" | "normalisation">,
  { images }: Batch,
  { size, cropOf }: { size: number; cropOf: (image: DecodedImage, i: number) => CropParameters },
): Tensor {
  const packed = packImages(images);
  const buffer = device.upload(packed.images);
  const crops = images.map((image, i) => ({
    ...cropOf(image, i),
    imageOffset: packed.offsets[i],
    imageWidth: image.width,
  }));
  const pixels = augment(device, buffer, { crops, size, normalisation });
  device.free(buffer);
  return pixels;
}

/** One step: forward, backward, update. Resolves to each head's mean loss. */
async function trainStep(
  options: ClassifierOptions,
  { pixels, marks, heads, groups, factor }: {
    pixels: Tensor;
    marks: Tensor;
    heads: readonly ClassifierHead[];
    groups: readonly Group[];
    factor: number;
  },
): Promise<number[]> {
  const { device, trunk, recipe } = options;
  const trained = recipe.learningRate.trunk > 0;
  const below = new Tape(device, { gradients: trained });
  const tapes = [below];
  try {
    const pass = { training: trained, updateStatistics: trained, pass: "classifier" };
    const features = await layersOf(trunk, pixels, { tape: below, ...pass });
    const losses: Tensor[] = [], gradients = new Map<string, Tensor>();
    for (const head of heads) {
      // Heads on a frozen trunk go backward on their own, so that one may be large without the others' memory.
      const tape = trained ? below : new Tape(device, { gradients: true });
      if (!trained) tapes.push(tape);
      const logits = await head.forward(features, { tape, training: true, updateStatistics: true, pass: head.name });
      const loss = recipe.loss === "softmax"
        ? softmaxCrossEntropy(tape, { scores: logits, targets: marks })
        : sigmoidCrossEntropy(tape, { logits, marks });
      losses.push(loss);
      const found = await tape.backward(loss, { keep: [loss] });
      const owners = trained ? [...head.parameters(), ...trunk.parameters()] : head.parameters();
      for (const { name, tensor } of owners) {
        const gradient = found.get(tensor);
        if (gradient !== undefined) gradients.set(name, gradient);
      }
    }
    for (const { parameters, optimizer, rate } of groups) optimizer.step(parameters, gradients, rate * factor);
    return (await readTensors(losses)).map((rows) => rows.reduce((sum, value) => sum + value, 0));
  } finally {
    for (const tape of tapes) tape.dispose();
  }
}

function uploadMarks({ device, classes, train }: ClassifierOptions, ids: readonly number[]): Tensor {
  const marks = new Float32Array(ids.length * classes);
  ids.forEach((id, row) => marks.set(train.marksOf(id), row * classes));
  return tensorFrom(device, marks, [ids.length, classes]);
}

/**
 * Trains the recipe's heads (and the trunk, where it has a learning rate) and scores the test images.
 *
 * @throws RangeError when there is no image to learn from, several heads are to train one trunk, or the loss is not a
 * number
 */
export async function trainClassifier(options: ClassifierOptions): Promise<ClassifierResult> {
  const { device, trunk, images, train, classes, recipe, seed = 0, onEpoch } = options;
  const { epochs, batch, crop, dropLast, schedule, learningRate } = recipe;
  if (train.ids.length === 0) throw new RangeError("Cannot train a classifier: it needs training images, found none");
  if (learningRate.trunk > 0 && recipe.heads.length !== 1) {
    throw new RangeError(
      `Cannot train a classifier: a trunk that learns needs exactly one head, found ${recipe.heads.length}`,
    );
  }
  if (learningRate.trunk > 0 && recipe.heads[0].layer !== "pooled") {
    throw new RangeError("Cannot train a classifier: a trunk that learns needs a head on the pooled features");
  }
  const heads = recipe.heads.map((head) => new ClassifierHead({ device, seed, trunk, classes, head }));
  const groups = makeGroups(options, heads);
  const full = Math.floor(train.ids.length / batch), rest = train.ids.length % batch;
  const steps = dropLast && full > 0 ? full : full + (rest > 0 ? 1 : 0);
  try {
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = randomStream({ seed, purpose: "classifier order", indices: [epoch] }).permutation(train.ids.length);
      const idsOf = (step: number) => order.slice(step * batch, (step + 1) * batch).map((place) => train.ids[place]);
      const losses = heads.map(() => 0);
      let next = loadBatch(images, idsOf(0));
      for (let step = 0; step < steps; step++) {
        const loaded = await next;
        if (step + 1 < steps) next = loadBatch(images, idsOf(step + 1));
        if (loaded.ids.length === 0) continue;
        const at = epoch * steps + step;
        const pixels = cropsOf(options, loaded, {
          size: crop.size,
          cropOf: ({ width, height }, i) =>
            cropParameters({ seed, step: at, sample: loaded.ids[i], crop: 0, width, height }, crop, crop),
        });
        const marks = uploadMarks(options, loaded.ids);
        const factor = rateFactor(schedule, { epoch: epoch + step / steps, epochs });
        const found = await trainStep(options, { pixels, marks, heads, groups, factor });
        freeTensors([pixels, marks]);
        found.forEach((loss, h) => losses[h] += loss / steps);
      }
      const wrong = losses.findIndex((loss) => !Number.isFinite(loss));
      if (wrong >= 0) {
        throw new RangeError(
          `Cannot go on training: the loss of ${heads[wrong].name} is ${losses[wrong]} in epoch ${epoch + 1}; ` +
            "lower the learning rate",
        );
      }
      onEpoch?.({ epoch: epoch + 1, epochs, losses });
    }
    return await scoreTest(options, heads);
  } finally {
    for (const { optimizer } of groups) optimizer.dispose();
    for (const head of heads) head.dispose();
  }
}

async function scoreTest(options: ClassifierOptions, heads: readonly ClassifierHead[]): Promise<ClassifierResult> {
  const { device, trunk, images, test, classes, recipe } = options;
  const ids: number[] = [];
  const parts: Float32Array<ArrayBuffer>[][] = heads.map(() => []);
  for (let first = 0; first < test.ids.length; first += recipe.batch) {
    const loaded = await loadBatch(images, test.ids.slice(first, first + recipe.batch));
    if (loaded.ids.length === 0) continue;
    const cropOf = (image: DecodedImage) => centreCropParameters(image, recipe.test);
    const pixels = cropsOf(options, loaded, { size: recipe.test.size, cropOf });
    const tape = new Tape(device, { gradients: false });
    try {
      const pass = { tape, training: false, updateStatistics: false, pass: "classifier test" };
      const features = await layersOf(trunk, pixels, pass);
      const logits: Tensor[] = [];
      for (const head of heads) logits.push(await head.forward(features, pass));
      (await readTensors(logits)).forEach((scores, h) => parts[h].push(scores.slice()));
    } finally {
      tape.dispose();
      freeTensors([pixels]);
    }
    ids.push(...loaded.ids);
  }
  if (ids.length === 0) throw new RangeError("Cannot test a classifier: not one test image could be read");
  return {
    ids,
    heads: recipe.heads.map((head, h) => {
      const scores = new Float32Array(ids.length * classes);
      parts[h].reduce((at, part) => (scores.set(part, at), at + part.length), 0);
      return { name: headName(head), scores };
    }),
  };
}
