/**
 * Scores of queries against a gallery, a block of queries at a time, so that the whole table of scores never has to exist.
 * This one computes on the CPU; `device_similarity.ts` computes the same on a device. It knows no label.
 */
import type { Matrix } from "./matrix.ts";

/** Scores of some consecutive queries: row i of `scores` `[rows, gallery rows]` is query `first + i`. */
export interface ScoreBlock {
  readonly first: number;
  readonly rows: number;
  readonly scores: Float32Array<ArrayBuffer>;
}

/** Dot products of all queries with the whole gallery, block by block. */
export type Similarity = (queries: Matrix, gallery: Matrix) => AsyncIterable<ScoreBlock> | Iterable<ScoreBlock>;

/**
 * Cosines that differ by less count as equal: rounding of f32 dot products is about 1e-7, and an order made of rounding
 * errors is no knowledge.
 */
export const TIE_TOLERANCE = 1e-6;

/** Scores of a block: 4 MiB. */
export const BLOCK_FLOATS = 1 << 20;

/** Queries in a block, so that its scores take about 4 MiB. */
export function blockRows(gallery: Matrix): number {
  return Math.max(1, Math.floor(BLOCK_FLOATS / Math.max(1, gallery.rows)));
}

/** @throws RangeError when the two matrices have different columns */
export function requireSameColumns(queries: Matrix, gallery: Matrix): void {
  if (queries.columns === gallery.columns) return;
  throw new RangeError(
    `Cannot compare features: queries and gallery must have the same columns, found ${queries.columns} and ${gallery.columns}`,
  );
}

/** {@linkcode Similarity} on the CPU, summed in double precision. */
export function* cpuSimilarity(queries: Matrix, gallery: Matrix): Iterable<ScoreBlock> {
  requireSameColumns(queries, gallery);
  const { columns } = queries;
  const step = blockRows(gallery);
  for (let first = 0; first < queries.rows; first += step) {
    const rows = Math.min(step, queries.rows - first);
    const scores = new Float32Array(rows * gallery.rows);
    for (let row = 0; row < rows; row++) {
      const query = queries.data.subarray((first + row) * columns, (first + row + 1) * columns);
      for (let item = 0; item < gallery.rows; item++) {
        scores[row * gallery.rows + item] = dot(query, gallery.data, item * columns);
      }
    }
    yield { first, rows, scores };
  }
}

function dot(a: Float32Array, b: Float32Array, offset: number): number {
  // Two sums: the additions of one would wait for each other.
  let even = 0, odd = 0;
  const pairs = a.length & ~1;
  for (let k = 0; k < pairs; k += 2) {
    even += a[k] * b[offset + k];
    odd += a[k + 1] * b[offset + k + 1];
  }
  if (pairs < a.length) even += a[pairs] * b[offset + pairs];
  return even + odd;
}
