/**
 * The baseline without any network: the pixels themselves. It is there for honesty, so that a table shows what colour and
 * shape alone are worth.
 */
import type { Embed } from "./features.ts";
import { centreColumns, columnStatistics, type Matrix } from "./matrix.ts";

/** Side in pixels to which images are shrunk before their pixels are features. */
export const PIXEL_SIDE = 16;

/** The identity: normalised pixels `[N, size, size, 3]` as features. */
export const pixelEmbedding: Embed = (images) => images;

/**
 * Pixel features of two sets: each column less its mean over the training set, so that a cosine compares what is drawn
 * rather than how bright the paper is.
 */
export function centrePixels(train: Matrix, test: Matrix): { train: Matrix; test: Matrix } {
  const statistics = columnStatistics(train);
  return { train: centreColumns(train, statistics), test: centreColumns(test, statistics) };
}
