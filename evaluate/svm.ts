/**
 * A linear support vector machine with squared hinge loss: min ½‖w‖² + Σ Cᵢ max(0, 1 − yᵢ w·xᵢ)², by coordinate descent on
 * its dual (Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008, algorithm 1 with
 * shrinking), which is what scikit-learn's `LinearSVC(dual=True)` runs. The intercept is one more weight on a constant
 * feature of 1, regularised like the others. It knows two classes, and no image.
 */
import { randomStream } from "../data/random.ts";
import type { Matrix } from "./matrix.ts";

/** Options of {@linkcode trainSvm}; the defaults are VISSL's. */
export interface SvmOptions {
  /** C: what a unit of squared hinge loss costs. */
  readonly cost: number;
  /** Factor of the cost of rows of class +1, and of −1. @default [2, 1] */
  readonly classWeights?: readonly [positive: number, negative: number];
  /** Passes over the rows at most. @default 2000 */
  readonly iterationsMax?: number;
  /** The descent ends when projected gradients differ by less. @default 1e-4 */
  readonly tolerance?: number;
  /** Of the order in which rows are visited. @default 0 */
  readonly seed?: number;
}

/** A trained machine. */
export interface Svm {
  /** One weight per column. */
  readonly weights: Float64Array<ArrayBuffer>;
  readonly intercept: number;
  /** Passes made. */
  readonly iterations: number;
  /** Whether `tolerance` was reached. */
  readonly converged: boolean;
}

/** The dual's state: α per row, w = Σ αᵢ yᵢ xᵢ with the intercept last. */
interface Dual {
  readonly alpha: Float64Array;
  readonly weights: Float64Array<ArrayBuffer>;
}

function margin({ data, columns }: Matrix, row: number, weights: Float64Array): number {
  let sum = weights[columns];
  for (let k = 0, at = row * columns; k < columns; k++, at++) sum += weights[k] * data[at];
  return sum;
}

function addRow({ data, columns }: Matrix, row: number, { to, factor }: { to: Float64Array; factor: number }): void {
  for (let k = 0, at = row * columns; k < columns; k++, at++) to[k] += factor * data[at];
  to[columns] += factor;
}

/** ‖x‖² + 1 of each row: the constant feature counts. */
function squaredNorms({ data, rows, columns }: Matrix): Float64Array {
  const norms = new Float64Array(rows).fill(1);
  for (let at = 0; at < rows * columns; at++) norms[Math.floor(at / columns)] += data[at] ** 2;
  return norms;
}

function requireClasses(features: Matrix, labels: Int8Array): void {
  if (labels.length !== features.rows) {
    throw new RangeError(
      `Cannot train an SVM: there must be one label per row, found ${labels.length} for ${features.rows}`,
    );
  }
  const odd = labels.find((label) => label !== 1 && label !== -1);
  if (odd !== undefined) throw new RangeError(`Cannot train an SVM: labels must be 1 or -1, found ${odd}`);
  if (!labels.includes(1) || !labels.includes(-1)) {
    throw new RangeError("Cannot train an SVM: rows of both classes are needed, found one class only");
  }
}

/**
 * Trains a machine that tells rows labelled 1 from rows labelled −1. The same rows, options and seed give the same
 * weights.
 *
 * @throws RangeError when labels do not fit, or `cost` is not positive
 */
export function trainSvm(features: Matrix, labels: Int8Array, options: SvmOptions): Svm {
  const { cost, classWeights = [2, 1], iterationsMax = 2000, tolerance = 1e-4, seed = 0 } = options;
  requireClasses(features, labels);
  if (!(cost > 0)) throw new RangeError(`Cannot train an SVM: cost must be positive, found ${cost}`);
  const { rows, columns } = features;
  // The squared hinge adds 1 / (2 Cᵢ) to the diagonal of the dual and leaves α without an upper bound.
  const diagonal = Float64Array.from(labels, (label) => 0.5 / (cost * (label > 0 ? classWeights[0] : classWeights[1])));
  const norms = squaredNorms(features);
  const dual: Dual = { alpha: new Float64Array(rows), weights: new Float64Array(columns + 1) };
  const order = Uint32Array.from({ length: rows }, (_, i) => i);
  let active = rows, bound = Infinity, iterations = 0, converged = false;
  while (iterations < iterationsMax && !converged) {
    const random = randomStream({ seed, purpose: "svm order", indices: [iterations] });
    shuffle(order.subarray(0, active), random.permutation(active));
    const swept = sweep(dual, { features, labels, diagonal, norms, order, active, bound });
    active = swept.active;
    iterations++;
    bound = swept.largest > 0 ? swept.largest : Infinity;
    if (swept.largest - swept.least > tolerance) continue;
    if (active === rows) converged = true;
    else {
      // All that was shrunk is looked at once more.
      active = rows;
      bound = Infinity;
    }
  }
  return { weights: dual.weights.slice(0, columns), intercept: dual.weights[columns], iterations, converged };
}

function shuffle(order: Uint32Array, permutation: readonly number[] | Uint32Array): void {
  const before = order.slice();
  for (let i = 0; i < order.length; i++) order[i] = before[permutation[i]];
}

interface Sweep {
  readonly features: Matrix;
  readonly labels: Int8Array;
  readonly diagonal: Float64Array;
  readonly norms: Float64Array;
  /** Rows; the first `active` are visited. Shrunk rows are moved behind. */
  readonly order: Uint32Array;
  readonly active: number;
  /** Rows at α = 0 whose gradient is larger leave the active set. */
  readonly bound: number;
}

/** One pass over the active rows: the projected gradients' extremes, and how many rows stay active. */
function sweep(
  { alpha, weights }: Dual,
  { features, labels, diagonal, norms, order, active: before, bound }: Sweep,
): { largest: number; least: number; active: number } {
  let largest = -Infinity, least = Infinity, active = before;
  for (let at = 0; at < active; at++) {
    const row = order[at], label = labels[row];
    const gradient = label * margin(features, row, weights) - 1 + diagonal[row] * alpha[row];
    if (alpha[row] === 0 && gradient > bound) {
      active--;
      order[at] = order[active];
      order[active] = row;
      at--;
      continue;
    }
    const projected = alpha[row] === 0 ? Math.min(gradient, 0) : gradient;
    largest = Math.max(largest, projected);
    least = Math.min(least, projected);
    if (Math.abs(projected) <= 1e-12) continue;
    const old = alpha[row];
    alpha[row] = Math.max(old - gradient / (norms[row] + diagonal[row]), 0);
    addRow(features, row, { to: weights, factor: label * (alpha[row] - old) });
  }
  return { largest, least, active };
}

/** The signed distance times ‖w‖ of every row: larger is more like class 1. */
export function svmScores(features: Matrix, { weights, intercept }: Svm): Float64Array<ArrayBuffer> {
  const { data, rows, columns } = features;
  const scores = new Float64Array(rows).fill(intercept);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let k = 0; k < columns; k++, at++) scores[row] += weights[k] * data[at];
  }
  return scores;
}
