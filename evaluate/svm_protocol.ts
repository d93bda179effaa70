/**
 * How SEER's papers use linear SVMs: one machine per class on features of unit length, its cost chosen by
 * cross-validation, judged by mean average precision ("Scaling and Benchmarking Self-Supervised Visual Representation
 * Learning", Goyal et al. 2019, sections 4.2 and A; VISSL's `svm_trainer.py`). It knows no image and no file.
 */
import { randomStream } from "../data/random.ts";
import { averagePrecision, type Mark, meanAveragePrecision, type PrecisionRule } from "./average_precision.ts";
import { type Matrix, requireFinite, takeRows } from "./matrix.ts";
import { type SvmOptions, svmScores, trainSvm } from "./svm.ts";

/** Rows with a mark per class. */
export interface Marked {
  readonly features: Matrix;
  /** `[rows, classes]` of {@linkcode Mark}. */
  readonly marks: Int8Array<ArrayBuffer>;
  readonly classes: number;
}

/** VISSL's costs. */
export const SVM_COSTS: readonly number[] = [0.01, 0.1, 1, 2, 5, 10, 15, 20, 50, 100, 1000];

/** Options of {@linkcode svmEvaluation}. */
export interface SvmProtocolOptions extends Omit<SvmOptions, "cost"> {
  /** Costs to choose from. @default {@linkcode SVM_COSTS} */
  readonly costs?: readonly number[];
  /** Parts of the cross-validation. @default 3 */
  readonly folds?: number;
}

/** What the machines achieve on the test rows. */
export interface SvmResult {
  /** Mean average precision by the monotone curve's area. */
  readonly area: number;
  /** The same by PASCAL VOC 2007's eleven points. */
  readonly elevenPoint: number;
  /** Per class: its average precision (area), and the cost that cross-validation chose. */
  readonly perClass: readonly { readonly area: number | undefined; readonly cost: number }[];
}

/** Rows over their L2 norm + 1e-5, as VISSL. */
export function unitRows(matrix: Matrix): Matrix {
  const { rows, columns } = matrix;
  const data = new Float32Array(matrix.data.length);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let at = row * columns; at < (row + 1) * columns; at++) sum += matrix.data[at] ** 2;
    const scale = 1 / (Math.sqrt(sum) + 1e-5);
    for (let at = row * columns; at < (row + 1) * columns; at++) data[at] = matrix.data[at] * scale;
  }
  return { data, rows, columns };
}

/** The rows that count for a class, with labels ±1. */
interface TwoClass {
  readonly features: Matrix;
  readonly labels: Int8Array;
}

function twoClass({ features, marks, classes }: Marked, c: number): TwoClass {
  const rows = Array.from({ length: features.rows }, (_, row) => row).filter((row) => marks[row * classes + c] >= 0);
  return {
    features: rows.length === features.rows ? features : takeRows(features, rows),
    labels: Int8Array.from(rows, (row) => marks[row * classes + c] > 0 ? 1 : -1),
  };
}

function subset({ features, labels }: TwoClass, rows: readonly number[]): TwoClass {
  return { features: takeRows(features, rows), labels: Int8Array.from(rows, (row) => labels[row]) };
}

/**
 * Fold of each row, so that every fold has its share of both classes and keeps the rows' order, as scikit-learn's
 * `StratifiedKFold` without shuffling.
 */
export function stratifiedFolds(labels: Int8Array, folds: number): Uint8Array<ArrayBuffer> {
  const fold = new Uint8Array(labels.length);
  const classes = [...new Set(labels)];
  // The rows by class, dealt out in turn, say how many of each class a fold gets.
  const sorted = Array.from(labels, (label) => classes.indexOf(label)).sort();
  classes.forEach((label, c) => {
    const rows = Array.from(labels.keys()).filter((row) => labels[row] === label);
    for (let f = 0, next = 0; f < folds; f++) {
      const share = sorted.filter((value, at) => value === c && at % folds === f).length;
      for (let i = 0; i < share; i++) fold[rows[next++]] = f;
    }
  });
  return fold;
}

/** The cost with the highest mean average precision over the folds, the first of equals. */
function chooseCost(set: TwoClass, { costs = SVM_COSTS, folds = 3, ...options }: SvmProtocolOptions): number {
  if (costs.length === 1) return costs[0];
  const fold = stratifiedFolds(set.labels, folds);
  const rows = Array.from(set.labels.keys());
  const splits = Array.from({ length: folds }, (_, f) => ({
    train: subset(set, rows.filter((row) => fold[row] !== f)),
    test: subset(set, rows.filter((row) => fold[row] === f)),
  }));
  const scoreOf = (cost: number) =>
    splits.reduce((sum, { train, test }) => {
      const svm = trainSvm(train.features, train.labels, { ...options, cost });
      return sum + averagePrecision(svmScores(test.features, svm), test.labels.map((label) => Math.max(0, label)));
    }, 0);
  const scores = costs.map(scoreOf);
  return costs[scores.indexOf(Math.max(...scores))];
}

function requireMarks(name: string, { features, marks, classes }: Marked): void {
  if (features.rows * classes !== marks.length) {
    throw new RangeError(
      `Cannot evaluate an SVM: the ${name} set needs a mark per row and class, found ${marks.length} for ` +
        `${features.rows} rows and ${classes} classes`,
    );
  }
  requireFinite(features);
}

function requireExamples(train: Marked, least: number): void {
  for (let c = 0; c < train.classes; c++) {
    const { labels } = twoClass(train, c);
    const positives = labels.filter((label) => label > 0).length;
    if (positives < least || labels.length - positives < least) {
      throw new RangeError(
        `Cannot evaluate an SVM: each class needs at least ${least} training images with it and without it, found ` +
          `${positives} and ${labels.length - positives} for class ${c}; leave the class out or add images`,
      );
    }
  }
}

