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
  openImages,
} from "../evaluate/features.ts";
import { openEvaluationSet } from "../evaluate/labelled_set.ts";
import type { Protocol } from "../evaluate/protocol.ts";
import type { TrainConfig } from "../config.ts";
import { adapterFor, type ShareRequest, startSharing } from "./protocol_share.ts";
import type { Matrix } from "../evaluate/matrix.ts";
import { type ProtocolResult, runProtocol } from "../evaluate/protocols.ts";
import { buildEmbedding, type EmbeddingWeights } from "../evaluate/embedding.ts";
import type { Trunk } from "../nn/trunks.ts";
import { stateDictOf } from "../weights/floats.ts";
import { filesSource, viewSize } from "./compute.ts";
import type { EmbedRequest } from "./embed.ts";
import type { ProtocolRequest } from "./evaluate_protocol.ts";
import type { OnProgress } from "./gpu_client.ts";
import { type OpenedWeights, openWeights } from "./weights.ts";

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

/** What images are embedded with: the trunk, or trunk and head. */
function embeddingWeights(
  opened: OpenedWeights,
  { features = "trunk", random = false }: Pick<ProtocolRequest, "features" | "random">,
): EmbeddingWeights {
  const wanted = [...random ? [] : ["trunk."], ...features === "head" ? ["head."] : []];
  const chosen = [...opened.tensors].filter(([name]) => wanted.some((prefix) => name.startsWith(prefix)));
  return {
    spec: opened.spec,
    seed: opened.config?.seed ?? 0,
    weights: stateDictOf(new Map(chosen)),
    ...features === "head" ? { head: headOf(opened) } : {},
  };
}

/** Features of image files, one row each. */
export async function featuresHere(request: EmbedRequest, onProgress: OnProgress): Promise<Matrix> {
  const { weights, files, size, features = "trunk" } = request;
  const opened = await openWeights(weights);
  const { config } = opened;
  const device = await openDevice({ provider: config?.cluster.gpu ?? "auto" });
  try {
    const { embed } = buildEmbedding(device, embeddingWeights(opened, { features }));
    const images = openImages(filesSource(files), { sideMax: config?.data.sideMax, cacheBytes: 0 });
    const found = await extractFeatures({
      device,
      images,
      ids: files.map((_, id) => id),
      embed,
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
  readonly model: EmbeddingWeights;
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
    const model = embeddingWeights(opened, { features, random });
    const { trunk, embed } = buildEmbedding(device, model);
    return {
      config,
      model,
      device,
      trunk,
      embed,
      images: openImages(source, { sideMax: config?.data.sideMax }),
      protocol,
    };
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/** Runs the protocol that was asked for. */
export async function protocolHere(request: ProtocolRequest, onProgress: OnProgress): Promise<ProtocolResult> {
  const { name, settings = {}, trainIds } = request;
  const opened = await openForProtocol(request);
  const { config, device, model } = opened;
  const shared = await startSharing(request, { config, model, log: (line) => console.error(line) });
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
