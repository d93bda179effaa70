/**
 * Features of whole images: decoded, brought to one size on the device without any random change, and run through an
 * embedding in evaluation mode. It knows no label and no training.
 */
import { type DecodedImage, decodeImage } from "../data/decode.ts";
import { packImages } from "../data/batch.ts";
import { ImageCache } from "../data/image_cache.ts";
import { type ImageSource, UnreadableImageError } from "../data/source.ts";
import type { Device } from "../device/device.ts";
import type { Module } from "../nn/module.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import type { Trunk } from "../nn/trunks.ts";
import { augment, type AugmentCrop, type Normalisation } from "../tensor/augment.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor } from "../tensor/tensor.ts";
import { type Matrix, matrixFrom } from "./matrix.ts";

/** Images `[N, size, size, 3]` → features `[N, …]`, on a tape without gradients. */
export interface Embed {
  (images: Tensor, tape: Tape): Promise<Tensor> | Tensor;
  /** Numbers of the largest tensor that one image of `size` pixels needs; batches are made small enough for a buffer. */
  readonly largestOutput?: (size: number) => number;
}

/** A trunk (or any module, with the trunk in it) in evaluation mode, with its running statistics. */
export function moduleEmbedding(module: Module, { trunk }: { trunk?: Pick<Trunk, "spec"> } = {}): Embed {
  const embed = (images: Tensor, tape: Tape) =>
    module.forward(images, { tape, training: false, updateStatistics: false, pass: "evaluation" });
  const inner = trunk ?? (isTrunk(module) ? module : undefined);
  if (inner === undefined) return embed;
  const layers = trunkShape(inner.spec).parts.flatMap((part) => part.layers);
  const largestOutput = (size: number) => Math.max(...layers.map((layer) => layer.outputs(size)));
  return Object.assign(embed, { largestOutput });
}

function isTrunk(module: Module): module is Trunk {
  return "spec" in module;
}

/** Reads decoded images by number, remembering some; `null` for one that cannot be read. */
export interface ImageReader {
  readonly source: ImageSource;
  read(id: number): Promise<DecodedImage | null>;
  /** Name and fault of every unreadable image met so far. */
  readonly unreadable: ReadonlyMap<number, string>;
}

/** Options of {@linkcode openImages}. */
export interface ImageReaderOptions {
  /** Larger images are shrunk to this longest side. @default 1024 */
  readonly sideMax?: number;
  /** Memory for decoded images, so that a second network need not decode again. @default 268435456 (256 MiB) */
  readonly cacheBytes?: number;
}

/** A reader over a source. */
export function openImages(source: ImageSource, options: ImageReaderOptions = {}): ImageReader {
  const { sideMax = 1024, cacheBytes = 268_435_456 } = options;
  const cache = new ImageCache(cacheBytes);
  const unreadable = new Map<number, string>();
  return {
    source,
    unreadable,
    async read(id) {
      const known = cache.get(id);
      if (known !== undefined) return known;
      if (unreadable.has(id)) return null;
      try {
        const image = await decodeImage(await source.read(id), { sideMax, name: source.name(id) });
        cache.set(id, image);
        return image;
      } catch (error) {
        if (!(error instanceof UnreadableImageError)) throw error;
        unreadable.set(id, error.reason);
        return null;
      }
    },
  };
}

/**
 * Which part of an image is looked at: `whole`, squeezed into the square, or `centre`, the middle of the image after its
 * shorter side was brought to 8/7 of the square (256 for 224).
 */
export type View = "whole" | "centre";

function viewOf(
  image: DecodedImage,
  { offset, size, view }: { offset: number; size: number; view: View },
): AugmentCrop {
  const { width, height } = image;
  const crop = {
    imageOffset: offset,
    imageWidth: width,
    top: 0,
    left: 0,
    width,
    height,
    flip: false,
    jitter: false,
    order: [0, 1, 2, 3],
    brightness: 1,
    contrast: 1,
    saturation: 1,
    hue: 0,
    gray: false,
    blurSigma: null,
  };
  if (view === "whole") return crop;
  const scale = size * 8 / 7 / Math.min(width, height);
  const resized = {
    width: Math.max(size, Math.round(width * scale)),
    height: Math.max(size, Math.round(height * scale)),
  };
  const top = Math.floor((resized.height - size) / 2), left = Math.floor((resized.width - size) / 2);
  return { ...crop, resized: { ...resized, top, left } };
}

