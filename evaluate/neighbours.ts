/**
 * The nearest gallery items of each query: enough of them for a vote among the k nearest however ties are broken. This one
 * computes on the CPU; `device_similarity.ts` does it on a device and reads back no more than these. It knows no label.
 */
import { kthLargest } from "./kth_largest.ts";
import type { Matrix } from "./matrix.ts";
import { cpuSimilarity, type Similarity, TIE_TOLERANCE } from "./similarity.ts";

/** A query's nearest items: at least all whose scores are within {@linkcode TIE_TOLERANCE} of the k-th best. */
export interface Near {
  readonly query: number;
  /** Rows of the gallery, ascending. */
  readonly items: Uint32Array<ArrayBuffer>;
  readonly scores: Float32Array<ArrayBuffer>;
}

/** The nearest items of all queries, in their order. `count` is k, at most the gallery's rows. */
export type Neighbours = (
  queries: Matrix,
  gallery: Matrix,
  options: { readonly count: number },
) => AsyncIterable<Near>;

/** {@linkcode Neighbours} out of whole rows of scores. */
export function neighboursBy(similarity: Similarity = cpuSimilarity): Neighbours {
  return async function* (queries, gallery, { count }) {
    for await (const block of similarity(queries, gallery)) {
      for (let row = 0; row < block.rows; row++) {
        const line = block.scores.subarray(row * gallery.rows, (row + 1) * gallery.rows);
        const least = kthLargest(line, Math.min(count, gallery.rows)) - TIE_TOLERANCE;
        const items: number[] = [];
        for (let item = 0; item < line.length; item++) if (line[item] >= least) items.push(item);
        yield {
          query: block.first + row,
          items: Uint32Array.from(items),
          scores: Float32Array.from(items, (item) => line[item]),
        };
      }
    }
  };
}
