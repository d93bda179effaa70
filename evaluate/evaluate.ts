/**
 * A whole evaluation of some embeddings on a folder of labelled images: k-NN, linear probe and, between two sets of the
 * same things, retrieval, beside raw pixels. It knows no checkpoint and no run.
 */
import { deviceLinearProbe } from "./device_probe.ts";
import { deviceSimilarity, nearestOn } from "./device_similarity.ts";
import type { Device } from "../device/device.ts";
import type { Normalisation } from "../tensor/augment.ts";
import { type Embed, type Extracted, extractFeatures, type ImageReader, type View } from "./features.ts";
import { knnAccuracy, type KnnOptions, type Labelled } from "./knn.ts";
import { completeProbe, linearProbe, type ProbeOptions } from "./linear_probe.ts";
import { takeRows } from "./matrix.ts";
import { centrePixels, PIXEL_SIDE, pixelEmbedding } from "./pixels.ts";
import type { Protocol } from "./protocol.ts";
import type { EvaluationReport, EvaluationRow } from "./report.ts";
import { retrieval, type RetrievalResult } from "./retrieval.ts";

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
  readonly knn?: Omit<KnnOptions, "nearest">;
  readonly probe?: ProbeOptions;
  /** Called as features are extracted: what, how many images of how many. */
  readonly progress?: (name: string, done: number, total: number) => void;
}

/** Features with the protocol's classes. */
export function labelled(extracted: Extracted, protocol: Protocol): Labelled {
  return { features: extracted.features, labels: Uint32Array.from(extracted.ids, (id) => protocol.labelOf(id)) };
}

async function retrievePairs(
  train: Extracted,
  test: Extracted,
  { protocol, device }: Pick<EvaluateOptions, "protocol" | "device">,
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
    similarity: deviceSimilarity(device),
  });
}

/** Multiply-adds above which a linear probe is worth a device. */
const PROBE_DEVICE_MACS = 4e9;

/** Accuracy of the linear probe, on the device where that is worth it. */
export async function probeAccuracyOf(
  train: Labelled,
  test: Labelled,
  { device, protocol, probe = {} }: Pick<EvaluateOptions, "device" | "protocol" | "probe">,
): Promise<number> {
  const { epochs } = completeProbe(probe);
  const macs = 2 * epochs * train.features.data.length * protocol.classes.length;
  return macs > PROBE_DEVICE_MACS
    ? await deviceLinearProbe(train, test, { device, ...probe })
    : linearProbe(train, test, probe);
}

/** All figures of features that are extracted already. */
export async function evaluateFeatures(
  train: Extracted,
  test: Extracted,
  options: Pick<EvaluateOptions, "device" | "protocol" | "knn" | "probe"> & { name: string },
): Promise<EvaluationRow> {
  const { name, device, protocol, knn } = options;
  const sets = { train: labelled(train, protocol), test: labelled(test, protocol) };
  const found = await retrievePairs(train, test, options);
  return {
    name,
    width: train.features.columns,
    knn: await knnAccuracy(sets.train, sets.test, { ...knn, nearest: nearestOn(device) }),
    linear: await probeAccuracyOf(sets.train, sets.test, options),
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
 * @throws RangeError when there is nothing to evaluate, or a candidate's features are not finite
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
  let sets: { train: Extracted; test: Extracted } | undefined;
  for (const { name, embed } of candidates) {
    sets = await extract(name, { embed, side: size });
    rows.push(await evaluateFeatures(sets.train, sets.test, { ...options, name }));
  }
  if (pixels) {
    const raw = await extract("pixels", { embed: pixelEmbedding, side: Math.min(size, PIXEL_SIDE) });
    const centred = centrePixels(raw.train.features, raw.test.features);
    sets = { train: { ...raw.train, features: centred.train }, test: { ...raw.test, features: centred.test } };
    rows.push(await evaluateFeatures(sets.train, sets.test, { ...options, name: "pixels" }));
  }
  if (sets === undefined) {
    throw new RangeError("Cannot evaluate: there must be a candidate or the pixels, found neither");
  }
  return {
    train: { name: protocol.train.name, images: sets.train.ids.length },
    test: { name: protocol.test.name, images: sets.test.ids.length },
    classes: protocol.classes,
    largestClass: largestClassShare(labelled(sets.train, protocol), labelled(sets.test, protocol)),
    imageSize: size,
    rows,
    unreadable: [...images.unreadable.keys()].map((id) => images.source.name(id)).sort(),
  };
}
