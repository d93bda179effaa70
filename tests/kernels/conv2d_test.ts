import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import type { Device, DeviceBuffer } from "../../device/device.ts";
import {
  conv2dForward,
  conv2dForwardReference,
  conv2dInputGradient,
  conv2dInputGradientReference,
  conv2dOutput,
  type Conv2dShape,
  conv2dWeightGradient,
  conv2dWeightGradientReference,
} from "../../kernels/conv2d.ts";
import { byChannels } from "../../kernels/conv2d_input_gradient_channels.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, madeUp } from "./close.ts";

const base: Conv2dShape = {
  batch: 2,
  height: 9,
  width: 7,
  inChannels: 8,
  outChannels: 16,
  kernelHeight: 3,
  kernelWidth: 3,
  stride: 1,
  padding: 1,
  groups: 1,
};

const SHAPES: Readonly<Record<string, Conv2dShape>> = {
  "3x3": base,
  "the stem: 3 channels, stride 2": { ...base, height: 12, width: 10, inChannels: 3, stride: 2 },
  "3x3 in groups of 8, stride 2": { ...base, inChannels: 32, outChannels: 32, groups: 4, stride: 2 },
  "3x3 in groups of 5, stride 2, odd image": { ...base, inChannels: 15, outChannels: 15, groups: 3, stride: 2 },
  "1x1": { ...base, inChannels: 36, outChannels: 44, kernelHeight: 1, kernelWidth: 1, padding: 0 },
  "1x1 with channels that divide by nothing": {
    ...base,
    inChannels: 37,
    outChannels: 43,
    kernelHeight: 1,
    kernelWidth: 1,
    padding: 0,
  },
  "1x1, stride 2": { ...base, kernelHeight: 1, kernelWidth: 1, padding: 0, stride: 2, outChannels: 12 },
  "7x5, stride 3, padding 2": {
    ...base,
    height: 13,
    width: 17,
    kernelHeight: 7,
    kernelWidth: 5,
    stride: 3,
    padding: 2,
  },
  "a ResNet's stem: 7x7, stride 2": {
    ...base,
    height: 13,
    width: 10,
    inChannels: 3,
    kernelHeight: 7,
    kernelWidth: 7,
    stride: 2,
    padding: 3,
  },
  "no padding, last pixels unused": { ...base, height: 8, width: 8, stride: 2, padding: 0, inChannels: 6 },
  "padding wider than the kernel": {
    ...base,
    kernelHeight: 1,
    kernelWidth: 1,
    padding: 2,
    inChannels: 4,
    outChannels: 4,
  },
  "groups of 373": { ...base, batch: 1, height: 3, width: 3, inChannels: 746, outChannels: 746, groups: 2, stride: 2 },
  "depthwise": { ...base, inChannels: 12, outChannels: 12, groups: 12 },
  "groups that widen": { ...base, inChannels: 12, outChannels: 120, groups: 3 },
  "3x3 in groups of 8, a line longer than a tile": {
    ...base,
    batch: 1,
    height: 5,
    width: 31,
    inChannels: 16,
    groups: 2,
    outChannels: 16,
  },
  "3x3 in groups of 8, stride 2, 14 to 7 pixels": {
    ...base,
    height: 14,
    width: 14,
    inChannels: 16,
    groups: 2,
    stride: 2,
  },
  "3x3 in groups of 8, stride 2, odd lines longer than a tile": {
    ...base,
    batch: 3,
    height: 11,
    width: 33,
    inChannels: 24,
    outChannels: 24,
    groups: 3,
    stride: 2,
  },
  "2x3 in groups of 8, stride 3, padding 2": {
    ...base,
    batch: 1,
    height: 10,
    width: 13,
    kernelHeight: 2,
    padding: 2,
    inChannels: 16,
    groups: 2,
    stride: 3,
  },
  "2x3 in groups of 12 to 20, stride 3, no padding": {
    ...base,
    width: 16,
    kernelHeight: 2,
    stride: 3,
    padding: 0,
    inChannels: 24,
    outChannels: 40,
    groups: 2,
  },
  "3x3 in groups of 4, padding 2": { ...base, padding: 2, inChannels: 12, outChannels: 36, groups: 3 },
  "one line of one pixel in groups": { ...base, height: 1, width: 1, groups: 2 },
  "one pixel": { ...base, batch: 3, height: 1, width: 1 },
  "many pixels, few channels": { ...base, batch: 3, height: 40, width: 37, inChannels: 3, outChannels: 5 },
};

