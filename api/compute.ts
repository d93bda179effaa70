/**
 * Work on a trained trunk that needs a device: features of image files, and a whole evaluation. It runs in the process of
 * `gpu_child.ts`; what others call is in `trunk.ts` and `evaluate_run.ts`.
 */
import { buildMethod } from "../actors/engine/method.ts";
import { f32Of, readSafetensors, type SafeTensor } from "../checkpoint/safetensors.ts";
import { DirectoryStore } from "../checkpoint/store.ts";
import { ConfigError, type TrainConfig } from "../config.ts";
import { decodeImage } from "../data/decode.ts";
import { openFolder } from "../data/folder_source.ts";
import { type ImageSource, UnreadableImageError } from "../data/source.ts";
import type { Device } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import { evaluate } from "../evaluate/evaluate.ts";
import { extractFeatures, moduleEmbedding, openImages, type View } from "../evaluate/features.ts";
import type { Matrix } from "../evaluate/matrix.ts";
import { planProtocol } from "../evaluate/protocol.ts";
import type { EvaluationReport } from "../evaluate/report.ts";
import { loadStateDict } from "../nn/state_dict.ts";
import type { Trunk } from "../nn/trunks.ts";
import { readRunConfig } from "./run_folder.ts";

/** Which weights a trunk has. */
export interface TrunkChoice {
  /** A run's folder, or a `model.safetensors` inside one. */
  readonly path: string;
  /** Take the network at random initialisation in place of the trained weights. */
  readonly random: boolean;
}

/** A trunk on a device, with the configuration it was trained under. */
export interface OpenTrunk {
  readonly device: Device;
  readonly trunk: Trunk;
  readonly config: TrainConfig;
}

/** The folder of the run that `path` names or lies in. */
function runOf(path: string): string {
  const file = /^(.*)\/checkpoints\/[^/]+(?:\/model\.safetensors)?\/?$/.exec(path);
  return (file?.[1] ?? path).replace(/\/+$/, "");
}

async function weightsOf(path: string): Promise<ReadonlyMap<string, SafeTensor>> {
  if (path.endsWith(".safetensors")) return readSafetensors(await Deno.readFile(path)).tensors;
  const step = /\/checkpoints\/step-(\d+)\/?$/.exec(path);
  const { model, notes } = await new DirectoryStore(runOf(path)).load(step === null ? "latest" : Number(step[1]));
  for (const note of notes) console.error(note);
  return model;
}

/**
 * Opens a device and puts a run's trunk on it.
 *
 * @throws {ConfigError} when `path` is no run.
 * @throws {CheckpointError} when the run has no intact checkpoint.
 */
export async function openRunTrunk({ path, random }: TrunkChoice): Promise<OpenTrunk> {
  const config = await readRunConfig(runOf(path));
  const weights = random ? undefined : await weightsOf(path);
  const device = await openDevice({ provider: config.cluster.gpu });
  const { model } = buildMethod(device, config);
  if (weights !== undefined) {
    const dict = new Map([...weights].map(([name, tensor]) => [name, { shape: tensor.shape, data: f32Of(tensor) }]));
    loadStateDict({ parameters: () => [...model.parameters], buffers: () => [...model.buffers] }, dict);
  }
  return { device, trunk: model.trunk, config };
}

/** Networks are judged at the largest crop's size. */
export function viewSize(config: TrainConfig): number {
  return Math.max(...config.crops.map((crop) => crop.size));
}

/** Image files by path as a source. */
export function filesSource(files: readonly string[]): ImageSource {
  return {
    size: files.length,
    name: (i) => files[i],
    async read(i) {
      try {
        return await Deno.readFile(files[i]);
      } catch (error) {
        throw new UnreadableImageError(files[i], error instanceof Error ? error.message : String(error));
      }
    },
  };
}

/**
 * Features of image files, one row each.
 *
 * @throws {UnreadableImageError} for the first file that cannot be read or decoded.
 */
export async function embedFiles(
  { device, trunk, config }: OpenTrunk,
  files: readonly string[],
  options: { size?: number; view?: View; onProgress: (done: number, total: number) => void },
): Promise<Matrix> {
  const { mean, std } = config.augmentation;
  const images = openImages(filesSource(files), { sideMax: config.data.sideMax, cacheBytes: 0 });
  const { features, ids } = await extractFeatures({
    device,
    images,
    ids: files.map((_, id) => id),
    embed: moduleEmbedding(trunk),
    size: options.size ?? viewSize(config),
    view: options.view ?? "whole",
    normalisation: { mean, std },
    progress: options.onProgress,
  }).catch(async (error: unknown) => {
    for (const [id] of images.unreadable) await decodeImage(await filesSource(files).read(id), { name: files[id] });
    throw error;
  });
  if (ids.length < files.length) {
    const [[id, reason]] = images.unreadable;
    throw new UnreadableImageError(files[id], reason);
  }
  return features;
}

/**
 * Evaluates a run's newest checkpoint on a folder of labelled images, and writes `RUN/evaluation.json`.
 *
 * @throws {Error} when the folder has no labels.
 */
export async function evaluateHere(
  run: string,
  data: string | undefined,
  onProgress: (name: string, done: number, total: number) => void,
): Promise<EvaluationReport> {
  const config = await readRunConfig(run);
  const folder = data ?? config.data.folder;
  if (folder === "") {
    throw new ConfigError("data.folder", `cannot evaluate ${run}: pass --data DIR with labelled images`);
  }
  const source = await openFolder(folder);
  const protocol = planProtocol(source, { name: folder });
  const trained = await openRunTrunk({ path: run, random: false });
  const { device } = trained;
  try {
    const random = buildMethod(device, config).model;
    const report = await evaluate({
      device,
      images: openImages(source, { sideMax: config.data.sideMax }),
      protocol,
      size: viewSize(config),
      normalisation: { mean: config.augmentation.mean, std: config.augmentation.std },
      candidates: [
        { name: "trained", embed: moduleEmbedding(trained.trunk) },
        { name: "random", embed: moduleEmbedding(random.trunk) },
      ],
      progress: onProgress,
    });
    await Deno.writeTextFile(`${run}/evaluation.json`, JSON.stringify(report, null, 2) + "\n");
    return report;
  } finally {
    device.destroy();
  }
}
