/**
 * The world-wide assignment: scores of all replicas, queue rows included, become one Sinkhorn problem per assign crop, and
 * each replica gets the codes of its own samples. Pure arithmetic on the CPU; who gathers the scores is not known here.
 */
import { sinkhornReference } from "../kernels/sinkhorn.ts";

/** One replica's scores, `[assignCrops, rows, prototypes]`; the first `batch` rows are this step's samples. */
export interface ReplicaScores {
  readonly batch: number;
  readonly rows: number;
  readonly scores: Float32Array<ArrayBuffer>;
}

/** Options of {@linkcode assignWorld}. */
export interface AssignOptions {
  /** Assign crops. */
  readonly crops: number;
  readonly prototypes: number;
  readonly epsilon: number;
  readonly iterations: number;
  /** Round each code to its largest entry. @default false */
  readonly hard?: boolean;
}

/** Codes of each replica, `[assignCrops, batch, prototypes]`, and how evenly the samples use the prototypes. */
export interface Assignment {
  readonly codes: readonly Float32Array<ArrayBuffer>[];
  /** exp of the entropy of the mean code: 1 … prototypes. */
  readonly perplexity: number;
}

/**
 * Assigns the samples of all replicas, given in the order of their ids. Each row of the codes sums to 1.
 *
 * Source: SwAV (arXiv 2006.09882) section 3.1; world-wide as in VISSL's `distibuted_sinkhornknopp.py`.
 *
 * @throws {RangeError} when a replica's scores do not have `crops · rows · prototypes` numbers.
 */
export function assignWorld(replicas: readonly ReplicaScores[], options: AssignOptions): Assignment {
  const { crops, prototypes, epsilon, iterations, hard = false } = options;
  const codes = replicas.map(({ batch }) => new Float32Array(crops * batch * prototypes));
  const use = new Float64Array(prototypes);
  const samples = replicas.reduce((sum, { rows }) => sum + rows, 0);
  for (const [index, { scores, rows }] of replicas.entries()) {
    if (scores.length === crops * rows * prototypes) continue;
    throw new RangeError(
      `Cannot assign: replica ${index} must send ${crops} × ${rows} × ${prototypes} scores, it sent ${scores.length}`,
    );
  }
  for (let crop = 0; crop < crops; crop++) {
    const world = new Float32Array(samples * prototypes);
    forEachReplica(replicas, (index, first) => {
      const { scores, rows } = replicas[index];
      const size = rows * prototypes;
      world.set(scores.subarray(crop * size, (crop + 1) * size), first * prototypes);
    });
    const assigned = sinkhornReference(world, { samples, prototypes, epsilon, iterations });
    forEachReplica(replicas, (index, first) => {
      const own = assigned.subarray(first * prototypes, (first + replicas[index].batch) * prototypes);
      const target = codes[index].subarray(crop * own.length, (crop + 1) * own.length);
      target.set(own);
      if (hard) roundRows(target, prototypes);
      for (let i = 0; i < target.length; i++) use[i % prototypes] += target[i];
    });
  }
  return { codes, perplexity: perplexityOf(use) };
}

function forEachReplica(replicas: readonly ReplicaScores[], visit: (index: number, firstRow: number) => void): void {
  let first = 0;
  replicas.forEach(({ rows }, index) => {
    visit(index, first);
    first += rows;
  });
}

/** Makes each row one-hot at its largest entry, the first of equals. */
function roundRows(rows: Float32Array, columns: number): void {
  for (let start = 0; start < rows.length; start += columns) {
    const row = rows.subarray(start, start + columns);
    let best = 0;
    for (let k = 1; k < columns; k++) if (row[k] > row[best]) best = k;
    row.fill(0);
    row[best] = 1;
  }
}

function perplexityOf(use: Float64Array): number {
  const total = use.reduce((sum, value) => sum + value, 0);
  let entropy = 0;
  for (const value of use) if (value > 0) entropy -= (value / total) * Math.log(value / total);
  return Math.exp(entropy);
}
