/**
 * Every way to judge a trunk, by name: what each learns, and the table of what it found. A protocol's settings are the
 * published ones and may be overridden. It knows no file of weights and no command line.
 */
import type { Device } from "../device/device.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import type { Trunk } from "../nn/trunks.ts";
import type { Normalisation } from "../tensor/augment.ts";
import { averagePrecision, meanAveragePrecision } from "./average_precision.ts";
import { type ClassificationResult, classificationResult, scoreRanks } from "./classification.ts";
import { trainClassifier } from "./classifier.ts";
import { deviceSimilarity, nearestOn } from "./device_similarity.ts";
import { type Embed, type Extracted, extractFeatures, type ExtractOptions, type ImageReader } from "./features.ts";
import { knnRanks } from "./knn.ts";
import type { Labelled } from "./knn.ts";
import type { Protocol } from "./protocol.ts";
import { type ClassifierRecipe, type RecipeName, RECIPES } from "./recipes.ts";
import { classRetrieval } from "./retrieval.ts";
import { lowShotSvm, type Marked, marksOf, svmEvaluation } from "./svm_protocol.ts";

/** Names of the protocols. */
export const PROTOCOL_NAMES = ["knn", "retrieval", "svm", "low-shot-svm", ...Object.keys(RECIPES)] as const;

/** Settings that replace published ones; what a protocol does not know is refused before this. */
export interface ProtocolSettings {
  readonly epochs?: number;
  readonly batch?: number;
  /** Learning rates for a batch of 256. */
  readonly trunkRate?: number;
  readonly headRate?: number;
  readonly weightDecay?: number;
  /** Side in pixels of the square that the trunk sees; the test resizes the shorter side to 8/7 of it first. */
  readonly size?: number;
  readonly seed?: number;
  readonly neighbours?: readonly number[];
  readonly temperatures?: readonly number[];
  readonly shots?: readonly number[];
  readonly draws?: number;
  readonly costs?: readonly number[];
}

/** What a protocol is run on. */
export interface ProtocolRun {
  readonly device: Device;
  readonly trunk: Trunk;
  /** Features for protocols that do not train the network. @default the trunk's */
  readonly embed: Embed;
  readonly images: ImageReader;
  readonly protocol: Protocol;
  /** Training images, where not all of the protocol's are to be used. */
  readonly trainIds?: readonly number[];
  readonly settings?: ProtocolSettings;
  readonly normalisation?: Normalisation;
  /** Extracts features for protocols that do not train the network. @default on `device`, {@linkcode extractFeatures} */
  readonly extract?: (options: ExtractOptions) => Promise<Extracted>;
  readonly progress?: (what: string, done: number, total: number) => void;
}

/** One line of a result: a name and figures, shares from 0 to 1. */
export interface ProtocolRow {
  readonly name: string;
  readonly figures: Readonly<Record<string, number>>;
  /** By class, where the protocol has it. */
  readonly perClass?: readonly (number | undefined)[];
  /** 95% confidence interval of the first figure. */
  readonly interval?: readonly [number, number];
}

/** What a protocol found. */
export interface ProtocolResult {
  readonly protocol: string;
  /** Every setting that was used. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly classes: readonly string[];
  readonly train: { readonly name: string; readonly images: number };
  readonly test: { readonly name: string; readonly images: number };
  readonly rows: readonly ProtocolRow[];
  /** Names of images that could not be read. */
  readonly unreadable: readonly string[];
}

type Found = Pick<ProtocolResult, "settings" | "rows"> & { readonly trained: number; readonly tested: number };

/**
 * Runs a protocol.
 *
 * @throws RangeError when there is no such protocol, or the images do not suit it
 */
export async function runProtocol(name: string, run: ProtocolRun): Promise<ProtocolResult> {
  const { protocol, images } = run;
  const found = await findByName(name, run);
  return {
    protocol: name,
    settings: found.settings,
    classes: protocol.classes,
    train: { name: protocol.train.name, images: found.trained },
    test: { name: protocol.test.name, images: found.tested },
    rows: found.rows,
    unreadable: [...images.unreadable.keys()].map((id) => images.source.name(id)).sort(),
  };
}

function isRecipe(name: string): name is RecipeName {
  return Object.hasOwn(RECIPES, name);
}

