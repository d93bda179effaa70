/**
 * Top-1 accuracy of a network that is still being trained, with the figures of `evaluate.ts`: the last snapshot of a run
 * gets what the finished run gets. It knows no checkpoint and no actor.
 */
import { nearestOn } from "./device_similarity.ts";
import { type EvaluateOptions, labelled, probeAccuracyOf } from "./evaluate.ts";
import { type Embed, extractFeatures } from "./features.ts";
import { knnAccuracy } from "./knn.ts";

/** How a snapshot can be judged. */
export type OnlineProtocol = "knn" | "linear";

/** One protocol's figure. */
export interface OnlineResult {
  readonly protocol: OnlineProtocol;
  /** Share of the test images whose class came first alone. */
  readonly top1: number;
}

/** Options of {@linkcode judge}. */
export type JudgeOptions =
  & Pick<EvaluateOptions, "device" | "images" | "protocol" | "size" | "batch" | "normalisation" | "progress">
  & { readonly embed: Embed; readonly protocols: readonly OnlineProtocol[] };

/**
 * Judges one state of a network.
 *
 * @throws {Error} when a subset has no readable image
 * @throws {RangeError} when a feature is not finite
 */
export async function judge(options: JudgeOptions): Promise<OnlineResult[]> {
  const { device, protocol, protocols, progress } = options;
  const view = protocol.kind === "sets" ? "whole" : "centre";
  const extract = async (name: string, ids: readonly number[]) => {
    const told = (done: number, total: number) => progress?.(name, done, total);
    return labelled(await extractFeatures({ ...options, ids, view, progress: told }), protocol);
  };
  const train = await extract("training images", protocol.train.ids);
  const test = await extract("test images", protocol.test.ids);
  const results: OnlineResult[] = [];
  for (const name of protocols) {
    const top1 = name === "knn"
      ? await knnAccuracy(train, test, { nearest: nearestOn(device) })
      : await probeAccuracyOf(train, test, { device, protocol });
    results.push({ protocol: name, top1 });
  }
  return results;
}
