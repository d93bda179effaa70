/**
 * Judges weights by one protocol, in a process that sees the GPU. What is measured is decided in `evaluate/`; all that can
 * be refused without a device is refused here.
 */
import { resolve } from "node:path";
import { ConfigError } from "../config.ts";
import { openEvaluationSet } from "../evaluate/labelled_set.ts";
import { lowShotIds, lowShotList, readLowShotList } from "../evaluate/low_shot.ts";
import { PROTOCOL_NAMES, type ProtocolResult, type ProtocolSettings, requireLabelling } from "../evaluate/protocols.ts";
import { RECIPES } from "../evaluate/recipes.ts";
import { nearest } from "../config/nearest.ts";
import type { ExtractionHostsOptions } from "./extraction_hosts.ts";
import { GpuClient, type OnProgress } from "./gpu_client.ts";
import { openWeights } from "./weights.ts";

/** Which of the training images a protocol learns from. */
export interface FewImages {
  /** A share of each class. */
  readonly share?: number;
  /** Images of each class. */
  readonly perClass?: number;
  /** A file that names them, one a line. */
  readonly list?: string;
}

/** Options of {@linkcode evaluateProtocol}. */
export interface EvaluateProtocolOptions {
  /** A run's folder, one of its checkpoints, or a file of weights in any format that `openWeights` reads. */
  readonly weights: string;
  /** Labelled images: a folder of classes, of PASCAL VOC or of idx files, or a list (`.csv`, `.txt`). */
  readonly data: string;
  /** Replaces published settings. */
  readonly settings?: ProtocolSettings;
  /** @default all training images */
  readonly few?: FewImages;
  /** Writes the names of the training images that were used to this file, for `few.list`. */
  readonly writeList?: string;
  /** Whose features: the trunk's, or the projection head's output. @default "trunk" */
  readonly features?: "trunk" | "head";
  /** Random weights in place of the file's, for comparison. @default false */
  readonly random?: boolean;
  /**
   * Processes that extract features, each with the adapter of the trainer of its number in the weights' run; the same bits
   * for any number on equal adapters. For protocols that do not train the network. @default 1
   */
  readonly trainers?: number;
  /** Waits for other hosts, among which the trainers are shared out in turn. @default this machine alone */
  readonly hosts?: ExtractionHostsOptions;
  readonly onProgress?: OnProgress;
  readonly log?: (line: string) => void;
}

/** Everything that the process with the GPU is told. */
export type ProtocolRequest =
  & Pick<EvaluateProtocolOptions, "weights" | "data" | "settings" | "features" | "random" | "trainers" | "hosts">
  & { readonly name: string; readonly trainIds?: readonly number[] };

/**
 * Runs a protocol of {@linkcode PROTOCOL_NAMES} on weights.
 *
 * ```ts
 * import { evaluateProtocol, formatProtocol } from "../mod.ts";
 *
 * if (import.meta.main) {
 *   const result = await evaluateProtocol("knn", { weights: "runs/mine", data: "images", settings: { neighbours: [20] } });
 *   console.log(formatProtocol(result));
 * }
 * ```
 *
 * @throws {ConfigError} when there is no such protocol, or options contradict each other
 * @throws {WeightsError} when the weights do not fit
 * @throws {Error} when the images have no labels that the protocol can use
 */
export async function evaluateProtocol(name: string, options: EvaluateProtocolOptions): Promise<ProtocolResult> {
  const { onProgress, log = () => {}, settings, features, random, hosts, trainers = 1 } = options;
  if (!PROTOCOL_NAMES.includes(name as typeof PROTOCOL_NAMES[number])) {
    throw new ConfigError(
      "protocol",
      `there is no protocol "${name}"; did you mean "${nearest(name, PROTOCOL_NAMES)}"? Known: ${
        PROTOCOL_NAMES.join(", ")
      }`,
    );
  }
  if (trainers > 1 && Object.hasOwn(RECIPES, name)) {
    throw new ConfigError(
      "trainers",
      `cannot share ${name} among ${trainers} trainers: it trains on one device; leave --trainers out, or use knn, ` +
        "retrieval, svm or low-shot-svm",
    );
  }
  if (hosts !== undefined && (hosts.count < 2 || trainers < hosts.count)) {
    throw new ConfigError(
      "hosts",
      `cannot share ${name} among ${hosts.count} hosts: at least 2 are needed, and a trainer for each, found ${trainers}`,
    );
  }
  const weights = resolve(options.weights), data = resolve(options.data);
  await openWeights(weights);
  const trainIds = await fewTrainIds(name, { ...options, data });
  const client = await GpuClient.start(log);
  try {
    const request = {
      kind: "protocol",
      name,
      weights,
      data,
      settings,
      features,
      random,
      trainIds,
      trainers,
      hosts,
    } as const;
    const { answer } = await client.request(request, onProgress);
    if (answer.kind !== "result") throw new TypeError(`expected a result, found ${answer.kind}`);
    return answer.result;
  } finally {
    await client.close();
  }
}

/** The training images to use; `undefined` for all. */
async function fewTrainIds(
  name: string,
  { data, few = {}, settings, writeList }: EvaluateProtocolOptions,
): Promise<number[] | undefined> {
  const { source, protocol } = await openEvaluationSet(data);
  requireLabelling(name, protocol);
  const { share, perClass, list } = few;
  const given = [share, perClass, list].filter((value) => value !== undefined).length;
  if (given > 1) throw new ConfigError("share", "only one of --share, --per-class and --list can be given");
  const seed = settings?.seed;
  const draw = () => {
    if (share !== undefined) return lowShotIds(source, protocol, { share, seed });
    return perClass === undefined ? undefined : lowShotIds(source, protocol, { perClass, seed });
  };
  const ids = list === undefined ? draw() : readLowShotList(await Deno.readTextFile(list), source, protocol);
  if (writeList !== undefined) await Deno.writeTextFile(writeList, lowShotList(source, ids ?? protocol.train.ids));
  return ids;
}