async function findByName(name: string, run: ProtocolRun): Promise<Found> {
  requireLabelling(name, run.protocol);
  if (isRecipe(name)) return await classify(name, run);
  const sets = await extractSets(run);
  const counts = { trained: sets.train.ids.length, tested: sets.test.ids.length };
  switch (name) {
    case "knn":
      return { ...counts, ...await knn(sets, run) };
    case "retrieval":
      return { ...counts, ...await retrieve(sets, run) };
    case "svm":
      return { ...counts, ...svm(sets, run) };
    case "low-shot-svm":
      return { ...counts, ...fewShots(sets, run) };
  }
  throw new RangeError(`Cannot evaluate by "${name}": known protocols are ${PROTOCOL_NAMES.join(", ")}`);
}

/** @throws RangeError when images of several classes are given to a protocol for one class each */
export function requireLabelling(name: string, { labelling = "single" }: Pick<Protocol, "labelling">): void {
  const multi = ["svm", "low-shot-svm", "multi-label"];
  if (labelling === "multi" && PROTOCOL_NAMES.includes(name as RecipeName) && !multi.includes(name)) {
    throw new RangeError(
      `Cannot evaluate by ${name}: it needs one class per image, these may show several; use ${multi.join(" or ")}`,
    );
  }
}

interface Sets {
  readonly train: Extracted;
  readonly test: Extracted;
}

async function extractSets(run: ProtocolRun): Promise<Sets> {
  const { protocol, settings = {}, trainIds = protocol.train.ids, progress } = run;
  const total = trainIds.length + protocol.test.ids.length;
  const part = (ids: readonly number[], before: number) =>
    (run.extract ?? extractFeatures)({
      ...run,
      ids,
      size: settings.size ?? 224,
      view: protocol.kind === "sets" && protocol.pairs.size > 0 ? "whole" : "centre",
      progress: (done) => progress?.("features", before + done, total),
    });
  return { train: await part(trainIds, 0), test: await part(protocol.test.ids, trainIds.length) };
}

function labelled({ features, ids }: Extracted, protocol: Protocol): Labelled {
  return { features, labels: Uint32Array.from(ids, (id) => protocol.labelOf(id)) };
}

/** What an image is to each class. */
export function marksOfImage(protocol: Protocol, id: number): Int8Array<ArrayBuffer> {
  return protocol.marksOf?.(id) ?? marksOf([protocol.labelOf(id)], protocol.classes.length);
}

function marked({ features, ids }: Extracted, protocol: Protocol): Marked {
  const classes = protocol.classes.length;
  const marks = new Int8Array(ids.length * classes);
  ids.forEach((id, row) => marks.set(marksOfImage(protocol, id), row * classes));
  return { features, marks, classes };
}

function classificationRow(name: string, result: ClassificationResult): ProtocolRow {
  const { top1, top5, meanPerClass, interval, perClass } = result;
  return {
    name,
    figures: { "top-1": top1, ...(top5 === undefined ? {} : { "top-5": top5 }), "mean per class": meanPerClass },
    interval,
    perClass,
  };
}

async function knn(sets: Sets, { device, protocol, settings = {} }: ProtocolRun) {
  const { neighbours = [20, 200], temperatures = [0.07, 0.1] } = settings;
  const wanted = neighbours.flatMap((k) => temperatures.map((temperature) => ({ neighbours: k, temperature })));
  const test = labelled(sets.test, protocol);
  const ranks = await knnRanks(labelled(sets.train, protocol), test, {
    settings: wanted,
    nearest: nearestOn(device),
  });
  const rows = wanted.map(({ neighbours, temperature }, i) => {
    const result = classificationResult(ranks[i], test.labels, { classes: protocol.classes.length });
    return classificationRow(`k ${neighbours}, T ${temperature}`, result);
  });
  return { settings: { neighbours, temperatures }, rows };
}

async function retrieve(sets: Sets, { device, protocol }: ProtocolRun) {
  const result = await classRetrieval(sets.test.features, sets.train.features, {
    queryLabels: labelled(sets.test, protocol).labels,
    galleryLabels: labelled(sets.train, protocol).labels,
    similarity: deviceSimilarity(device),
  });
  const recall = result.recall.map(({ k, share }) => [`recall@${k}`, share] as const);
  const figures = { mAP: result.meanAveragePrecision, ...Object.fromEntries(recall) };
  return { settings: {}, rows: [{ name: "same class", figures }] };
}

