/**
 * Sinkhorn-Knopp: scores to codes whose rows sum to 1 and whose columns are used about equally.
 */

/** Static shape and settings. */
export interface SinkhornOptions {
  readonly samples: number;
  readonly prototypes: number;
  readonly epsilon: number;
  readonly iterations: number;
}

/**
 * Scores `[samples, prototypes]` → codes of the same shape; f64 inside. The maximum of all scores is subtracted before
 * exp; prototypes are scaled first and samples last, so each row sums to 1. When a prototype's sum is 0, 1e-12 is added to
 * all entries. Source: SwAV's `distributed_sinkhorn`, VISSL's `distibuted_sinkhornknopp.py`.
 */
export function sinkhornReference(scores: Float32Array, options: SinkhornOptions): Float32Array<ArrayBuffer> {
  const { samples, prototypes, epsilon, iterations } = options;
  let max = -Infinity;
  for (const score of scores) max = Math.max(max, score);
  const q = Float64Array.from(scores, (score) => Math.exp((score - max) / epsilon));
  const sums = new Float64Array(prototypes);
  for (let iteration = 0; iteration < iterations; iteration++) {
    sumColumns(q, sums);
    if (sums.some((sum) => sum === 0)) {
      for (let i = 0; i < q.length; i++) q[i] += 1e-12;
      sumColumns(q, sums);
    }
    for (let i = 0, k = 0; i < q.length; i++, k = k + 1 === prototypes ? 0 : k + 1) q[i] /= sums[k] * prototypes;
    normalizeRows(q, prototypes, 1 / samples);
  }
  normalizeRows(q, prototypes, 1);
  return Float32Array.from(q);
}

function sumColumns(q: Float64Array, sums: Float64Array): void {
  const columns = sums.length;
  sums.fill(0);
  for (let i = 0, k = 0; i < q.length; i++, k = k + 1 === columns ? 0 : k + 1) sums[k] += q[i];
}

function normalizeRows(q: Float64Array, columns: number, target: number): void {
  for (let start = 0; start < q.length; start += columns) {
    let sum = 0;
    for (let k = 0; k < columns; k++) sum += q[start + k];
    for (let k = 0; k < columns; k++) q[start + k] *= target / sum;
  }
}
