/**
 * The rules of a configuration that join several options. Each gives the key at fault, what it has to be, and what was
 * found. This file parses nothing and knows no file.
 */
import { parseSegments, requireSegments } from "../nn/segments.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { isVit } from "../nn/trunk_spec.ts";
import { findModel, modelNames, modelSpec } from "./models.ts";
import { nearest } from "./nearest.ts";
import type { TrainConfig } from "./schema.ts";

/** A broken rule. */
export interface Fault {
  readonly path: string;
  /** Completes the sentence "PATH must …". */
  readonly requirement: string;
  readonly found: unknown;
}

type Check = (config: TrainConfig) => Fault | undefined;

const vitKeys = ["patch", "heads", "mlpRatio", "imageSize"] as const;
const stageKeys = [
  "family",
  "stemWidth",
  "widths",
  "depths",
  "groupWidth",
  "groups",
  "bottleneck",
  ...vitKeys,
] as const;

/** Which of them explicit stages of a family must have, and which they must not. */
const familyKeys = {
  regnet: { needed: ["stemWidth", "widths", "depths", "groupWidth"], foreign: ["groups", "bottleneck", ...vitKeys] },
  resnet: { needed: ["stemWidth", "widths", "depths"], foreign: ["groupWidth", ...vitKeys] },
  vit: { needed: ["widths", "depths", "patch", "heads"], foreign: ["stemWidth", "groupWidth", "groups", "bottleneck"] },
} as const;

function checkModel({ model }: TrainConfig): Fault | undefined {
  const given = stageKeys.filter((key) => model[key] !== undefined);
  if (model.name !== undefined) {
    if (given.length > 0) {
      const requirement = `not be given beside model.name ${JSON.stringify(model.name)}; remove one of the two`;
      return { path: `model.${given[0]}`, requirement, found: model[given[0]] };
    }
    if (findModel(model.name) === undefined) {
      const requirement = `be a known model; did you mean "${nearest(model.name, modelNames)}"?`;
      return { path: "model.name", requirement, found: model.name };
    }
    return undefined;
  }
  const { needed, foreign } = familyKeys[model.family ?? "regnet"];
  const missing = needed.find((key) => model[key] === undefined);
  if (missing) {
    const together = `${needed.slice(0, -1).join(", ")} and ${needed.at(-1)}`;
    return {
      path: `model.${missing}`,
      requirement: `be given where there is no model.name (${together} together)`,
      found: undefined,
    };
  }
  const other = foreign.find((key) => model[key] !== undefined);
  if (other) {
    const requirement = `be left out where model.family is ${model.family ?? "regnet"}`;
    return { path: `model.${other}`, requirement, found: model[other] };
  }
  const { widths = [], depths = [], groups = 1, bottleneck = 4 } = model;
  if (widths.length !== depths.length) {
    return {
      path: "model.depths",
      requirement: `have as many stages as model.widths (${widths.length})`,
      found: depths,
    };
  }
  if (model.family === "vit") return checkVit({ model });
  if (model.family === "resnet") {
    const odd = widths.find((width) => width % (bottleneck * groups) !== 0);
    if (odd === undefined) return undefined;
    const requirement = `be multiples of bottleneck times groups (${bottleneck * groups})`;
    return { path: "model.widths", requirement, found: odd };
  }
  const groupWidth = model.groupWidth ?? 1;
  const odd = widths.find((width) => width % Math.min(groupWidth, width) !== 0);
  if (odd !== undefined) {
    return {
      path: "model.groupWidth",
      requirement: `divide every one of model.widths (not ${odd})`,
      found: groupWidth,
    };
  }
}

function checkVit({ model }: Pick<TrainConfig, "model">): Fault | undefined {
  const { widths = [], heads = 1, patch = 1, imageSize = 224 } = model;
  if (widths.length !== 1) {
    return { path: "model.widths", requirement: "be one number where model.family is vit", found: widths };
  }
  if (widths[0] % heads !== 0) {
    return { path: "model.heads", requirement: `divide model.widths (${widths[0]})`, found: heads };
  }
  if (imageSize % patch !== 0) {
    return { path: "model.patch", requirement: `divide model.imageSize (${imageSize})`, found: patch };
  }
}

/** Crops that hold no patch have no tokens. */
function checkPatches(config: TrainConfig): Fault | undefined {
  const spec = modelSpec(config);
  if (!isVit(spec)) return undefined;
  const small = config.crops.find(({ size }) => size < spec.patch);
  if (small === undefined) return undefined;
  return { path: "crops", requirement: `be at least as large as a patch (${spec.patch})`, found: small.size };
}

function checkOptimizer({ optimizer }: TrainConfig): Fault | undefined {
  if (optimizer.excludeBiasAndNorm && optimizer.name !== "larc") {
    return { path: "optimizer.excludeBiasAndNorm", requirement: "be false unless optimizer.name is larc", found: true };
  }
}

function checkMethod({ method }: TrainConfig): Fault | undefined {
  if (method.classes === undefined || method.name === "supervised" || method.name === "hashtag") return undefined;
  const requirement = "be left out unless method.name is supervised or hashtag";
  return { path: "method.classes", requirement, found: method.classes };
}

