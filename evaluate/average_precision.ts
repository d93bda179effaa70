/**
 * Average precision of scores against marks, in the three definitions that papers use. Equal scores are one threshold, so
 * that the order in which ties happen to lie changes nothing. It knows no classifier and no image.
 */

/** What an image is to a class: there, not there, or left out of the count ("difficult" in PASCAL VOC). */
export type Mark = 1 | 0 | -1;

/**
 * Definition of the area below the curve of precision over recall:
 *
 * - `step`: Σ (Rₙ − Rₙ₋₁) Pₙ over the thresholds, as scikit-learn's `average_precision_score`; retrieval's and
 *   OpenImages' mAP;
 * - `area`: the same below the curve made monotone, as PASCAL VOC since 2010 and VISSL's VOC07 SVM;
 * - `eleven-point`: mean over recall 0, 0.1, … 1 of the highest precision at that recall or more, as PASCAL VOC 2007.
 */
export type PrecisionRule = "step" | "area" | "eleven-point";

/** Recall and precision at each distinct score, the highest first. */
export interface PrecisionRecall {
  readonly recall: readonly number[];
  readonly precision: readonly number[];
}

/**
 * The curve of precision over recall.
 *
 * @throws RangeError when scores and marks differ in number, a score is not a number, or nothing is marked 1
 */
export function precisionRecall(scores: ArrayLike<number>, marks: ArrayLike<number>): PrecisionRecall {
  if (scores.length !== marks.length) {
    throw new RangeError(
      `Cannot compute precision: there must be one mark per score, found ${marks.length} for ${scores.length}`,
    );
  }
  const counted = Array.from({ length: scores.length }, (_, i) => i).filter((i) => marks[i] >= 0);
  const wrong = counted.find((i) => Number.isNaN(scores[i]));
  if (wrong !== undefined) throw new RangeError(`Cannot compute precision: score ${wrong} is not a number`);
  const positives = counted.filter((i) => marks[i] > 0).length;
  if (positives === 0) {
    throw new RangeError("Cannot compute precision: at least one image must show the class, found none");
  }
  counted.sort((a, b) => scores[b] - scores[a]);
  const recall: number[] = [], precision: number[] = [];
  let hits = 0;
  counted.forEach((i, rank) => {
    if (marks[i] > 0) hits++;
    const next = counted[rank + 1];
    if (next !== undefined && scores[next] === scores[i]) return;
    recall.push(hits / positives);
    precision.push(hits / (rank + 1));
  });
  return { recall, precision };
}

/**
 * Average precision of one class.
 *
 * ```ts
 * import { averagePrecision } from "../mod.ts";
 *
 * const found = averagePrecision([0.9, 0.8, 0.7], [1, 0, 1]);
 * if (Math.abs(found - (1 + 2 / 3) / 2) > 1e-12) throw new Error("precision is 1 and 2/3 at the two hits");
 * ```
 *
 * @throws RangeError as {@linkcode precisionRecall}
 */
export function averagePrecision(
  scores: ArrayLike<number>,
  marks: ArrayLike<number>,
  { rule = "step" }: { rule?: PrecisionRule } = {},
): number {
  const { recall, precision } = precisionRecall(scores, marks);
  const highest = [...precision];
  if (rule !== "step") {
    for (let i = highest.length - 2; i >= 0; i--) highest[i] = Math.max(highest[i], highest[i + 1]);
  }
  if (rule === "eleven-point") {
    let sum = 0;
    for (let tenth = 0; tenth <= 10; tenth++) {
      const at = recall.findIndex((value) => value >= tenth / 10);
      sum += at < 0 ? 0 : highest[at];
    }
    return sum / 11;
  }
  return recall.reduce((sum, value, i) => sum + (value - (i === 0 ? 0 : recall[i - 1])) * highest[i], 0);
}

/** Average precisions of many classes. */
export interface MeanAveragePrecision {
  /** Mean over the classes that some image shows. */
  readonly mean: number;
  /** By class; `undefined` where no image shows it. */
  readonly perClass: readonly (number | undefined)[];
}

/**
 * Mean average precision over classes.
 *
 * @param scores `[images, classes]`, row by row.
 * @param marks `[images, classes]` of {@linkcode Mark}.
 * @throws RangeError when the tables do not fill rows of `classes`, or no class is shown by any image
 */
export function meanAveragePrecision(
  scores: ArrayLike<number>,
  marks: ArrayLike<number>,
  { classes, rule }: { classes: number; rule?: PrecisionRule },
): MeanAveragePrecision {
  if (scores.length % classes !== 0 || scores.length !== marks.length) {
    throw new RangeError(
      `Cannot compute mean average precision: scores and marks must fill rows of ${classes} classes, found ` +
        `${scores.length} and ${marks.length}`,
    );
  }
  const images = scores.length / classes;
  const perClass = Array.from({ length: classes }, (_, c) => {
    const column = (table: ArrayLike<number>) =>
      Float64Array.from({ length: images }, (_, i) => table[i * classes + c]);
    const shown = column(marks);
    return shown.some((mark) => mark > 0) ? averagePrecision(column(scores), shown, { rule }) : undefined;
  });
  const known = perClass.filter((value) => value !== undefined);
  if (known.length === 0) {
    throw new RangeError(`Cannot compute mean average precision: none of ${classes} classes is shown by any image`);
  }
  return { mean: known.reduce((sum, value) => sum + value, 0) / known.length, perClass };
}
