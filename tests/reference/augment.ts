/**
 * Compares the augmentation on a device with torchvision's on PIL images (case 5 of generate.py): after the crop, after
 * the colours and after the blur, as mean absolute difference in units of 1 (a pixel runs from 0 to 1).
 */
import type { Device } from "../../device/device.ts";
import { IMAGENET_NORMALISATION } from "../../kernels/augment.ts";
import { augment, type AugmentCrop } from "../../tensor/augment.ts";
import { freeTensors, readTensors } from "../../tensor/tensor.ts";
import { readReference } from "./read_reference.ts";

/** One figure beside its bound. */
export interface ReferenceRow {
  readonly name: string;
  readonly figure: number;
  readonly bound: number;
}

interface ReferenceCase {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
  readonly size: number;
  readonly flip: boolean;
  readonly jitter_order: readonly number[];
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
  readonly hue: number;
  readonly jitter: boolean;
  readonly gray: boolean;
  readonly blur_sigma: number | null;
}

/** Rows for every case in `folder`'s augment.safetensors. */
export async function compareAugment(folder: string, device: Device): Promise<ReferenceRow[]> {
  const { tensors, metadata } = await readReference(`${folder}/augment.safetensors`);
  const cases = JSON.parse(metadata.cases) as ReferenceCase[];
  const image = tensors.image_u8;
  const images = device.upload(image.bytes.slice());
  const rows: ReferenceRow[] = [];
  for (const [i, one] of cases.entries()) {
    const view: AugmentCrop = {
      ...one,
      imageOffset: 0,
      imageWidth: image.shape[1],
      order: one.jitter_order,
      blurSigma: one.blur_sigma,
    };
    const coloured = { ...view, blurSigma: null };
    const cropped = { ...coloured, flip: false, jitter: false, gray: false };
    const stages = [["cropped", cropped, 1], ["coloured", coloured, 2], ["view", view, 2.5]] as const;
    for (const [stage, crop, bound] of stages) {
      const tensor = augment(device, images, { crops: [crop], size: one.size });
      const [values] = await readTensors([tensor]);
      freeTensors([tensor]);
      rows.push({
        name: `augment ${stage}${i}`,
        figure: meanDifference(values, tensors[`${stage}${i}_u8`].bytes),
        bound: bound / 255,
      });
    }
  }
  device.free(images);
  return rows;
}

/** Mean absolute difference between normalised crops and uint8 pixels, with pixels from 0 to 1. */
function meanDifference(values: Float32Array, pixels: Uint8Array): number {
  if (values.length !== pixels.length) return Infinity;
  const { mean, std } = IMAGENET_NORMALISATION;
  let sum = 0;
  values.forEach((value, i) => sum += Math.abs(value * std[i % 3] + mean[i % 3] - pixels[i] / 255));
  return sum / values.length;
}
