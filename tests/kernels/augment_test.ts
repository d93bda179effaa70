import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { centreCropParameters, cropParameters } from "../../data/crops.ts";
import type { Device } from "../../device/device.ts";
import { type AugmentCrop, boxBlur, hueShift, normaliseReference, packCrops } from "../../kernels/augment.ts";
import { blurReference } from "../../kernels/augment_blur.ts";
import { colourReference } from "../../kernels/augment_colour.ts";
import { resampleReference } from "../../kernels/augment_resample.ts";
import { augment } from "../../tensor/augment.ts";
import { freeTensors, readTensors } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { readReference } from "../reference/read_reference.ts";

/** Bytes without a pattern. */
function bytes(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  let state = seed;
  return Uint8Array.from({ length }, () => (state = (state * 48_271) % 2_147_483_647) >>> 7 & 255);
}

const PLAIN = {
  flip: false,
  jitter: false,
  order: [0, 1, 2, 3],
  brightness: 1,
  contrast: 1,
  saturation: 1,
  hue: 0,
  gray: false,
  blurSigma: null,
} as const;

function reference(images: Uint8Array, crop: AugmentCrop, size: number): Uint8Array<ArrayBuffer> {
  const coloured = colourReference(resampleReference(images, crop, { size }), crop);
  return crop.blurSigma === null ? coloured : blurReference(coloured, crop.blurSigma, { size });
}

/** Runs the crops on the device and compares every pixel with the reference; 1e-5 is normalising in f32. */
async function compare(
  device: Device,
  images: Uint8Array<ArrayBuffer>,
  options: { crops: AugmentCrop[]; size: number },
) {
  const { crops, size } = options;
  const buffer = device.upload(images);
  const tensor = augment(device, buffer, options);
  const [values] = await readTensors([tensor]);
  freeTensors([tensor]);
  device.free(buffer);
  assertEquals(tensor.shape, [crops.length, size, size, 3]);
  crops.forEach((crop, n) => {
    const expected = normaliseReference(reference(images, crop, size));
    const actual = values.subarray(n * expected.length, (n + 1) * expected.length);
    const at = actual.findIndex((value, i) => !(Math.abs(value - expected[i]) < 1e-5));
    assert(at < 0, `crop ${n} (${JSON.stringify(crop)}) at ${at}: ${actual[at]}, expected ${expected[at]}`);
  });
}

/** Three images of odd sizes, packed at multiples of 4. */
const sizes = [[37, 53], [64, 64], [5, 7]] as const;
const offsets = [0, 5884, 18172];
const packed = bytes(18172 + 108);

eachDevice("augment() equals the reference for the recipe's crops of several images", async (device) => {
  for (const [size, scale] of [[25, [0.14, 1]], [9, [0.05, 0.14]], [70, [0.3, 1]]] as const) {
    const crops = Array.from({ length: 21 }, (_, i) => {
      const image = i % 3;
      const [height, width] = sizes[image];
      const key = { seed: 5, step: size, sample: i, crop: 0, width, height };
      return { ...cropParameters(key, { size, scale }), imageOffset: offsets[image], imageWidth: width };
    });
    await compare(device, packed, { crops, size });
  }
});

eachDevice(
  "augment() equals the reference when shrinking far, enlarging far and cutting from a resized image",
  async (device) => {
    const whole = { top: 0, left: 0, height: 64, width: 64, imageOffset: offsets[1], imageWidth: 64, ...PLAIN };
    const tiny = { ...whole, height: 1, width: 2 };
    const centre = centreCropParameters({ width: 53, height: 37 }, { size: 7, resize: 11 });
    const crops = [whole, tiny, { ...centre, imageOffset: 0, imageWidth: 53 }, { ...whole, blurSigma: 9.5 }];
    await compare(device, packed, { crops, size: 7 });
    await compare(device, packed, { crops: [whole, tiny], size: 101 });
  },
);

eachDevice("augment() shifts the hue of every kind of colour exactly as Pillow's floats do", async (device) => {
  const side = 128;
  // Few levels give many colours whose hue or saturation is a whole number, where C's floats fall either way.
  const images = bytes(side * side * 3, 99).map((value, i) => i % 2 ? value : Math.round(value / 51) * 51);
  const base = { top: 0, left: 0, height: side, width: side, imageOffset: 0, imageWidth: side, ...PLAIN, jitter: true };
  const crops = [-0.2, -0.07, 0, 0.11, 0.5].map((hue, i) => ({
    ...base,
    hue,
    order: i % 2 ? [3, 0, 1, 2] : [1, 3, 2, 0],
  }));
  await compare(device, images, { crops, size: side });
});

eachDevice("augment() gives the same bits twice", async (device) => {
  const crop = { ...PLAIN, jitter: true, contrast: 1.7, blurSigma: 1.3, imageOffset: 0, imageWidth: 53 };
  const crops = [{ ...crop, top: 1, left: 2, height: 30, width: 40 }];
  const images = device.upload(packed);
  const tensors = [0, 1].map(() => augment(device, images, { crops, size: 33 }));
  const [first, second] = await readTensors(tensors);
  freeTensors(tensors);
  device.free(images);
  assertEquals(first, second);
});

Deno.test("the references repeat torchvision on PIL images to the bit", async () => {
  const { tensors, metadata } = await readReference(new URL("../golden/augment.safetensors", import.meta.url).pathname);
  const image = tensors.image_u8;
  const cases: (AugmentCrop & { size: number; jitter_order: number[]; blur_sigma: number | null })[] = JSON.parse(
    metadata.cases,
  );
  cases.forEach((one, i) => {
    const crop = {
      ...one,
      imageOffset: 0,
      imageWidth: image.shape[1],
      order: one.jitter_order,
      blurSigma: one.blur_sigma,
    };
    const { size } = one;
    assertEquals(resampleReference(image.bytes, { ...crop, flip: false }, { size }), tensors[`cropped${i}_u8`].bytes);
    assertEquals(reference(image.bytes, { ...crop, blurSigma: null }, size), tensors[`coloured${i}_u8`].bytes);
    assertEquals(reference(image.bytes, crop, size), tensors[`view${i}_u8`].bytes);
  });
});

Deno.test("boxBlur() has weights that sum to one and the wanted variance", () => {
  for (const sigma of [0.1, 0.5, 0.816, 1, 1.7, 2, 5.3]) {
    const { radius, weight, edgeWeight } = boxBlur(sigma);
    const total = (2 * radius + 1) * weight + 2 * edgeWeight;
    assert(total <= 2 ** 24 && total > 2 ** 24 - 16, `sigma ${sigma}: ${total}`);
    let variance = 2 * edgeWeight * (radius + 1) ** 2;
    for (let i = -radius; i <= radius; i++) variance += weight * i * i;
    assertAlmostEquals(Math.sqrt((3 * variance) / total), sigma, 1e-4);
  }
});

Deno.test("hueShift() truncates to a byte as numpy does", () => {
  assertEquals([0, 0.1, -0.1, 0.2, -0.2].map(hueShift), [0, 25, 231, 51, 205]);
});

Deno.test("packCrops() refuses an incomplete order of colour changes and too many crops", () => {
  const crop = { ...PLAIN, top: 0, left: 0, height: 1, width: 1, imageOffset: 0, imageWidth: 1 };
  assertThrows(() => packCrops([{ ...crop, order: [0, 2, 3] }], 8), RangeError, "once each, got [0, 2, 3]");
  assertThrows(() => packCrops(new Array(65_536).fill(crop), 8), RangeError, "at most 65,535 crops");
});