async function runOnce(device: Device, kernel: Kernel, bindings: readonly (Float32Array<ArrayBuffer> | number)[]) {
  const buffers: DeviceBuffer[] = bindings.map((data) =>
    typeof data === "number" ? device.upload(new Float32Array(data).fill(NaN)) : device.upload(data)
  );
  device.run(kernel, buffers);
  const [bytes] = await device.read([{ buffer: buffers[buffers.length - 1] }]);
  for (const buffer of buffers) device.free(buffer);
  return new Float32Array(bytes.buffer);
}

/** The variant for devices without subgroups. */
function plain(kernel: Kernel): Kernel {
  if (!kernel.otherwise) throw new Error(`"${kernel.label}" names no variant`);
  return kernel.otherwise;
}

async function weightGradient(
  device: Device,
  shape: Conv2dShape,
  { input, outGradient }: { input: Float32Array<ArrayBuffer>; outGradient: Float32Array<ArrayBuffer> },
): Promise<Float32Array<ArrayBuffer>> {
  const { partial, reduce, workspaceBytes } = conv2dWeightGradient(shape);
  const { weightLength } = conv2dOutput(shape);
  if (!reduce) return await runOnce(device, partial, [input, outGradient, weightLength]);
  const workspace = await runOnce(device, partial, [input, outGradient, workspaceBytes / 4]);
  return await runOnce(device, reduce, [workspace, weightLength]);
}

for (const [name, shape] of Object.entries(SHAPES)) {
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const input = madeUp(inputLength, 1);
  const weight = madeUp(weightLength, 2);
  const outGradient = madeUp(outputLength, 3);
  eachDevice(`conv2d matches its references: ${name}`, async (device) => {
    const output = await runOnce(device, conv2dForward(shape), [input, weight, outputLength]);
    assertClose(output, conv2dForwardReference(shape, { input, weight }), { what: "output" });
    const inputGradient = await runOnce(device, conv2dInputGradient(shape), [outGradient, weight, inputLength]);
    assertClose(inputGradient, conv2dInputGradientReference(shape, { outGradient, weight }), { what: "inputGradient" });
    assertClose(
      await weightGradient(device, shape, { input, outGradient }),
      conv2dWeightGradientReference(shape, { input, outGradient }),
      { what: "weightGradient" },
    );
  });
}

for (const name of ["the stem: 3 channels, stride 2", "3x3 in groups of 5, stride 2, odd image"]) {
  const shape = SHAPES[name];
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const input = madeUp(inputLength, 1);
  const weight = madeUp(weightLength, 2);
  const outGradient = madeUp(outputLength, 3);
  eachDevice(`conv2d matches its references without subgroups: ${name}`, async (device) => {
    const output = await runOnce(device, plain(conv2dForward(shape)), [input, weight, outputLength]);
    assertClose(output, conv2dForwardReference(shape, { input, weight }), { what: "output" });
    const inputGradient = await runOnce(device, plain(conv2dInputGradient(shape)), [outGradient, weight, inputLength]);
    assertClose(inputGradient, conv2dInputGradientReference(shape, { outGradient, weight }), { what: "inputGradient" });
    const kernels = conv2dWeightGradient(shape);
    const sums = await runOnce(device, plain(kernels.partial), [
      input,
      outGradient,
      kernels.reduce ? kernels.workspaceBytes / 4 : weightLength,
    ]);
    const weights = kernels.reduce ? await runOnce(device, kernels.reduce, [sums, weightLength]) : sums;
    assertClose(weights, conv2dWeightGradientReference(shape, { input, outGradient }), { what: "weightGradient" });
  });
}

