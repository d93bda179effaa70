/**
 * What a classification achieved: shares of right answers with their uncertainty, from the rank that the right class had
 * for each image. It knows no features and no classifier.
 */

/** Shares of test images, 0 to 1. */
export interface ClassificationResult {
  readonly images: number;
  /** Share whose own class came first, alone. */
  readonly top1: number;
  /** Share whose own class was surely among the first five; `undefined` with five classes or fewer. */
  readonly top5?: number;
  /** 95% confidence interval of `top1` (Wilson's score interval, 1927). */
  readonly interval: readonly [low: number, high: number];
  /** `top1` of each class, by class; `undefined` for one without test images. */
  readonly perClass: readonly (number | undefined)[];
  /** Mean of `perClass`: what counts where classes differ in size. */
  readonly meanPerClass: number;
}

/**
 * Wilson's interval of a share at 95% confidence: unlike share ± error it stays inside 0 … 1 and has a width at 0 and 1.
 */
export function wilsonInterval(right: number, total: number): [low: number, high: number] {
  const z = 1.959963984540054;
  const share = right / total;
  const centre = share + z ** 2 / (2 * total);
  const spread = z * Math.sqrt(share * (1 - share) / total + z ** 2 / (4 * total ** 2));
  const scale = 1 + z ** 2 / total;
  return [Math.max(0, (centre - spread) / scale), Math.min(1, (centre + spread) / scale)];
}

/**
 * The result of ranks: `ranks[i]` from 1 is that of class `labels[i]` for image i.
 *
 * @throws RangeError when there is no image, or not one rank per label
 */
export function classificationResult(
  ranks: Uint32Array,
  labels: Uint32Array,
  { classes }: { classes: number },
): ClassificationResult {
  if (ranks.length === 0 || ranks.length !== labels.length) {
    throw new RangeError(
      `Cannot judge a classification: there must be images with one label each, found ${ranks.length} and ${labels.length}`,
    );
  }
  const count = (rankMax: number) => ranks.filter((rank) => rank <= rankMax).length;
  const totals = new Uint32Array(classes), right = new Uint32Array(classes);
  ranks.forEach((rank, i) => {
    totals[labels[i]]++;
    if (rank === 1) right[labels[i]]++;
  });
  const perClass = Array.from(totals, (total, c) => total === 0 ? undefined : right[c] / total);
  const known = perClass.filter((share) => share !== undefined);
  return {
    images: ranks.length,
    top1: count(1) / ranks.length,
    ...(classes > 5 ? { top5: count(5) / ranks.length } : {}),
    interval: wilsonInterval(count(1), ranks.length),
    perClass,
    meanPerClass: known.reduce((sum, share) => sum + share, 0) / known.length,
  };
}

/** Rank of each row's own class by its scores `[rows, classes]`: the number of classes that score as well, itself included. */
export function scoreRanks(scores: ArrayLike<number>, labels: Uint32Array, classes: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(labels, (label, row) => {
    const mine = scores[row * classes + label];
    let rank = 0;
    for (let c = 0; c < classes; c++) if (!(scores[row * classes + c] < mine)) rank++;
    return rank;
  });
}
