/**
 * Weighted k-nearest-neighbour classification by cosine (Wu et al., "Unsupervised Feature Learning via Non-Parametric
 * Instance Discrimination", 2018; k = 20 and T = 0.07 as solo-learn). A query counts as right only when it is right
 * however ties are broken, so that collapsed features, which tie everywhere, score nothing. It knows no image.
 */
import { type Matrix, normalizeRows, requireFinite } from "./matrix.ts";
import { kthLargest } from "./kth_largest.ts";
import { type Neighbours, neighboursBy } from "./neighbours.ts";
import { TIE_TOLERANCE } from "./similarity.ts";

/** Rows with a class each. */
export interface Labelled {
  readonly features: Matrix;
  /** Class of each row, from 0. */
  readonly labels: Uint32Array<ArrayBuffer>;
}

/** Options of {@linkcode knnAccuracy}. */
export interface KnnOptions {
  /** Neighbours that vote, at most as many as there are. @default 20 */
  readonly neighbours?: number;
  /** Temperature T of the vote exp(cosine / T). @default 0.07 */
  readonly temperature?: number;
  /** @default on the CPU */
  readonly nearest?: Neighbours;
}

/** What {@linkcode isSurelyRight} needs beside the scores. */
export interface Vote {
  /** Class of each gallery item. */
  readonly labels: Uint32Array;
  readonly classes: number;
  /** The query's class. */
  readonly label: number;
  readonly neighbours: number;
  readonly temperature: number;
}

/**
 * Rank of `label`, from 1, in the vote of the nearest items, however ties are broken: one more than the classes that may
 * get as many votes. Items tied at the edge of the neighbourhood are chosen against it: other classes first, and all of
 * them of the rival that is looked at.
 */
export function worstClassRank(scores: Float32Array, vote: Vote): number {
  const { labels, classes, label, temperature } = vote;
  const neighbours = Math.min(vote.neighbours, scores.length);
  const edge = kthLargest(scores, neighbours);
  const votes = new Float64Array(classes), tied = new Uint32Array(classes);
  let inside = 0;
  for (let item = 0; item < scores.length; item++) {
    if (scores[item] > edge + TIE_TOLERANCE) {
      inside++;
      // Less the edge: exp(1 / 0.07) alone is 1.6e6, and smaller T would overflow.
      votes[labels[item]] += Math.exp((scores[item] - edge) / temperature);
    } else if (scores[item] >= edge - TIE_TOLERANCE) tied[labels[item]]++;
  }
  const seats = neighbours - inside;
  const rivals = tied.reduce((sum, count) => sum + count, 0) - tied[label];
  const mine = votes[label] + Math.max(0, seats - rivals);
  let rank = 1;
  for (let rival = 0; rival < classes; rival++) {
    if (rival === label) continue;
    const theirs = votes[rival] + Math.min(seats, tied[rival]);
    if (theirs >= mine * (1 - 1e-9)) rank++;
  }
  return rank;
}

/** Whether the vote of the nearest items goes to `label` however ties are broken. */
export function isSurelyRight(scores: Float32Array, vote: Vote): boolean {
  return worstClassRank(scores, vote) === 1;
}

/** How one vote is held. */
export interface KnnSetting {
  /** Neighbours that vote, at most as many as there are. */
  readonly neighbours: number;
  /** Temperature T of the vote exp(cosine / T). */
  readonly temperature: number;
}

/**
 * Rank of each test row's own class among the votes of its nearest training rows ({@linkcode worstClassRank}), for several
 * settings over one computation of the scores. Items that are farther than the k-th nearest have no part in a vote.
 *
 * @throws RangeError when a set is empty, features and labels do not match, or a feature is not finite
 */
export async function knnRanks(
  train: Labelled,
  test: Labelled,
  { settings, nearest = neighboursBy() }: { settings: readonly KnnSetting[]; nearest?: Neighbours },
): Promise<Uint32Array<ArrayBuffer>[]> {
  const classes = requireLabels(train, test);
  const gallery = normalizeRows(train.features);
  const ranks = settings.map(() => new Uint32Array(test.features.rows));
  const count = Math.min(gallery.rows, Math.max(1, ...settings.map(({ neighbours }) => neighbours)));
  for await (const { query, items, scores } of nearest(normalizeRows(test.features), gallery, { count })) {
    const label = test.labels[query], labels = Uint32Array.from(items, (item) => train.labels[item]);
    settings.forEach((setting, s) => {
      ranks[s][query] = worstClassRank(scores, { labels, classes, label, ...setting });
    });
  }
  return ranks;
}

/**
 * Share of the test rows whose class the nearest training rows vote for, ties counted as wrong.
 *
 * @throws RangeError when a set is empty, features and labels do not match, or a feature is not finite
 */
export async function knnAccuracy(train: Labelled, test: Labelled, options: KnnOptions = {}): Promise<number> {
  const { neighbours = 20, temperature = 0.07, nearest } = options;
  const [ranks] = await knnRanks(train, test, { settings: [{ neighbours, temperature }], nearest });
  return ranks.filter((rank) => rank === 1).length / ranks.length;
}

/**
 * Number of classes over both sets.
 *
 * @throws RangeError when a set is empty, features and labels do not match, or a feature is not finite
 */
export function requireLabels(train: Labelled, test: Labelled): number {
  for (const [name, { features, labels }] of [["training", train], ["test", test]] as const) {
    if (features.rows === 0) throw new RangeError(`Cannot evaluate: the ${name} set must hold features, found none`);
    if (features.rows !== labels.length) {
      throw new RangeError(
        `Cannot evaluate: the ${name} set must have one label per row, found ${labels.length} for ${features.rows}`,
      );
    }
    requireFinite(features);
  }
  const largest = (labels: Uint32Array) => labels.reduce((a, b) => Math.max(a, b), 0);
  return Math.max(largest(train.labels), largest(test.labels)) + 1;
}
