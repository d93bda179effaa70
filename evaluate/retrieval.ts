/**
 * Retrieval across two sets: every query has exactly one right answer in the gallery (the same emoji by another artist).
 * The rank of the right answer counts every item that scores as well as it does, so ties count against. It knows no image.
 */
import { type Matrix, normalizeRows, requireFinite } from "./matrix.ts";
import { cpuSimilarity, type Similarity, TIE_TOLERANCE } from "./similarity.ts";

/** Shares of queries, and the mean of 1 / rank. */
export interface RetrievalResult {
  readonly queries: number;
  /** Share of queries whose right answer is alone in front. */
  readonly top1: number;
  /** Share of queries whose right answer is surely among the first five. */
  readonly top5: number;
  readonly meanReciprocalRank: number;
}

/** Options of {@linkcode retrieval}. */
export interface RetrievalOptions {
  /** Row of the right answer in the gallery, for each query. */
  readonly answers: Uint32Array<ArrayBuffer>;
  /** @default on the CPU */
  readonly similarity?: Similarity;
}

/** Rank of item `answer`, from 1: the number of items that score as well, itself included. */
export function worstRank(scores: Float32Array, answer: number): number {
  const bar = scores[answer] - TIE_TOLERANCE;
  let rank = 0;
  for (let item = 0; item < scores.length; item++) if (!(scores[item] < bar)) rank++;
  return rank;
}

/**
 * Finds each query's right answer in the gallery by cosine.
 *
 * @throws RangeError when there is no query, not one answer inside the gallery for each, or a feature is not
 * finite
 */
export async function retrieval(
  queries: Matrix,
  gallery: Matrix,
  { answers, similarity = cpuSimilarity }: RetrievalOptions,
): Promise<RetrievalResult> {
  if (queries.rows === 0) throw new RangeError("Cannot retrieve: there must be at least one query, found none");
  if (answers.length !== queries.rows) {
    throw new RangeError(
      `Cannot retrieve: each query must have one answer, found ${answers.length} for ${queries.rows}`,
    );
  }
  const outside = answers.find((answer) => answer >= gallery.rows);
  if (outside !== undefined) {
    throw new RangeError(`Cannot retrieve: answers must lie in the gallery of ${gallery.rows} rows, found ${outside}`);
  }
  requireFinite(queries);
  requireFinite(gallery);
  let first = 0, firstFive = 0, reciprocal = 0;
  for await (const block of similarity(normalizeRows(queries), normalizeRows(gallery))) {
    for (let row = 0; row < block.rows; row++) {
      const scores = block.scores.subarray(row * gallery.rows, (row + 1) * gallery.rows);
      const rank = worstRank(scores, answers[block.first + row]);
      if (rank <= 1) first++;
      if (rank <= 5) firstFive++;
      reciprocal += 1 / rank;
    }
  }
  const share = (count: number) => count / queries.rows;
  return {
    queries: queries.rows,
    top1: share(first),
    top5: share(firstFive),
    meanReciprocalRank: share(reciprocal),
  };
}