function svm(sets: Sets, { protocol, settings = {} }: ProtocolRun) {
  const { costs, seed } = settings;
  const result = svmEvaluation(marked(sets.train, protocol), marked(sets.test, protocol), { costs, seed });
  const figures = { "mAP (area)": result.area, "mAP (11 points)": result.elevenPoint };
  const perClass = result.perClass.map(({ area }) => area);
  return {
    settings: { costs: result.perClass.map(({ cost }) => cost), folds: 3 },
    rows: [{ name: "linear SVM", figures, perClass }],
  };
}

function fewShots(sets: Sets, { protocol, settings = {} }: ProtocolRun) {
  const { shots, draws, costs, seed } = settings;
  const results = lowShotSvm(marked(sets.train, protocol), marked(sets.test, protocol), { shots, draws, costs, seed });
  const rows = results.map(({ shots, mean, deviation, cost }) => ({
    name: `${shots} per class`,
    figures: { "mAP (area)": mean, "± over draws": deviation, "cost": cost },
  }));
  return { settings: { draws: results[0].draws.length, cost: "the best on the test set, as published" }, rows };
}

/** A recipe with its settings replaced. */
export function recipeWith(name: RecipeName, settings: ProtocolSettings): ClassifierRecipe {
  const recipe: ClassifierRecipe = RECIPES[name];
  const { epochs = recipe.epochs, batch = recipe.batch, weightDecay = recipe.weightDecay, size } = settings;
  const { trunkRate = recipe.learningRate.trunk, headRate = recipe.learningRate.head } = settings;
  const { schedule } = recipe;
  // The rate falls at the same share of a shorter training.
  const share = epochs / recipe.epochs;
  return {
    ...recipe,
    epochs,
    batch,
    weightDecay,
    learningRate: { trunk: trunkRate, head: headRate },
    schedule: schedule.kind === "steps"
      ? { ...schedule, epochs: schedule.epochs.map((boundary) => boundary * share) }
      : schedule,
    ...(size === undefined ? {} : { crop: { ...recipe.crop, size }, test: { size, resize: Math.round(size * 8 / 7) } }),
  };
}

async function classify(name: RecipeName, run: ProtocolRun): Promise<Found> {
  const { protocol, settings = {}, trainIds = protocol.train.ids, progress } = run;
  const classes = protocol.classes.length;
  const marksOf = (id: number) => marksOfImage(protocol, id);
  // Stages that the trunk lacks have no heads: small networks have fewer than four.
  const published = recipeWith(name, settings);
  const stages = trunkShape(run.trunk.spec).stageWidths.length;
  const heads = published.heads.filter(({ layer }) => layer === "pooled" || Number(layer.slice(-1)) <= stages);
  const recipe: ClassifierRecipe = { ...published, heads };
  const { ids, heads: scored } = await trainClassifier({
    ...run,
    train: { ids: trainIds, marksOf },
    test: { ids: protocol.test.ids, marksOf },
    classes,
    recipe,
    seed: settings.seed,
    onEpoch: ({ epoch, epochs, losses }) =>
      progress?.(`loss ${losses.map((x) => x.toFixed(4)).join(" ")}`, epoch, epochs),
  });
  const rows = scored.map(({ name, scores }): ProtocolRow => {
    if (recipe.loss === "sigmoid") return multiLabelRow(name, scores, { ids, protocol });
    const labels = Uint32Array.from(ids, (id) => protocol.labelOf(id));
    return classificationRow(name, classificationResult(scoreRanks(scores, labels, classes), labels, { classes }));
  });
  return { settings: { ...recipe }, rows, trained: trainIds.length, tested: ids.length };
}

function multiLabelRow(
  name: string,
  scores: Float32Array,
  { ids, protocol }: { ids: readonly number[]; protocol: Protocol },
): ProtocolRow {
  const classes = protocol.classes.length;
  const marks = new Int8Array(ids.length * classes);
  ids.forEach((id, row) => marks.set(marksOfImage(protocol, id), row * classes));
  const { mean, perClass } = meanAveragePrecision(scores, marks, { classes });
  return { name, figures: { mAP: mean, "mAP over all": averagePrecision(scores, marks) }, perClass };
}
