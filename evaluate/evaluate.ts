/**
 * A whole evaluation of some embeddings on a folder of labelled images: k-NN, linear probe and, between two sets of the
 * same things, retrieval, beside raw pixels. It knows no checkpoint and no run.
 */
import type { Device } from "../device/device.ts";
import type { Normalisation } from "../tensor/augment.ts";
import { type Embed, type Extracted, extractFeatures, type ImageReader, type View } from "./features.ts";
import { knnAccuracy, type KnnOptions, type Labelled } from "./knn.ts";
import { linearProbe, type ProbeOptions } from "./linear_probe.ts";
import { takeRows } from "./matrix.ts";
import { centrePixels, PIXEL_SIDE, pixelEmbedding } from "./pixels.ts";
import type { Protocol } from "./protocol.ts";
import type { EvaluationReport, EvaluationRow } from "./report.ts";
import { retrieval, type RetrievalResult } from "./retrieval.ts";
import type { Similarity } from "./similarity.ts";

/** Something to evaluate. */
export interface Candidate {
  /** What the report calls it, e.g. `"trained"`. */
  readonly name: string;
  readonly embed: Embed;
}

/** Options of {@linkcode evaluate}. */
export interface EvaluateOptions {
  readonly device: Device;
  readonly images: ImageReader;
  readonly protocol: Protocol;
  readonly candidates: readonly Candidate[];
  /** Side of the square that the embeddings see, in pixels. */
  readonly size: number;
  /** @default "whole" for two sets, "centre" for a split folder */
  readonly view?: View;
  /** Adds the row of raw pixels. @default true */
  readonly pixels?: boolean;
  /** Images at a time. @default 64 */
  readonly batch?: number;
  readonly normalisation?: Normalisation;
  readonly knn?: Omit<KnnOptions, "similarity">;
  readonly probe?: ProbeOptions;
  /** @default on the CPU */
  readonly similarity?: Similarity;
  /** Called as features are extracted: what, how many images of how many. */
  readonly progress?: (name: string, done: number, total: number) => void;
}

function labelled(extracted: Extracted, protocol: Protocol): Labelled {
  return { features: extracted.features, labels: Uint32Array.from(extracted.ids, (id) => protocol.labelOf(id)) };
}

async function retrievePairs(
  train: Extracted,
  test: Extracted,
  { protocol, similarity }: Pick<EvaluateOptions, "protocol" | "similarity">,
): Promise<RetrievalResult | undefined> {
  const rowOf = new Map(train.ids.map((id, row) => [id, row]));
  const queries: number[] = [], answers: number[] = [];
  test.ids.forEach((id, row) => {
    const partner = protocol.pairs.get(id);
    const answer = partner === undefined ? undefined : rowOf.get(partner);
    if (answer === undefined) return;
    queries.push(row);
    answers.push(answer);
  });
  if (queries.length === 0) return undefined;
  return await retrieval(takeRows(test.features, queries), takeRows(train.features, answers), {
    answers: Uint32Array.from(answers, (_, i) => i),
    similarity,
  });
}

/** All figures of features that are extracted already. */
export async function evaluateFeatures(
  train: Extracted,
  test: Extracted,
  options: Pick<EvaluateOptions, "protocol" | "knn" | "probe" | "similarity"> & { name: string },
): Promise<EvaluationRow> {
  const { name, protocol, knn, probe, similarity } = options;
  const sets = { train: labelled(train, protocol), test: labelled(test, protocol) };
  const found = await retrievePairs(train, test, { protocol, similarity });
  return {
    name,
    width: train.features.columns,
    knn: await knnAccuracy(sets.train, sets.test, { ...knn, similarity }),
    linear: linearProbe(sets.train, sets.test, probe),
    ...(found === undefined ? {} : { retrieval: found }),
  };
}

/** Share of the test labels that are the most frequent training label. */
function largestClassShare(train: Labelled, test: Labelled): number {
  const counts = new Map<number, number>();
  for (const label of train.labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  const [largest] = [...counts].reduce((best, entry) => entry[1] > best[1] ? entry : best);
  return test.labels.filter((label) => label === largest).length / test.labels.length;
}

/**
 * Evaluates every candidate, and raw pixels, under one protocol.
 *
 * @throws Error when a subset has no readable image
 * @throws RangeError when a candidate's features are not finite
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluationReport> {
  const { protocol, images, candidates, size, pixels = true, progress } = options;
  const view = options.view ?? (protocol.kind === "sets" ? "whole" : "centre");
  const extract = async (name: string, { embed, side }: { embed: Embed; side: number }) => {
    const total = protocol.train.ids.length + protocol.test.ids.length;
    const part = (ids: readonly number[], before: number) =>
      extractFeatures({
        ...options,
        ids,
        embed,
        size: side,
        view,
        progress: (done) => progress?.(name, before + done, total),
      });
    return { train: await part(protocol.train.ids, 0), test: await part(protocol.test.ids, protocol.train.ids.length) };
  };
  const rows: EvaluationRow[] = [];
  for (const { name, embed } of candidates) {
    const sets = await extract(name, { embed, side: size });
    rows.push(await evaluateFeatures(sets.train, sets.test, { ...options, name }));
  }
  const raw = await extract("pixels", { embed: pixelEmbedding, side: Math.min(size, PIXEL_SIDE) });
  if (pixels) {
    const centred = centrePixels(raw.train.features, raw.test.features);
    const train = { ...raw.train, features: centred.train }, test = { ...raw.test, features: centred.test };
    rows.push(await evaluateFeatures(train, test, { ...options, name: "pixels" }));
  }
  return {
    train: { name: protocol.train.name, images: raw.train.ids.length },
    test: { name: protocol.test.name, images: raw.test.ids.length },
    classes: protocol.classes,
    largestClass: largestClassShare(labelled(raw.train, protocol), labelled(raw.test, protocol)),
    imageSize: size,
    rows,
    unreadable: [...images.unreadable.keys()].map((id) => images.source.name(id)).sort(),
  };
}
