/**
 * The configuration of a training run: {@linkcode parseConfig} checks one, {@linkcode loadConfig} joins a preset, a file
 * and the command line. The keys are in docs/config.md. Nothing here starts anything.
 */
import { ConfigError } from "./config/error.ts";
import { modelSpec } from "./config/models.ts";
import type { TrainConfig, TrainConfigInput } from "./config/schema.ts";
import { trunkShape } from "./nn/trunk_shape.ts";

export { ConfigError } from "./config/error.ts";
export { type ConfigKey, configKeys, shortOptions } from "./config/keys.ts";
export { loadConfig, type LoadOptions } from "./config/load.ts";
export { modelNames, modelSpec } from "./config/models.ts";
export { parseConfig } from "./config/parse.ts";
export { findPreset, presets } from "./config/presets.ts";
export { configReference } from "./config/reference.ts";
export type { TrainConfig, TrainConfigInput } from "./config/schema.ts";

/** Types a configuration written in TypeScript: `export default defineConfig({ … })`. */
export function defineConfig(input: TrainConfigInput): TrainConfigInput {
  return input;
}

/** Images of one step over all replicas. */
export function globalBatch(config: TrainConfig): number {
  return config.replicas * config.batchPerReplica;
}

/** Crops of one image. */
export function cropsPerImage(config: TrainConfig): number {
  return config.crops.reduce((sum, crop) => sum + crop.count, 0);
}

/**
 * Steps of the run on a data set of `imageCount` images: `steps`, or whole batches in `epochs` passes.
 *
 * @throws RangeError when the images do not fill one batch
 */
export function totalSteps(config: TrainConfig, imageCount: number): number {
  if (config.steps !== undefined) return config.steps;
  const steps = Math.floor(imageCount * (config.epochs ?? 0) / globalBatch(config));
  if (steps < 1) {
    throw new RangeError(
      `cannot plan the run: ${config.epochs} epochs must fill at least one batch of ${globalBatch(config)} images, ` +
        `found ${imageCount} images; lower replicas or batchPerReplica`,
    );
  }
  return steps;
}

/** Whether the method learns from labels of the images. */
export function learnsLabels({ method: { name } }: TrainConfig): boolean {
  return name === "supervised" || name === "hashtag";
}

/**
 * Classes that a method which learns from labels tells apart.
 *
 * @throws ConfigError when they are not known yet
 */
export function classCount({ method: { name, classes } }: TrainConfig): number {
  if (classes !== undefined) return classes;
  throw new ConfigError("method.classes", `method.classes must be given for method.name ${name}, found nothing`);
}

/**
 * Among how many answers the method's loss asks for the right one: prototypes, the other crops of the step, classes.
 *
 * @throws ConfigError when the classes are not known yet
 */
export function choiceCount(config: TrainConfig): number {
  if (config.method.name === "swav") return config.prototypes.count;
  return config.method.name === "simclr" ? 2 * globalBatch(config) - 1 : classCount(config);
}

/**
 * Widths of what stands on the trunk, from its input, the trunk's width, to its output: projection head or classifier.
 *
 * @throws ConfigError when the classes are not known yet
 */
export function headDims(config: TrainConfig): number[] {
  return [trunkShape(modelSpec(config)).width, ...learnsLabels(config) ? [classCount(config)] : config.head.dims];
}
