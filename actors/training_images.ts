/**
 * The images that a run learns from, with what they show where its method needs that: one way to open them for the check
 * before a run and for the loader in it. It decodes nothing.
 */
import { ConfigError, learnsLabels, type TrainConfig } from "../config.ts";
import { openFolder } from "../data/folder_source.ts";
import { randomStream } from "../data/random.ts";
import type { ImageSource } from "../data/source.ts";
import { openTrainingSet, type TrainingSet } from "../evaluate/training_set.ts";
import { targetTags } from "../methods/hashtag.ts";

/** Images, and their labels for a method that learns from them. */
export interface TrainingImages {
  readonly source: ImageSource;
  /** Classes that image `id` is to be told by in step `step`: a function of these and the seed. */
  labelsOf?(id: number, step: number): readonly number[];
}

/**
 * Opens the images of a configuration.
 *
 * @throws {Error} when there are none.
 * @throws {ConfigError} when the method needs labels and they have none, or other classes than the run.
 */
export async function openTrainingImages(config: TrainConfig): Promise<TrainingImages> {
  if (!learnsLabels(config)) return { source: await openFolder(config.data.folder) };
  const set = await openLabels(config);
  const { seed, method: { name, targets, classes = set.classes.length } } = config;
  if (classes !== set.classes.length) {
    throw new ConfigError(
      "method.classes",
      `cannot learn from "${config.data.folder}": method.classes must be the number of its classes, ` +
        `${set.classes.length}, found ${classes}; leave it out, or give the images that the run began with`,
    );
  }
  const labelsOf = (id: number, step: number): readonly number[] =>
    name === "supervised" ? set.labelsOf(id) : targetTags(set.labelsOf(id), {
      targets,
      draw: (count) => randomStream({ seed, purpose: "target tag", indices: [step, id] }).integer(0, count),
    });
  return { source: set.source, labelsOf };
}

/**
 * How many classes the images of a configuration show, whose method learns from labels.
 *
 * @throws {ConfigError} when they have no labels.
 */
export async function countClasses(config: TrainConfig): Promise<number> {
  return (await openLabels(config)).classes.length;
}

async function openLabels({ method, data: { folder } }: TrainConfig): Promise<TrainingSet> {
  try {
    const labelling = method.name === "hashtag" ? "multi" : "single";
    return await openTrainingSet(folder, { labelling, part: method.images });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(
      "data.folder",
      `cannot learn from labels (method.name ${method.name}): ${reason}; name labelled images with --data, or choose a ` +
        "method without labels (--method.name swav)",
    );
  }
}
