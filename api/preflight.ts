/**
 * What can be refused before a process is started or a GPU is opened: images, checkpoint, port, adapter. Every refusal is
 * one line. It changes nothing.
 */
import { readTls } from "../actors/tls_files.ts";
import { listeningTls } from "../wire/tls.ts";
import { mathsDigest, runFolder } from "../actors/run_identity.ts";
import { openTrainingImages } from "../actors/training_images.ts";
import { DirectoryStore } from "../checkpoint/store.ts";
import { choiceCount, ConfigError, headDims, modelSpec, type TrainConfig } from "../config.ts";
import { decodeImage } from "../data/decode.ts";
import { type FolderSource, openFolder } from "../data/folder_source.ts";
import { createSampler } from "../data/sampler.ts";
import { type ImageSource, UnreadableImageError } from "../data/source.ts";
import type { AdapterDescription } from "../device/device.ts";
import { openEvaluationSet } from "../evaluate/labelled_set.ts";
import { requireLabelling } from "../evaluate/protocols.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import type { RunStart } from "./run_folder.ts";

/** Images tried before a folder counts as unreadable, spread over all of it. */
const triesMax = 64;

/**
 * Opens the folder of images and finds one that can be decoded.
 *
 * @throws {Error} when the folder is missing or empty, or none of up to 64 images in it can be decoded.
 */
export async function checkImages(folder: string): Promise<FolderSource> {
  const source = await openFolder(folder);
  await requireReadable(source, folder);
  return source;
}

async function requireReadable(source: ImageSource, folder: string): Promise<void> {
  const tries = Math.min(source.size, triesMax);
  let fault = "";
  for (let index = 0; index < tries; index++) {
    const id = Math.floor((index * source.size) / tries);
    try {
      await decodeImage(await source.read(id), { sideMax: 64, name: source.name(id) });
      return;
    } catch (error) {
      if (!(error instanceof UnreadableImageError)) throw error;
      fault ||= `${error.image}: ${oneLine(error.reason)}`;
    }
  }
  throw new Error(
    `Cannot use the image folder "${folder}": at least one image must be readable, found none in ${tries} tried (${fault})`,
  );
}

/**
 * The whole length of a run on `images` images, in steps.
 *
 * @throws {RangeError} when one step needs more images than there are.
 */
export function stepsOf(config: TrainConfig, images: number): number {
  const { stepsPerEpoch } = createSampler({
    seed: config.seed,
    size: images,
    replicas: config.replicas,
    samplesPerReplica: config.batchPerReplica,
  });
  return config.steps ?? Math.floor((config.epochs ?? 1) * stepsPerEpoch);
}

/**
 * Reads and verifies the newest checkpoint of a run that is to go on: the step before which it was written.
 *
 * @throws {CheckpointError} when there is none, or none is intact.
 * @throws {ConfigError} when it was written with other options.
 */
export async function checkCheckpoint(config: TrainConfig): Promise<number> {
  const { manifest } = await new DirectoryStore(runFolder(config)).load("latest");
  if (manifest.configDigest !== mathsDigest(config)) {
    throw new ConfigError(
      "resume",
      `cannot resume ${
        runFolder(config)
      }: its checkpoint before step ${manifest.step} belongs to another run (${manifest.runId}), whose options differ from those in run.json`,
    );
  }
  return manifest.step;
}

/**
 * Everything about a run that needs no GPU.
 *
 * @returns the run's length, and the step from which a resumed run goes on
 * @throws {Error} with one line saying what is wrong.
 */
export async function checkRun({ config, resumed }: RunStart): Promise<{ steps: number; step: number }> {
  await checkProbe(config);
  const { source } = await openTrainingImages(config);
  await requireReadable(source, config.data.folder);
  const steps = stepsOf(config, source.size);
  const step = resumed ? await checkCheckpoint(config) : 0;
  if (step < steps) checkPort(config);
  return { steps, step };
}