function scoreTable(columns: readonly Float64Array[], rows: number): Float64Array {
  return Float64Array.from({ length: rows * columns.length }, (_, at) => {
    return columns[at % columns.length][Math.floor(at / columns.length)];
  });
}

/**
 * One machine per class, each with the cost that cross-validation chooses, judged on the test set. Rows marked −1 for a
 * class count neither in its training nor in its test.
 *
 * @throws RangeError when marks do not fit, or a class has too few images to be cross-validated
 */
export function svmEvaluation(train: Marked, test: Marked, options: SvmProtocolOptions = {}): SvmResult {
  requireMarks("training", train);
  requireMarks("test", test);
  requireExamples(train, options.costs?.length === 1 ? 1 : options.folds ?? 3);
  const rows = { train: { ...train, features: unitRows(train.features) }, test: unitRows(test.features) };
  const costs: number[] = [], scores: Float64Array[] = [];
  for (let c = 0; c < train.classes; c++) {
    const set = twoClass(rows.train, c);
    const cost = chooseCost(set, options);
    costs.push(cost);
    scores.push(svmScores(rows.test, trainSvm(set.features, set.labels, { ...options, cost })));
  }
  const table = scoreTable(scores, rows.test.rows);
  const judge = (rule: PrecisionRule) => meanAveragePrecision(table, test.marks, { classes: test.classes, rule });
  const area = judge("area");
  return {
    area: area.mean,
    elevenPoint: judge("eleven-point").mean,
    perClass: costs.map((cost, c) => ({ cost, area: area.perClass[c] })),
  };
}

/** Options of {@linkcode lowShotSvm}. */
export interface LowShotOptions extends Omit<SvmProtocolOptions, "folds"> {
  /** Images with the class per draw. @default [1, 2, 4, 8, 16, 32, 64, 96] */
  readonly shots?: readonly number[];
  /** Independent draws. @default 5 */
  readonly draws?: number;
}

/** Mean average precision (area) of machines that learnt from k images per class. */
export interface LowShotResult {
  readonly shots: number;
  /** One per draw, at `cost`. */
  readonly draws: readonly number[];
  readonly mean: number;
  /** Standard deviation over the draws (divided by their number less 1). */
  readonly deviation: number;
  /** The cost with the highest mean: chosen on the test set, as published figures are. */
  readonly cost: number;
}

/**
 * A draw: per class, k of its images and k · (classes − 1) of the others, −1 elsewhere, as VISSL's
 * `create_low_shot_samples.py`. Where there are fewer others, all of them.
 */
export function drawMarks(
  { marks, classes }: Pick<Marked, "marks" | "classes">,
  { shots, draw, seed }: { shots: number; draw: number; seed: number },
): Int8Array<ArrayBuffer> {
  const drawn = new Int8Array(marks.length).fill(-1);
  for (let c = 0; c < classes; c++) {
    for (const [mark, count] of [[1, shots], [0, shots * (classes - 1)]] as const) {
      const at = Array.from({ length: marks.length / classes }, (_, row) => row * classes + c)
        .filter((place) => marks[place] === mark);
      const random = randomStream({ seed, purpose: `low-shot draw of ${mark}`, indices: [draw, shots, c] });
      for (const i of random.permutation(at.length).slice(0, count)) drawn[at[i]] = mark;
    }
  }
  return drawn;
}

/**
 * SVMs on few images: for each k, `draws` draws, every cost, judged on the whole test set.
 *
 * @throws RangeError when marks do not fit, or a class has fewer images than the most shots
 */
export function lowShotSvm(train: Marked, test: Marked, options: LowShotOptions = {}): LowShotResult[] {
  const { shots = [1, 2, 4, 8, 16, 32, 64, 96], draws = 5, costs = SVM_COSTS, seed = 0, ...svm } = options;
  requireMarks("training", train);
  requireMarks("test", test);
  requireExamples(train, Math.max(...shots));
  const features = unitRows(train.features), tested = unitRows(test.features);
  return shots.map((k) => {
    const table = costs.map((): number[] => []);
    for (let draw = 0; draw < draws; draw++) {
      const set: Marked = { ...train, features, marks: drawMarks(train, { shots: k, draw, seed }) };
      costs.forEach((cost, at) => {
        const scores = Array.from({ length: train.classes }, (_, c) => {
          const { features: rows, labels } = twoClass(set, c);
          return svmScores(tested, trainSvm(rows, labels, { ...svm, cost, seed }));
        });
        const judged = meanAveragePrecision(scoreTable(scores, tested.rows), test.marks, {
          classes: test.classes,
          rule: "area",
        });
        table[at].push(judged.mean);
      });
    }
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const means = table.map(mean);
    const best = means.indexOf(Math.max(...means));
    const spread = table[best].reduce((sum, value) => sum + (value - means[best]) ** 2, 0);
    return {
      shots: k,
      draws: table[best],
      mean: means[best],
      deviation: draws > 1 ? Math.sqrt(spread / (draws - 1)) : 0,
      cost: costs[best],
    };
  });
}

/** Marks of single labels: 1 at a row's class, 0 elsewhere. */
export function marksOf(labels: ArrayLike<number>, classes: number): Int8Array<ArrayBuffer> {
  const marks = new Int8Array(labels.length * classes);
  for (let row = 0; row < labels.length; row++) marks[row * classes + labels[row]] = 1 satisfies Mark;
  return marks;
}
