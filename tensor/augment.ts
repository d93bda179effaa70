/**
 * The whole augmentation on the device: from images uploaded once as uint8 to normalised crops of one size, in the order
 * crop, flip, colour jitter, grayscale, blur, normalise. It is no part of the tape: images have no gradient. The numbers
 * of each crop come from outside; this file draws none.
 */
import type { Device, DeviceBuffer } from "../device/device.ts";
import { type AugmentCrop, IMAGENET_NORMALISATION, type Normalisation, packCrops } from "../kernels/augment.ts";
import { blurLastPass, blurPass } from "../kernels/augment_blur.ts";
import { colourCrops, contrastColumns, contrastMeans } from "../kernels/augment_colour.ts";
import { resampleCrops } from "../kernels/augment_resample.ts";
import { type Tensor, tensorOver } from "./tensor.ts";

export type { AugmentCrop, Normalisation };

/** Options of {@linkcode augment}. */
export interface AugmentOptions {
  /** The crops, in the order of the result; each box lies inside its image. */
  readonly crops: readonly AugmentCrop[];
  /** Side of every crop in pixels. */
  readonly size: number;
  /** @default ImageNet's mean and standard deviation */
  readonly normalisation?: Normalisation;
}

/**
 * Cuts and alters crops of packed images. The same buffer of images serves the crops of every size.
 *
 * @param images uint8 RGB images, each `[height, width, 3]`, where the crops' `imageOffset` says.
 * @returns f32 `[crops, size, size, 3]`, which the caller frees.
 * @throws {RangeError} When there is no crop, more than 65,535 of them, or an order of colour changes is incomplete.
 */
export function augment(device: Device, images: DeviceBuffer, options: AugmentOptions): Tensor {
  const { crops, size, normalisation = IMAGENET_NORMALISATION } = options;
  if (crops.length === 0) throw new RangeError("Cannot augment: at least one crop is needed, got none");
  const shape = { crops: crops.length, size };
  const pixelBytes = crops.length * size * size * 4;
  const parameters = device.upload(packCrops(crops, size));
  const result = device.allocate(pixelBytes * 3);
  const columns = device.allocate(crops.length * size * 4);
  const means = device.allocate(crops.length * 4);
  let pixels = device.allocate(pixelBytes);
  let spare = device.allocate(pixelBytes);

  device.run(resampleCrops(shape), [images, parameters, pixels]);
  if (crops.some((crop) => crop.jitter)) {
    device.run(contrastColumns(shape), [parameters, pixels, columns]);
    device.run(contrastMeans(shape), [columns, means]);
  }
  device.run(colourCrops(shape, normalisation), [parameters, means, pixels, result]);
  if (crops.some((crop) => crop.blurSigma !== null)) {
    for (const axis of ["row", "row", "row", "column", "column"] as const) {
      device.run(blurPass(shape, axis), [parameters, pixels, spare]);
      [pixels, spare] = [spare, pixels];
    }
    device.run(blurLastPass(shape, normalisation), [parameters, pixels, result]);
  }
  for (const buffer of [parameters, columns, means, pixels, spare]) device.free(buffer);
  return tensorOver(device, result, { shape: [crops.length, size, size, 3] });
}
