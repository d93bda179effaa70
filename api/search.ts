/** Nearest neighbours among rows of features, by cosine. It knows no image. */
import { type Matrix, normalizeRows } from "../evaluate/matrix.ts";
import { cpuSimilarity } from "../evaluate/similarity.ts";

/** One row found. */
export interface Neighbour {
  /** Row in the gallery. */
  readonly index: number;
  /** Cosine of the angle between the two rows, −1 to 1. */
  readonly similarity: number;
}

/** Options of {@linkcode nearestNeighbours}. */
export interface NeighbourOptions {
  /** Neighbours of each query. @default 5 */
  readonly count?: number;
  /** Leave out row i of the gallery for query i, where both are the same rows. @default false */
  readonly excludeSelf?: boolean;
}

/**
 * The rows of `gallery` nearest to each row of `queries`, most similar first; of equal ones the lower row first.
 *
 * @param queries `[Q, C]`
 * @param gallery `[N, C]`
 * @throws {RangeError} when the rows have different lengths, or `count` is not a positive integer.
 *
 * @example
 * ```ts
 * import { nearestNeighbours } from "./search.ts";
 * const rows = { data: new Float32Array([1, 0, 0, 1, 0.9, 0.1]), rows: 3, columns: 2 };
 * const [first] = await nearestNeighbours(rows, rows, { count: 1, excludeSelf: true });
 * if (first[0].index !== 2) throw new Error("expected the row that points almost the same way");
 * ```
 */
export async function nearestNeighbours(
  queries: Matrix,
  gallery: Matrix,
  options: NeighbourOptions = {},
): Promise<Neighbour[][]> {
  const { count = 5, excludeSelf = false } = options;
  if (!Number.isInteger(count) || count < 1) {
    throw new RangeError(`Cannot search: count must be a positive integer, found ${count}`);
  }
  const found: Neighbour[][] = [];
  for await (const { first, rows, scores } of cpuSimilarity(normalizeRows(queries), normalizeRows(gallery))) {
    for (let row = 0; row < rows; row++) {
      const own = scores.subarray(row * gallery.rows, (row + 1) * gallery.rows);
      const order = Array.from(own, (similarity, index) => ({ index, similarity }))
        .filter(({ index }) => !excludeSelf || index !== first + row)
        .sort((a, b) => b.similarity - a.similarity || a.index - b.index);
      found.push(order.slice(0, count));
    }
  }
  return found;
}
