/**
 * The labelled images that a method learns from when it learns from labels: the training part as evaluations split it, so
 * that no label of a tested image is ever seen, or all. It decodes nothing.
 */
import { openFolder } from "../data/folder_source.ts";
import { LabelError, type LabelledImages } from "../data/labelled.ts";
import type { ImageSource } from "../data/source.ts";
import { openLabelled, splitByName } from "./labelled_set.ts";
import { planProtocol } from "./protocol.ts";

/** Images with what each shows. */
export interface TrainingSet {
  /** Some images of the set, numbered anew. */
  readonly source: ImageSource;
  readonly classes: readonly string[];
  /** Classes of image `i` of `source`, ascending; at least one. */
  labelsOf(i: number): readonly number[];
}

/** Options of {@linkcode openTrainingSet}. */
export interface TrainingSetOptions {
  /** Whether every image must be of exactly one class, or of at least one; images without any are left out then. */
  readonly labelling: "single" | "multi";
  /** @default "train" */
  readonly part?: "train" | "all";
}

/**
 * Opens labelled images from a list (`.csv`, `.txt`), a folder of PASCAL VOC, of idx files, or of classes.
 *
 * @throws {LabelError} when there are fewer than two classes, no image to learn from, or several classes for an image that
 * must be of one
 * @throws {Error} when a folder is missing, holds no image, or its images have no labels
 */
export async function openTrainingSet(path: string, options: TrainingSetOptions): Promise<TrainingSet> {
  const { labelling, part = "train" } = options;
  const set = await openLabelled(path);
  if (set !== undefined) return planLabelledTraining(set, { path, labelling, part });
  const source = await openFolder(path);
  const { classes, train, test, labelOf } = planProtocol(source, { name: path });
  const ids = part === "train" ? train.ids : [...train.ids, ...test.ids].sort((a, b) => a - b);
  return { source: subset(source, ids), classes, labelsOf: (i) => [labelOf(ids[i])] };
}

function planLabelledTraining(
  set: LabelledImages,
  { path, labelling, part }: Required<TrainingSetOptions> & { path: string },
): TrainingSet {
  if (labelling === "single" && set.labelling === "multi") {
    throw new LabelError(path, "its images may show several classes; learn from them as tags (method.name hashtag)");
  }
  if (set.classes.length < 2) {
    throw new LabelError(path, `at least 2 classes are needed, found ${set.classes.join(", ") || "none"}`);
  }
  const all = Array.from({ length: set.size }, (_, id) => id);
  const told = all.some((id) => set.splitOf(id) !== undefined);
  const tested = new Set(told || part === "all" ? [] : splitByName(set, { ids: all, testShare: 0.2 }));
  const ids = all.filter((id) =>
    set.labelsOf(id).length > 0 && (part === "all" || (told ? set.splitOf(id) === "train" : !tested.has(id)))
  );
  if (ids.length === 0) throw new LabelError(path, "it has no training image with a label; check labels and splits");
  return { source: subset(set, ids), classes: set.classes, labelsOf: (i) => set.labelsOf(ids[i]) };
}

function subset(source: ImageSource, ids: readonly number[]): ImageSource {
  return { size: ids.length, name: (i) => source.name(ids[i]), read: (i) => source.read(ids[i]) };
}
