/**
 * Which images an evaluation learns from, which it is asked about, and what their labels are: read off the images' paths.
 * Two forms are known: two sets with the same categories, `<set>/<category>/<name>.png`, and one folder per category,
 * split by a hash of the names; a part may also be told by its name (`train`, `val`, `test`). It opens no file.
 */
import { splitOfWord } from "../data/labelled.ts";
import type { ImageSource } from "../data/source.ts";
import { hashName } from "./name_hash.ts";

/** Some images of the source. */
export interface ImageSubset {
  /** For people: a set's folder, or which part of the split. */
  readonly name: string;
  /** Numbers of the images in the source. */
  readonly ids: readonly number[];
}

/** What an evaluation does with the images of a source. */
export interface Protocol {
  readonly kind: "sets" | "split";
  /** `single`: each image is of one class, {@linkcode Protocol.labelOf}; `multi`: of any number. @default "single" */
  readonly labelling?: "single" | "multi";
  /** Names of the categories. */
  readonly classes: readonly string[];
  readonly train: ImageSubset;
  readonly test: ImageSubset;
  /**
   * Class of an image of either subset, an index into `classes`.
   *
   * @throws RangeError for other images
   * @throws TypeError where images show several classes
   */
  labelOf(id: number): number;
  /** What an image of either subset is to each class. @default 1 for its label, 0 for the others */
  marksOf?(id: number): Int8Array<ArrayBuffer>;
  /** Test image → the one training image of the same name, where the sets show the same things; empty otherwise. */
  readonly pairs: ReadonlyMap<number, number>;
}

/** Options of {@linkcode planProtocol}. */
export interface ProtocolOptions {
  /** What errors call the source. @default "the images" */
  readonly name?: string;
  /** Share of each class that is tested when one folder is split. @default 0.2 */
  readonly testShare?: number;
}

/** Set names that stand for training, most telling first. */
const TRAIN_NAMES: readonly string[] = ["train", "training", "twemoji"];

interface Named {
  readonly id: number;
  readonly parts: readonly string[];
}

function distinct(values: Iterable<string>): string[] {
  return [...new Set(values)].sort();
}

/** File name without its ending. */
function stem({ parts }: Named): string {
  return parts[parts.length - 1].replace(/\.[^.]*$/, "");
}

/** The two sets when the images have that form: training first. */
function findSets(images: readonly Named[]): [string, string] | undefined {
  const sets = distinct(images.map(({ parts }) => parts[0]));
  const named = namedParts(sets);
  if (named !== undefined && images.every(({ parts }) => parts.length > 2)) return named;
  if (sets.length !== 2 || images.some(({ parts }) => parts.length < 3)) return undefined;
  const [a, b] = sets.map((set) =>
    distinct(images.filter(({ parts }) => parts[0] === set).map(({ parts }) => parts[1]))
  );
  const shared = a.filter((category) => b.includes(category)).length;
  if (shared < 2 || 2 * shared < Math.max(a.length, b.length)) return undefined;
  const train = TRAIN_NAMES.find((name) => sets.includes(name)) ?? sets[0];
  return [train, sets.find((set) => set !== train) ?? sets[1]];
}

/** Where every set is called a part of a split (`train`, `val`, `test`): training, and `test` before `val`. */
function namedParts(sets: readonly string[]): [string, string] | undefined {
  if (sets.length < 2 || sets.some((set) => splitOfWord(set) === undefined)) return undefined;
  const train = sets.find((set) => splitOfWord(set) === "train");
  const test = sets.find((set) => set.startsWith("test")) ?? sets.find((set) => splitOfWord(set) === "test");
  return train === undefined || test === undefined ? undefined : [train, test];
}

/** @throws Error when parts of one split do not have the same categories, none of them empty */
function requireSameCategories(name: string, { trained, tested }: { trained: Set<string>; tested: Set<string> }): void {
  const odd = [...trained].find((category) => !tested.has(category)) ??
    [...tested].find((category) => !trained.has(category));
  if (odd === undefined) return;
  throw new Error(
    `Cannot evaluate on "${name}": its parts must have the same categories, "${odd}" has ` +
      `${trained.has(odd) ? "no test" : "no training"} images; add some, or remove the folder`,
  );
}

