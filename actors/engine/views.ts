/**
 * From a batch of decoded images to augmented crops on the device. Which crop is cut where is a function of the seed, the
 * step, the sample and the crop, so that it does not depend on who computes it.
 */
import type { TrainConfig } from "../../config.ts";
import { cropParameters } from "../../data/crops.ts";
import type { Device } from "../../device/device.ts";
import { augment } from "../../tensor/augment.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Message } from "../../wire/messages.ts";

/** A batch as the loader sends it. */
export type BatchMessage = Extract<Message, { type: "batch" }>;

/**
 * Cuts the crops of one replica's batch: one tensor per run of crop groups of equal size, `[crops · batch, size, size, 3]`,
 * crop-major. The caller frees them.
 */
export function makeViews(device: Device, batch: BatchMessage, config: TrainConfig): Tensor[] {
  const { augmentation } = config;
  const options = {
    ratio: augmentation.ratio,
    flipProbability: augmentation.flip,
    jitterProbability: augmentation.jitterProbability,
    brightness: augmentation.brightness,
    contrast: augmentation.contrast,
    saturation: augmentation.saturation,
    hue: augmentation.hue,
    grayProbability: augmentation.grayscaleProbability,
    blurProbability: augmentation.blurProbability,
    blurSigma: augmentation.blurSigma,
  };
  const images = device.upload(padded(batch.pixels.bytes));
  const flat = config.crops.flatMap((group) => Array.from({ length: group.count }, () => group));
  const views: Tensor[] = [];
  for (let first = 0; first < flat.length;) {
    const size = flat[first].size;
    let end = first;
    while (end < flat.length && flat[end].size === size) end++;
    const crops = flat.slice(first, end).flatMap((group, offset) =>
      batch.ids.map((sample, index) => {
        const [width, height] = [batch.widths[index], batch.heights[index]];
        const key = { seed: config.seed, step: batch.step, sample, crop: first + offset, width, height };
        const crop = cropParameters(key, group, options);
        return { ...crop, imageOffset: batch.offsets[index], imageWidth: width };
      })
    );
    const { mean, std } = augmentation;
    views.push(augment(device, images, { crops, size, normalisation: { mean, std } }));
    first = end;
  }
  device.free(images);
  return views;
}

/** The bytes in a buffer of their own whose length is a multiple of 4. */
function padded(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  result.set(bytes);
  return result;
}