function checkCrops({ method, crops, assignCrops }: TrainConfig): Fault | undefined {
  const sizes = crops.flatMap((crop) => Array<number>(crop.count).fill(crop.size));
  if (method.name === "simclr") {
    if (sizes.length === 2 && sizes[0] === sizes[1]) return undefined;
    return { path: "crops", requirement: "add up to 2 crops of one size with method.name simclr", found: crops };
  }
  if (method.name !== "swav") {
    if (sizes.length === 1) return undefined;
    return { path: "crops", requirement: `be one crop with method.name ${method.name}`, found: crops };
  }
  if (sizes.length < 2) {
    return { path: "crops", requirement: "add up to at least 2 crops per image", found: sizes.length };
  }
  const outside = assignCrops.find((crop) => crop >= sizes.length);
  if (outside !== undefined) {
    const requirement = `name crops from 0 to ${sizes.length - 1} (crops add up to ${sizes.length})`;
    return { path: "assignCrops", requirement, found: assignCrops };
  }
  if (new Set(assignCrops).size !== assignCrops.length) {
    return { path: "assignCrops", requirement: "name each crop once", found: assignCrops };
  }
  const assigned = new Set(assignCrops.map((crop) => sizes[crop]));
  if (assigned.size > 1) {
    const requirement = `name crops of one size (these have ${[...assigned].join(" and ")} pixels)`;
    return { path: "assignCrops", requirement, found: assignCrops };
  }
}

function checkRanges({ crops, augmentation }: TrainConfig): Fault | undefined {
  const ranges: [string, readonly [number, number] | readonly number[]][] = [
    ...crops.map((crop, i): [string, readonly number[]] => [`crops[${i}].scale`, crop.scale]),
    ["augmentation.ratio", augmentation.ratio],
    ["augmentation.blurSigma", augmentation.blurSigma],
  ];
  const reversed = ranges.find(([, [min, max]]) => min > max);
  if (reversed) return { path: reversed[0], requirement: "be [smallest, largest]", found: reversed[1] };
  const large = crops.findIndex((crop) => crop.scale[1] > 1);
  if (large >= 0) return { path: `crops[${large}].scale`, requirement: "be at most 1", found: crops[large].scale };
}

function checkReplicas(config: TrainConfig): Fault | undefined {
  const { replicas, syncBatchNormGroup: group, cluster } = config;
  if (cluster.trainers > replicas) {
    const requirement = `be at most replicas (${replicas}), for a trainer carries at least one`;
    return { path: "cluster.trainers", requirement, found: cluster.trainers };
  }
  if (replicas % group !== 0) {
    return { path: "syncBatchNormGroup", requirement: `divide replicas (${replicas})`, found: group };
  }
  if (cluster.adapters.length > cluster.trainers) {
    const requirement = `have at most one entry per trainer (cluster.trainers is ${cluster.trainers})`;
    return { path: "cluster.adapters", requirement, found: cluster.adapters.length };
  }
}

function checkLength(config: TrainConfig): Fault | undefined {
  const { steps, epochs, schedule, prototypes, queue } = config;
  if (steps === undefined && epochs === undefined) {
    return { path: "steps", requirement: "be given (or epochs)", found: undefined };
  }
  if (steps !== undefined && epochs !== undefined) {
    return {
      path: "epochs",
      requirement: `not be given beside steps (${steps}); remove one of the two`,
      found: epochs,
    };
  }
  if (schedule.warmupSteps > 0 && schedule.warmupStart > schedule.learningRate) {
    const requirement = `be at most schedule.learningRate (${schedule.learningRate})`;
    return { path: "schedule.warmupStart", requirement, found: schedule.warmupStart };
  }
  if (queue.length > 0 && queue.length % config.replicas !== 0) {
    return { path: "queue.length", requirement: `be a multiple of replicas (${config.replicas})`, found: queue.length };
  }
  if (steps === undefined) return undefined;
  const under = (path: string, found: number): Fault | undefined =>
    found > 0 && found >= steps ? { path, requirement: `be less than steps (${steps})`, found } : undefined;
  return under("prototypes.frozenSteps", prototypes.frozenSteps) ??
    under("schedule.warmupSteps", schedule.warmupSteps) ??
    (queue.length > 0 ? under("queue.startStep", queue.startStep) : undefined);
}

function checkCheckpointing(config: TrainConfig): Fault | undefined {
  const { mode, segments, memoryBudgetBytes } = config.checkpointing;
  const fault = (key: string, requirement: string, found: unknown): Fault => ({
    path: `checkpointing.${key}`,
    requirement,
    found,
  });
  if (memoryBudgetBytes !== undefined && mode !== "auto") {
    return fault("memoryBudgetBytes", 'be given with checkpointing.mode "auto" only', memoryBudgetBytes);
  }
  if ((segments.length > 0) !== (mode === "listed")) {
    return fault("segments", 'list units where checkpointing.mode is "listed", and only there', segments);
  }
  if (mode !== "listed") return undefined;
  const { units } = trunkShape(modelSpec(config));
  try {
    requireSegments(parseSegments(segments), units);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return fault("segments", `be in order, apart, and within 0-${units - 1} (the stem and its blocks)`, segments);
  }
}

const checks: readonly Check[] = [
  checkModel,
  checkOptimizer,
  checkMethod,
  checkCrops,
  checkPatches,
  checkRanges,
  checkReplicas,
  checkLength,
  checkCheckpointing,
];

/** The first broken rule of `config`, if any. */
export function findFault(config: TrainConfig): Fault | undefined {
  for (const check of checks) {
    const fault = check(config);
    if (fault) return fault;
  }
}