/**
 * Refuses probes of images without labels.
 *
 * @throws {Error} when snapshots are to be judged and the images have no labels, of one class each, to judge them by.
 */
export async function checkProbe({ probe, data }: TrainConfig): Promise<void> {
  if (probe.protocols.length === 0) return;
  try {
    const { protocol } = await openEvaluationSet(probe.data || data.folder);
    requireLabelling(probe.protocols[0], protocol);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(
      "probe.data",
      `cannot judge snapshots by ${probe.protocols.join(" and ")}: ${reason}; ` +
        `name labelled images with --probe.data DIR, or leave --probe out`,
    );
  }
}

/** @throws {ConfigError} when the controller's port is in use. */
export function checkPort({ cluster: { listen, port, tls } }: TrainConfig): void {
  listeningTls(listen, readTls(tls));
  if (port === 0) return;
  try {
    Deno.listen({ hostname: listen, port }).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new ConfigError(
      "cluster.port",
      `cannot listen on ${listen}:${port}: the port is in use; stop what uses it, or pass another --port (0 takes a free one)`,
    );
  }
}

interface LargeTensor {
  readonly name: string;
  readonly bytes: number;
  readonly remedy: string;
}

/** The largest tensor that a step of one replica needs, by the shapes alone. */
export function largestTensor(config: TrainConfig): LargeTensor {
  const dims = headDims(config);
  const { batchPerReplica, prototypes } = config;
  const crops = config.crops.reduce((sum, { count }) => sum + count, 0);
  const smaller = "choose a smaller model", batch = "lower batchPerReplica";
  const swav = config.method.name === "swav";
  const found: LargeTensor[] = [
    {
      name: "prototypes.weight",
      bytes: swav ? 4 * dims[dims.length - 1] * prototypes.count : 0,
      remedy: "lower prototypes.count",
    },
    {
      name: "the scores",
      bytes: 4 * batchPerReplica * crops * choiceCount(config),
      remedy: swav ? "lower prototypes.count" : batch,
    },
    ...dims.slice(1).map((width, i) => ({
      name: `a layer of the head (${dims[i]}×${width})`,
      bytes: 4 * dims[i] * width,
      remedy: "lower head.dims",
    })),
    ...trunkShape(modelSpec(config)).parts.flatMap(({ name, layers }) =>
      layers.flatMap((layer) => [
        { name: `a convolution of ${name}`, bytes: 4 * layer.parameters, remedy: smaller },
        ...config.crops.map(({ size, count }) => ({
          name: `the activations of ${name} at ${size} pixels`,
          bytes: 4 * batchPerReplica * count * layer.outputs(size),
          remedy: batch,
        })),
      ])
    ),
  ];
  return found.reduce((most, tensor) => tensor.bytes > most.bytes ? tensor : most);
}

/** @throws {ConfigError} when a tensor of the run is larger than every adapter's largest buffer. */
export function checkAdapters(config: TrainConfig, adapters: readonly AdapterDescription[]): void {
  const { gpu } = config.cluster;
  const usable = adapters.filter(({ provider }) => gpu === "auto" || provider === gpu);
  if (usable.length === 0) return;
  const room = ({ limits }: AdapterDescription) => Math.min(limits.bindingBytesMax, limits.bufferBytesMax);
  const best = usable.reduce((most, adapter) => room(adapter) > room(most) ? adapter : most);
  const { name, bytes, remedy } = largestTensor(config);
  if (bytes <= room(best)) return;
  const mebibytes = (value: number) => `${Math.ceil(value / 2 ** 20)} MiB`;
  throw new ConfigError(
    "cluster.adapters",
    `the adapter "${best.name}" is too small: ${name} needs a buffer of ${mebibytes(bytes)}, it allows ${
      mebibytes(room(best))
    }; ${remedy}, or use another adapter`,
  );
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim().slice(0, 160);
}