/** Options of {@linkcode extractFeatures}. */
export interface ExtractOptions {
  readonly device: Device;
  readonly images: ImageReader;
  /** Numbers of the images in the source. */
  readonly ids: readonly number[];
  readonly embed: Embed;
  /** Side of the square that the embedding sees, in pixels. */
  readonly size: number;
  /** @default "whole" */
  readonly view?: View;
  /** Images at a time, or fewer where the embedding says that its tensors would not fit. @default 64 */
  readonly batch?: number;
  /** @default ImageNet's mean and standard deviation */
  readonly normalisation?: Normalisation;
  /** Called after each batch. */
  readonly progress?: (done: number, total: number) => void;
}

/** Features of the images that could be read. */
export interface Extracted {
  /** One row per entry of `ids`. */
  readonly features: Matrix;
  /** The images, unreadable ones left out. */
  readonly ids: readonly number[];
}

/**
 * Features of images, one row each, in the order of `ids`; unreadable images have none.
 *
 * @throws Error when not one of the images can be read
 */
export async function extractFeatures(options: ExtractOptions): Promise<Extracted> {
  const { images, ids } = options;
  const found = await extractReadable(options);
  if (found !== undefined) return found;
  const [reason = "there are none"] = images.unreadable.values();
  throw new Error(`Cannot extract features: at least one of ${ids.length} images must be readable (${reason})`);
}

/** The same; `undefined` when not one of the images can be read. */
export async function extractReadable(options: ExtractOptions): Promise<Extracted | undefined> {
  const { images, ids, progress } = options;
  const batch = batchOf(options);
  const parts: Float32Array<ArrayBuffer>[] = [], kept: number[] = [];
  const load = (first: number) => Promise.all(ids.slice(first, first + batch).map((id) => images.read(id)));
  let next = load(0);
  for (let first = 0; first < ids.length; first += batch) {
    const loaded = await next;
    next = first + batch < ids.length ? load(first + batch) : next;
    const readable: DecodedImage[] = [];
    loaded.forEach((image, i) => {
      if (image === null) return;
      readable.push(image);
      kept.push(ids[first + i]);
    });
    if (readable.length > 0) parts.push(await embedBatch(readable, options));
    progress?.(Math.min(first + batch, ids.length), ids.length);
  }
  if (kept.length === 0) return undefined;
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (data.set(part, at), at + part.length), 0);
  return { features: matrixFrom(data, data.length / kept.length), ids: kept };
}

/** Images at a time: as many as are wanted, if the largest tensor, in f32, still fits into one binding. */
export function batchOf({ device, embed, size, batch = 64 }: ExtractOptions): number {
  if (embed.largestOutput === undefined) return batch;
  const { bindingBytesMax, bufferBytesMax } = device.adapter.limits;
  const imagesMax = Math.floor(Math.min(bindingBytesMax, bufferBytesMax) / (4 * embed.largestOutput(size)));
  return Math.min(batch, Math.max(1, imagesMax));
}

async function embedBatch(
  images: readonly DecodedImage[],
  options: ExtractOptions,
): Promise<Float32Array<ArrayBuffer>> {
  const { device, embed, size, view = "whole", normalisation } = options;
  const packed = packImages(images);
  const buffer = device.upload(packed.images);
  const crops = images.map((image, i) => viewOf(image, { offset: packed.offsets[i], size, view }));
  const pixels = augment(device, buffer, { crops, size, normalisation });
  device.free(buffer);
  const tape = new Tape(device, { gradients: false });
  try {
    const [features] = await readTensors([await embed(pixels, tape)]);
    return features.slice();
  } finally {
    tape.dispose();
    freeTensors([pixels]);
  }
}
