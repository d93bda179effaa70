/**
 * Retrieval across two sets: every query has exactly one right answer in the gallery (the same emoji by another artist).
 * The rank of the right answer counts every item that scores as well as it does, so ties count against. It knows no image.
 */
import { averagePrecision } from "./average_precision.ts";
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

/** Options of {@linkcode classRetrieval}. */
export interface ClassRetrievalOptions {
  /** Class of each query, and of each gallery item. */
  readonly queryLabels: Uint32Array<ArrayBuffer>;
  readonly galleryLabels: Uint32Array<ArrayBuffer>;
  /** Row of the gallery that is the query itself, left out of its results; −1 for none. @default none */
  readonly selfOf?: Int32Array<ArrayBuffer>;
  /** Numbers of results k of recall@k. @default [1, 5, 10] */
  readonly recallAt?: readonly number[];
  /** @default on the CPU */
  readonly similarity?: Similarity;
}

/** Shares over the queries that have an image of their class in the gallery. */
export interface ClassRetrievalResult {
  readonly queries: number;
  /** Mean over queries of the average precision of the whole ranking, ties as one threshold. */
  readonly meanAveragePrecision: number;
  /** Share of queries with an image of their class surely among the first k, for each k asked. */
  readonly recall: readonly { readonly k: number; readonly share: number }[];
}

/**
 * Retrieval of images of the same class by cosine: every query ranks the whole gallery.
 *
 * @throws RangeError when labels do not match, a feature is not finite, or no query has its class in the gallery
 */
export async function classRetrieval(
  queries: Matrix,
  gallery: Matrix,
  options: ClassRetrievalOptions,
): Promise<ClassRetrievalResult> {
  const { queryLabels, galleryLabels, selfOf, recallAt = [1, 5, 10], similarity = cpuSimilarity } = options;
  if (queryLabels.length !== queries.rows || galleryLabels.length !== gallery.rows) {
    throw new RangeError(
      `Cannot retrieve: queries and gallery must have one label per row, found ${queryLabels.length} for ` +
        `${queries.rows} and ${galleryLabels.length} for ${gallery.rows}`,
    );
  }
  requireFinite(queries);
  requireFinite(gallery);
  const found = recallAt.map(() => 0);
  let judged = 0, precision = 0;
  for await (const block of similarity(normalizeRows(queries), normalizeRows(gallery))) {
    for (let row = 0; row < block.rows; row++) {
      const query = block.first + row, self = selfOf?.[query] ?? -1;
      const scores = block.scores.subarray(row * gallery.rows, (row + 1) * gallery.rows);
      const marks = Int8Array.from(galleryLabels, (label, item) => {
        return item === self ? -1 : label === queryLabels[query] ? 1 : 0;
      });
      if (!marks.includes(1)) continue;
      judged++;
      precision += averagePrecision(scores, marks);
      const rank = firstRelevantRank(scores, marks);
      recallAt.forEach((k, at) => {
        if (rank <= k) found[at]++;
      });
    }
  }
  if (judged === 0) throw new RangeError("Cannot retrieve: no query has an image of its class in the gallery");
  return {
    queries: judged,
    meanAveragePrecision: precision / judged,
    recall: recallAt.map((k, at) => ({ k, share: found[at] / judged })),
  };
}

/** Rank of the best item marked 1, behind every item marked 0 that scores as well. */
function firstRelevantRank(scores: Float32Array, marks: Int8Array): number {
  let best = -Infinity;
  for (let item = 0; item < scores.length; item++) if (marks[item] === 1) best = Math.max(best, scores[item]);
  let rank = 1;
  for (let item = 0; item < scores.length; item++) {
    if (marks[item] === 0 && !(scores[item] < best - TIE_TOLERANCE)) rank++;
  }
  return rank;
}
