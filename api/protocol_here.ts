/** A protocol's run on a device, and features by any weights, for the process of `gpu_child.ts`. */
import type { Device } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import { UnreadableImageError } from "../data/source.ts";
import {
  type Embed,
  type Extracted,
  extractFeatures,
  extractReadable,
  type ImageReader,
  moduleEmbedding,
  openImages,
} from "../evaluate/features.ts";
import { openEvaluationSet } from "../evaluate/labelled_set.ts";
import type { Protocol } from "../evaluate/protocol.ts";
import type { TrainConfig } from "../config.ts";
import { adapterFor, type ShareRequest, startSharing } from "./protocol_share.ts";
import type { Matrix } from "../evaluate/matrix.ts";
import { type ProtocolResult, runProtocol } from "../evaluate/protocols.ts";
import { projectionHead, Sequence } from "../nn/heads.ts";
import { loadStateDict, type StateDict } from "../nn/state_dict.ts";
import { buildTrunk, type Trunk } from "../nn/trunks.ts";
import { stateDictOf } from "../weights/floats.ts";
import { filesSource, viewSize } from "./compute.ts";
import type { EmbedRequest } from "./embed.ts";
import type { ProtocolRequest } from "./evaluate_protocol.ts";
import type { OnProgress } from "./gpu_client.ts";
import { type OpenedWeights, openWeights } from "./weights.ts";

/** The entries of a part of the network, under the names that the model gives them. */
function partOf({ tensors }: OpenedWeights, part: string): StateDict {
  return stateDictOf(new Map([...tensors].filter(([name]) => name.startsWith(part))));
}

/** Widths of the projection head that the weights hold. */
function headOf(opened: OpenedWeights): { dims: number[]; batchNorm: boolean } {
  const layers = [...opened.tensors].flatMap(([name, { shape }]) => {
    const place = /^head\.(\d+)\.weight$/.exec(name)?.[1];
    return place !== undefined && shape.length === 2 ? [{ place: Number(place), shape }] : [];
  }).sort((a, b) => a.place - b.place);
  if (layers.length === 0) {
    throw new Error(`Cannot take features of the head: ${opened.path} holds none; use the trunk's`);
  }
  return {
    dims: [layers[0].shape[1], ...layers.map(({ shape }) => shape[0])],
    batchNorm: [...opened.tensors.keys()].some((name) => /^head\.\d+\.running_mean$/.test(name)),
  };
}

/** What embeds images: the trunk, or trunk and head. */
function embedding(
  device: Device,
  { opened, trunk, features }: { opened: OpenedWeights; trunk: Trunk; features: string },
): Embed {
  if (features === "trunk") return moduleEmbedding(trunk);
  const head = projectionHead({ device, seed: 0, prefix: "head.", ...headOf(opened) });
  loadStateDict(head, partOf(opened, "head."));
  return moduleEmbedding(new Sequence([trunk, head]), { trunk });
}

/** Features of image files, one row each. */
export async function featuresHere(request: EmbedRequest, onProgress: OnProgress): Promise<Matrix> {
  const { weights, files, size, features = "trunk" } = request;
  const opened = await openWeights(weights);
  const { config } = opened;
  const device = await openDevice({ provider: config?.cluster.gpu ?? "auto" });
  try {
    const trunk = buildTrunk(opened.spec, { device, seed: undefined, prefix: "trunk." });
    loadStateDict(trunk, partOf(opened, "trunk."));
    const images = openImages(filesSource(files), { sideMax: config?.data.sideMax, cacheBytes: 0 });
    const found = await extractFeatures({
      device,
      images,
      ids: files.map((_, id) => id),
      embed: embedding(device, { opened, trunk, features }),
      size: size ?? (config === undefined ? 224 : viewSize(config)),
      normalisation: config?.augmentation,
      progress: (done, total) => onProgress("features", done, total),
    });
    const [bad] = images.unreadable;
    if (bad !== undefined) throw new UnreadableImageError(files[bad[0]], bad[1]);
    return found.features;
  } finally {
    device.destroy();
  }
}

/** What features are taken with. */
interface Opened {
  readonly config: TrainConfig | undefined;
  readonly device: Device;
  readonly trunk: Trunk;
  readonly embed: Embed;
  readonly images: ImageReader;
  readonly protocol: Protocol;
}

async function openForProtocol(
  { weights, data, features = "trunk", random = false }: Pick<
    ProtocolRequest,
    "weights" | "data" | "features" | "random"
  >,
  adapter?: ShareRequest["adapter"],
): Promise<Opened> {
  const opened = await openWeights(weights);
  const { source, protocol } = await openEvaluationSet(data);
  const { config } = opened;
  const { provider, name } = adapter ?? adapterFor(config, 0);
  const known = provider === "deno" || provider === "dawn" ? provider : "auto";
  const device = await openDevice({ provider: known, adapter: name });
  try {
    const trunk = buildTrunk(opened.spec, { device, seed: config?.seed ?? 0, prefix: "trunk." });
    if (!random) loadStateDict(trunk, partOf(opened, "trunk."));
    const embed = embedding(device, { opened, trunk, features });
    return { config, device, trunk, embed, images: openImages(source, { sideMax: config?.data.sideMax }), protocol };
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/** Runs the protocol that was asked for. */
export async function protocolHere(request: ProtocolRequest, onProgress: OnProgress): Promise<ProtocolResult> {
  const { name, settings = {}, trainIds } = request;
  const opened = await openForProtocol(request);
  const { config, device } = opened;
  const shared = startSharing(request, { config, log: (line) => console.error(line) });
  try {
    return await runProtocol(name, {
      ...opened,
      trainIds,
      settings: { size: config === undefined ? undefined : viewSize(config), ...settings },
      normalisation: config?.augmentation,
      extract: shared.extract,
      progress: onProgress,
    });
  } finally {
    await shared.close();
    device.destroy();
  }
}

let helping: Promise<Opened> | undefined;

/** A chunk of the features that another process asked for; what it needs is opened with the first. */
export async function shareHere({ adapter, ...request }: ShareRequest): Promise<Extracted | undefined> {
  helping ??= openForProtocol(request, adapter);
  const { device, embed, images, config } = await helping;
  const { ids, size, view } = request;
  return await extractReadable({ device, embed, images, ids, size, view, normalisation: config?.augmentation });
}
