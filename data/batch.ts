/**
 * The images of one replica in one step, decoded and packed for the device. A bad image is replaced by the nearest
 * earlier good one in the epoch's order, so that the result depends on the files alone: not on what was loaded before, by
 * whom or when. It knows no GPU, message or actor.
 */
import { type DecodedImage, decodeImage, type DecodeOptions } from "./decode.ts";
import { ImageCache } from "./image_cache.ts";
import type { SamplePlace, Sampler } from "./sampler.ts";
import { type ImageSource, UnreadableImageError } from "./source.ts";

/** A bad image and the one that took its place. */
export interface Replacement {
  /** Id and name of the bad sample. */
  readonly id: number;
  readonly name: string;
  /** What is wrong with it. */
  readonly reason: string;
  /** Id and name of the sample whose pixels were used. */
  readonly replacedBy: number;
  readonly replacedByName: string;
}

/** The images of one replica in one step. */
export interface ReplicaBatch {
  /** The samples as the sampler gave them; those in `replaced` carry another sample's pixels. */
  readonly ids: Uint32Array<ArrayBuffer>;
  /** All images one after another, each [height, width, 3] uint8 RGB; padded to a multiple of 4 bytes. */
  readonly images: Uint8Array<ArrayBuffer>;
  /** Byte at which each image starts in `images`; a multiple of 4. */
  readonly offsets: Uint32Array<ArrayBuffer>;
  readonly widths: Uint32Array<ArrayBuffer>;
  readonly heights: Uint32Array<ArrayBuffer>;
  readonly replaced: readonly Replacement[];
}

/** Options of {@linkcode createBatchLoader}. */
export interface BatchLoaderOptions {
  readonly source: ImageSource;
  readonly sampler: Sampler;
  readonly decode?: DecodeOptions;
  /** Decoded images kept for the next time, least recently used out first. @default 268435456 (256 MiB) */
  readonly cacheBytes?: number;
  /** Bad neighbours tried in each direction before giving up. @default 1000 */
  readonly replacementTriesMax?: number;
}

/** Loads batches; safe to call for several replicas at once. */
export interface BatchLoader {
  /**
   * The batch of one replica. The same arguments always give the same bytes.
   *
   * @throws {Error} When neither a sample nor any of its neighbours can be read.
   */
  load(place: SamplePlace & { readonly replica: number }): Promise<ReplicaBatch>;
  /** Every bad sample met so far, by id, with the reason. */
  readonly bad: ReadonlyMap<number, string>;
}

/**
 * Packs decoded images one after another, each starting at a multiple of 4 bytes.
 *
 * @example
 * ```ts
 * import { packImages } from "./batch.ts";
 * const packed = packImages([{ width: 1, height: 1, pixels: new Uint8Array([1, 2, 3]) }]);
 * if (packed.images.byteLength !== 4) throw new Error("not padded");
 * ```
 */
export function packImages(images: readonly DecodedImage[]): Omit<ReplicaBatch, "ids" | "replaced"> {
  const offsets = new Uint32Array(images.length);
  let byteLength = 0;
  images.forEach(({ pixels }, i) => {
    offsets[i] = byteLength;
    byteLength += Math.ceil(pixels.byteLength / 4) * 4;
  });
  const packed = new Uint8Array(byteLength);
  images.forEach(({ pixels }, i) => packed.set(pixels, offsets[i]));
  return {
    images: packed,
    offsets,
    widths: Uint32Array.from(images, (image) => image.width),
    heights: Uint32Array.from(images, (image) => image.height),
  };
}

/** Fetches images by id through the cache; null for a bad one, which is remembered in `bad`. */
function createFetcher(
  { source, decode = {}, cacheBytes = 268_435_456 }: BatchLoaderOptions,
  bad: Map<number, string>,
): (id: number) => Promise<DecodedImage | null> {
  const cache = new ImageCache(cacheBytes);
  const pending = new Map<number, Promise<DecodedImage | null>>();
  const decodeOne = async (id: number): Promise<DecodedImage | null> => {
    try {
      const image = await decodeImage(await source.read(id), { ...decode, name: source.name(id) });
      cache.set(id, image);
      return image;
    } catch (error) {
      if (!(error instanceof UnreadableImageError)) throw error;
      bad.set(id, error.reason);
      return null;
    } finally {
      pending.delete(id);
    }
  };
  return async (id) => {
    if (bad.has(id)) return null;
    const cached = cache.get(id);
    if (cached !== undefined) return cached;
    const running = pending.get(id) ?? decodeOne(id);
    pending.set(id, running);
    return await running;
  };
}

/** Creates the loader of a run's batches. */
export function createBatchLoader(options: BatchLoaderOptions): BatchLoader {
  const { source, sampler, replacementTriesMax = 1000 } = options;
  const bad = new Map<number, string>();
  const fetch = createFetcher(options, bad);

  /** The nearest earlier good image in the epoch's order, else the nearest later one. */
  const replace = async (epoch: number, position: number): Promise<{ id: number; image: DecodedImage }> => {
    const order = sampler.order(epoch);
    for (const direction of [-1, 1]) {
      for (let distance = 1; distance <= replacementTriesMax; distance++) {
        const neighbour = position + direction * distance;
        if (neighbour < 0 || neighbour >= order.size) break;
        const id = order.at(neighbour);
        const image = await fetch(id);
        if (image !== null) return { id, image };
      }
    }
    const id = order.at(position);
    throw new Error(
      `Cannot load a batch: no readable image among "${source.name(id)}" and its ${replacementTriesMax} neighbours ` +
        `on either side in the order of epoch ${epoch} (${bad.get(id)}); ` +
        `${bad.size} of ${source.size} images have proved unreadable, check that the folder holds images`,
    );
  };

  return {
    bad,
    async load({ epoch, step, replica }) {
      const ids = sampler.samples({ epoch, step, replica });
      const first = sampler.firstPosition(step, replica);
      const replaced: Replacement[] = [];
      const fetched = await Promise.all(ids.map(fetch));
      const images: DecodedImage[] = [];
      for (const [i, image] of fetched.entries()) {
        if (image !== null) {
          images.push(image);
          continue;
        }
        const id = ids[i];
        const substitute = await replace(epoch, first + i);
        images.push(substitute.image);
        replaced.push({
          id,
          name: source.name(id),
          reason: bad.get(id) ?? "unreadable",
          replacedBy: substitute.id,
          replacedByName: source.name(substitute.id),
        });
      }
      return { ids: Uint32Array.from(ids), ...packImages(images), replaced };
    },
  };
}
