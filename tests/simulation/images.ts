/** What a simulated loader serves: places in the order of the real sampler, without pixels. */
import type { LoaderParts } from "../../actors/loader.ts";
import type { TrainConfig } from "../../config.ts";
import { createSampler } from "../../data/sampler.ts";

/** Samples of the real sampler; their pixels are of no use to anybody here. */
export function loaderParts(
  { seed, replicas, batchPerReplica }: TrainConfig,
  images: number,
): LoaderParts {
  const sampler = createSampler({ seed, size: images, replicas, samplesPerReplica: batchPerReplica });
  return {
    sampler,
    images,
    batches: {
      bad: new Map(),
      load(place) {
        const ids = Uint32Array.from(sampler.samples(place)), one = ids.map(() => 1);
        return Promise.resolve({
          ids,
          images: new Uint8Array(4),
          offsets: ids.map(() => 0),
          widths: one,
          heights: one,
          replaced: [],
        });
      },
    },
  };
}
