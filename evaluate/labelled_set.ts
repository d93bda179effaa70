/**
 * Opens what an evaluation is run on, in any form that labelled images have (PASCAL VOC, idx files, lists, folders), and
 * plans which images it learns from and which it is asked about. It knows no features.
 */
import { openFolder } from "../data/folder_source.ts";
import { isIdxFolder, openIdx } from "../data/idx_source.ts";
import { LabelError, type LabelledImages } from "../data/labelled.ts";
import { isListName, openList } from "../data/list_source.ts";
import type { ImageSource } from "../data/source.ts";
import { isVocFolder, openVoc } from "../data/voc_source.ts";
import { hashName } from "./name_hash.ts";
import { planProtocol, type Protocol } from "./protocol.ts";

/** Images and what is done with them. */
export interface EvaluationSet {
  readonly source: ImageSource;
  readonly protocol: Protocol;
}

/** Options of {@linkcode openEvaluationSet}. */
export interface EvaluationSetOptions {
  /** Share of each class that is tested where the set does not say. @default 0.2 */
  readonly testShare?: number;
}

/**
 * Opens labelled images from a list (`.csv`, `.txt`), a folder of PASCAL VOC, of idx files, or of classes.
 *
 * @throws {LabelError} when labels are missing, of one class only, or differ between training and test
 * @throws {Error} when a folder is missing, holds no image, or its images have no labels
 */
export async function openEvaluationSet(path: string, options: EvaluationSetOptions = {}): Promise<EvaluationSet> {
  const { testShare } = options;
  const set = await openLabelled(path);
  if (set !== undefined) return { source: set, protocol: planLabelled(set, { name: path, testShare }) };
  const source = await openFolder(path);
  return { source, protocol: planProtocol(source, { name: path, testShare }) };
}

/** A set that says its labels itself; `undefined` where `path` is a plain folder. */
export async function openLabelled(path: string): Promise<LabelledImages | undefined> {
  if (isListName(path)) return await openList(path);
  if (await isVocFolder(path)) return await openVoc(path);
  return await isIdxFolder(path) ? await openIdx(path) : undefined;
}

/**
 * How to evaluate on labelled images: by the parts they name, else by a split of each class by a hash of the names.
 *
 * @throws {LabelError} when there is one class only, a class has no training or no test image, or a part is empty
 */
export function planLabelled(
  set: LabelledImages,
  { name, testShare = 0.2 }: { name: string; testShare?: number },
): Protocol {
  if (set.classes.length < 2) {
    throw new LabelError(name, `at least 2 classes are needed, found ${set.classes.join(", ") || "none"}`);
  }
  const ids = Array.from({ length: set.size }, (_, id) => id);
  const told = ids.some((id) => set.splitOf(id) !== undefined);
  const tested = told ? ids.filter((id) => set.splitOf(id) === "test") : splitByName(set, { ids, testShare });
  const isTested = new Set(tested);
  const trained = ids.filter((id) => told ? set.splitOf(id) === "train" : !isTested.has(id));
  requireAllClasses(set, { name, trained, tested });
  const percent = Math.round(100 * testShare);
  return {
    kind: told ? "sets" : "split",
    labelling: set.labelling,
    classes: set.classes,
    train: { name: told ? "its training images" : `${100 - percent}% of the images`, ids: trained },
    test: { name: told ? "its test images" : `${percent}% of the images`, ids: tested },
    labelOf(id) {
      if (set.labelling === "multi") {
        throw new TypeError(
          `Cannot label image ${set.name(id)}: it may show several classes; use a multi-label protocol`,
        );
      }
      return set.labelsOf(id)[0];
    },
    marksOf(id) {
      const marks = new Int8Array(set.classes.length);
      for (const c of set.difficultOf?.(id) ?? []) marks[c] = -1;
      for (const c of set.labelsOf(id)) marks[c] = 1;
      return marks;
    },
    pairs: new Map(),
  };
}

/** The tested images: of each class (the first that an image shows) its share, by a hash of the names. */
export function splitByName(
  set: LabelledImages,
  { ids, testShare }: { ids: readonly number[]; testShare: number },
): number[] {
  const byClass = Map.groupBy(ids, (id) => set.labelsOf(id)[0] ?? -1);
  const tested: number[] = [];
  for (const members of byClass.values()) {
    const hashed = members.map((id) => ({ id, name: set.name(id), hash: hashName(set.name(id)) }));
    hashed.sort((a, b) => a.hash - b.hash || (a.name < b.name ? -1 : 1));
    const count = members.length < 2 ? 0 : Math.max(1, Math.round(testShare * members.length));
    tested.push(...hashed.slice(0, count).map(({ id }) => id));
  }
  return tested.sort((a, b) => a - b);
}

function requireAllClasses(
  set: LabelledImages,
  { name, trained, tested }: { name: string; trained: readonly number[]; tested: readonly number[] },
): void {
  for (const [part, ids] of [["training", trained], ["test", tested]] as const) {
    if (ids.length === 0) throw new LabelError(name, `there must be ${part} images, found none; check the splits`);
    const shown = new Set(ids.flatMap((id) => set.labelsOf(id)));
    const empty = set.classes.find((_, c) => !shown.has(c));
    if (empty !== undefined) {
      throw new LabelError(name, `class "${empty}" has no ${part} image; add some, or leave the class out`);
    }
  }
}
