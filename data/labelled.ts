/**
 * What a set of images with labels is, whichever form it is stored in: a class or several per image, and which images are
 * for training and which for testing, where the set says so. It knows no form of storage and no evaluation.
 */
import type { ImageSource } from "./source.ts";

/** Which part of an evaluation an image is for. */
export type Split = "train" | "test";

/** Images with labels. */
export interface LabelledImages extends ImageSource {
  readonly classes: readonly string[];
  /** `single`: exactly one class per image; `multi`: any number, none included. */
  readonly labelling: "single" | "multi";
  /** Classes that image `i` shows, indices into `classes`, ascending. */
  labelsOf(i: number): readonly number[];
  /** Classes of image `i` that are neither counted as shown nor as not shown; none where absent. */
  difficultOf?(i: number): readonly number[];
  /** What image `i` is for; `undefined` where the set does not say. */
  splitOf(i: number): Split | undefined;
}

/** A set of labelled images cannot be read as such. */
export class LabelError extends Error {
  override readonly name = "LabelError";

  /** @param path the folder or file; the message reads "Cannot read the labels of "path": what". */
  constructor(path: string, what: string) {
    super(`Cannot read the labels of "${path}": ${what}`);
  }
}

/** The split that a word stands for; `undefined` for one that stands for none. */
export function splitOfWord(word: string): Split | undefined {
  const name = word.toLowerCase();
  if (["train", "training", "trainval"].includes(name)) return "train";
  return ["test", "val", "valid", "validation", "testing"].includes(name) ? "test" : undefined;
}