/** Test → training images of the same name; none unless half of the smaller set has a partner. */
function pairNames(train: readonly Named[], test: readonly Named[]): Map<number, number> {
  const unique = (images: readonly Named[]) => {
    const byName = new Map<string, number | undefined>();
    for (const image of images) byName.set(stem(image), byName.has(stem(image)) ? undefined : image.id);
    return byName;
  };
  const answers = unique(train), pairs = new Map<number, number>();
  for (const [name, id] of unique(test)) {
    const answer = answers.get(name);
    if (id !== undefined && answer !== undefined) pairs.set(id, answer);
  }
  return 2 * pairs.size >= Math.min(train.length, test.length) ? pairs : new Map();
}

function planSets(images: readonly Named[], [trainName, testName]: readonly [string, string], name: string): Protocol {
  const inSet = (set: string) => images.filter(({ parts }) => parts[0] === set);
  const categories = (members: readonly Named[]) => new Set(members.map(({ parts }) => parts[1]));
  const trained = categories(inSet(trainName)), tested = categories(inSet(testName));
  if (splitOfWord(trainName) === "train" && splitOfWord(testName) === "test") {
    requireSameCategories(name, { trained, tested });
  }
  const classes = [...trained].filter((category) => tested.has(category)).sort();
  const members = (set: string) => inSet(set).filter(({ parts }) => classes.includes(parts[1]));
  const train = members(trainName), test = members(testName);
  return {
    kind: "sets",
    classes,
    train: { name: trainName, ids: train.map(({ id }) => id) },
    test: { name: testName, ids: test.map(({ id }) => id) },
    labelOf: labelsBy([...train, ...test], { classes, part: 1 }),
    pairs: pairNames(train, test),
  };
}

function labelsBy(
  images: readonly Named[],
  { classes, part }: { classes: readonly string[]; part: number },
): (id: number) => number {
  const labels = new Map(images.map(({ id, parts }) => [id, classes.indexOf(parts[part])]));
  return (id) => {
    const label = labels.get(id);
    if (label === undefined) throw new RangeError(`Cannot label image ${id}: it must be part of the evaluation`);
    return label;
  };
}

function planSplit(images: readonly Named[], testShare: number): Protocol {
  const classes = distinct(images.map(({ parts }) => parts[0]));
  const train: number[] = [], test: number[] = [];
  for (const category of classes) {
    const members = images.filter(({ parts }) => parts[0] === category)
      .map((image) => ({ id: image.id, path: image.parts.join("/") }))
      .sort((a, b) => hashName(a.path) - hashName(b.path) || (a.path < b.path ? -1 : 1));
    const tested = members.length < 2 ? 0 : Math.max(1, Math.round(testShare * members.length));
    members.forEach(({ id }, i) => (i < tested ? test : train).push(id));
  }
  const order = (ids: number[]) => ids.sort((a, b) => a - b);
  return {
    kind: "split",
    classes,
    train: { name: `${Math.round(100 * (1 - testShare))}% of the images`, ids: order(train) },
    test: { name: `${Math.round(100 * testShare)}% of the images`, ids: order(test) },
    labelOf: labelsBy(images, { classes, part: 0 }),
    pairs: new Map(),
  };
}

/**
 * How to evaluate on a source: two sets where its paths say so (`<set>/<category>/<name>`; the training set is the one
 * called `train` or `twemoji`, else the first by name), else a split of each first sub-folder by a hash of the names.
 *
 * @throws Error when the images have no labels: fewer than two categories, or images outside of them
 */
export function planProtocol(source: Pick<ImageSource, "size" | "name">, options: ProtocolOptions = {}): Protocol {
  const { name = "the images", testShare = 0.2 } = options;
  const images = Array.from({ length: source.size }, (_, id): Named => ({ id, parts: source.name(id).split("/") }));
  const sets = findSets(images);
  if (sets !== undefined) return planSets(images, sets, name);
  const loose = images.filter(({ parts }) => parts.length < 2).length;
  const categories = distinct(images.filter(({ parts }) => parts.length > 1).map(({ parts }) => parts[0]));
  if (loose > 0 || categories.length < 2) {
    throw new Error(
      `Cannot evaluate on "${name}": its images must lie in one sub-folder per category, at least 2, found ` +
        `${categories.length} sub-folders with images and ${loose} images outside of them; ` +
        "put every category's images into a sub-folder named after it, or leave the evaluation out",
    );
  }
  const plan = planSplit(images, testShare);
  if (plan.test.ids.length === 0) {
    throw new Error(
      `Cannot evaluate on "${name}": a category must have at least 2 images, found at most 1 in each of ${categories.length}`,
    );
  }
  return plan;
}