for (const [name, tileRows] of [["the default tile", undefined], ["a tile of 6", 6]] as const) {
  eachDevice(`input gradients by channels have the bits of those by lines: ${name}`, async (device) => {
    for (const [of, shape] of Object.entries(SHAPES).filter(([, shape]) => byChannels(shape))) {
      const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
      const kernel = conv2dInputGradient({ ...shape, tileRows });
      const operands = [madeUp(outputLength, 3), madeUp(weightLength, 2), inputLength];
      assertMatch(kernel.wgsl, /a lane for each channel/, of);
      assertEquals(await runOnce(device, kernel, operands), await runOnce(device, plain(kernel), operands), of);
    }
  });
}

eachDevice("the same weight gradient comes out bit for bit when it is computed again", async (device) => {
  const shape = SHAPES["many pixels, few channels"];
  const { inputLength, outputLength } = conv2dOutput(shape);
  const data = { input: madeUp(inputLength, 1), outGradient: madeUp(outputLength, 3) };
  const first = await weightGradient(device, shape, data);
  for (let again = 0; again < 5; again++) assertEquals(await weightGradient(device, shape, data), first);
});

Deno.test("conv2dOutput() gives the sizes of the stem and refuses impossible shapes", () => {
  const stem = { ...base, height: 224, width: 225, inChannels: 3, outChannels: 32, stride: 2 };
  const { height, width, weightLength } = conv2dOutput(stem);
  assertEquals([height, width, weightLength], [112, 113, 27 * 32]);
  assertThrows(() => conv2dOutput({ ...base, groups: 3 }), RangeError, "groups must divide both");
  assertThrows(() => conv2dOutput({ ...base, height: 0 }), RangeError, "height must be a positive integer, got 0");
  assertThrows(() => conv2dOutput({ ...base, padding: -1 }), RangeError, "padding must be a positive integer, got -1");
  assertThrows(() => conv2dOutput({ ...base, height: 1, padding: 0 }), RangeError, "must fit the padded image");
});

Deno.test("the references agree with a convolution worked out by hand", () => {
  const shape = {
    ...base,
    batch: 1,
    height: 2,
    width: 2,
    inChannels: 1,
    outChannels: 1,
    kernelHeight: 2,
    kernelWidth: 2,
  };
  // input 1 2 / 3 4, padded by zeros; weight 1 10 / 100 1000; output 3×3.
  const output = conv2dForwardReference(shape, {
    input: Float32Array.of(1, 2, 3, 4),
    weight: Float32Array.of(1, 10, 100, 1000),
  });
  assertEquals([...output], [1000, 2100, 200, 3010, 4321, 402, 30, 43, 4]);
});

Deno.test("conv2d kernels stay within WebGPU's grid at the largest layers of the 256GF network", () => {
  const layers: Conv2dShape[] = [
    { ...base, batch: 32, height: 224, width: 224, inChannels: 3, outChannels: 32, stride: 2 },
    { ...base, batch: 32, height: 112, width: 112, inChannels: 746, outChannels: 746, groups: 2, stride: 2 },
    { ...base, batch: 32, height: 14, width: 14, inChannels: 4103, outChannels: 4103, groups: 11 },
  ];
  for (const shape of layers) {
    const { partial } = conv2dWeightGradient(shape);
    for (const { workgroups } of [conv2dForward(shape), conv2dInputGradient(shape), partial]) {
      for (const count of workgroups) assertEquals(count >= 1 && count <= 65_535 && Number.isInteger(count), true);
    }
  }
});
