import { assertEquals } from "@std/assert";
import {
  conv2dForwardReference,
  conv2dOutput,
  type Conv2dShape,
  conv2dWeightGradientReference,
} from "../../../kernels/conv2d.ts";
import { conv2dForwardPlan } from "../../../kernels/tile/conv2d_forward.ts";
import { conv2dInputGradientPlan } from "../../../kernels/tile/conv2d_input_gradient.ts";
import { conv2dWeightGradientPlan } from "../../../kernels/tile/conv2d_weight_gradient.ts";
import type { GemmPlanner } from "../../../kernels/tile/problem.ts";
import { tileProgram, TILES } from "../../../kernels/tile/variants.ts";
import type { Device } from "../../../device/device.ts";
import { momentTotals, sumTotals } from "../../../device/tune_trial.ts";
import { eachDevice } from "../../devices.ts";
import { assertClose } from "../close.ts";
import { convData, gradientSums, inputGradientThroughLoad, loadedInput, momentsOf } from "./conv2d_reference.ts";
import { type Bound, runProgram } from "./run.ts";

const base: Conv2dShape = {
  batch: 2,
  height: 7,
  width: 6,
  inChannels: 8,
  outChannels: 16,
  kernelHeight: 3,
  kernelWidth: 3,
  stride: 1,
  padding: 1,
  groups: 1,
};
const pointwise = { ...base, kernelHeight: 1, kernelWidth: 1, padding: 0 };

const CASES: readonly (readonly [name: string, tile: string, Conv2dShape])[] = [
  ["3x3 in groups of 5, stride 2, odd image, normalised relu, moments", "tile 64x16", {
    ...base,
    inChannels: 15,
    outChannels: 15,
    groups: 3,
    stride: 2,
    load: "normalised relu",
    moments: true,
  }],
  ["1x1, stride 2, normalised relu gated, moments", "tile 32x32", {
    ...pointwise,
    stride: 2,
    inChannels: 44,
    outChannels: 36,
    load: "normalised relu gated",
    moments: true,
  }],
  ["many pixels, whose partials are merged", "tile 64x16", {
    ...pointwise,
    height: 65,
    width: 65,
    inChannels: 4,
    outChannels: 8,
    load: "normalised",
    moments: true,
  }],
  ["7x5, stride 3, padding 2", "tile 32x32", {
    ...base,
    height: 13,
    width: 11,
    inChannels: 16,
    outChannels: 15,
    kernelHeight: 7,
    kernelWidth: 5,
    stride: 3,
    padding: 2,
  }],
  ["3x3 in groups of 8, stride 2, f16, normalised relu gated, moments", "tile 64x16", {
    ...base,
    inChannels: 16,
    groups: 2,
    stride: 2,
    storage: "f16",
    load: "normalised relu gated",
    moments: true,
  }],
  ["1x1 with odd channels, f16, normalised relu, moments", "tile 32x32", {
    ...pointwise,
    inChannels: 47,
    outChannels: 43,
    storage: "f16",
    load: "normalised relu",
    moments: true,
  }],
];

async function run<Role extends string>(
  device: Device,
  { planner, shape, tile: name }: { planner: GemmPlanner<Conv2dShape, Role>; shape: Conv2dShape; tile: string },
  bound: Readonly<Partial<Record<Role, Bound>>>,
) {
  const tile = TILES.find((candidate) => candidate.name === name);
  if (tile === undefined) throw new RangeError(`There must be a tile named "${name}"`);
  return await runProgram(device, tileProgram(planner(shape, tile), tile, { unrolls: false }), bound);
}

const totals = (parts: readonly (readonly [string, Float32Array])[]) => parts.flatMap(([, values]) => [...values]);

for (const [name, tile, shape] of CASES) {
  const { storage = "f32" } = shape;
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const data = convData(shape);
  const loaded = loadedInput(shape, data);
  const bound = storage === "f32" ? 1e-6 : 1e-3;
  const input = { data: data.input, storage };
  const weight = { data: data.weight, storage };
  const outGradient = { data: data.outGradient, storage };
  const normaliser = { data: data.normaliser };
  const gate = { data: data.gate };

  eachDevice(`${tile}: conv2d forward matches the reference: ${name}`, async (device) => {
    const results = await run(device, { planner: conv2dForwardPlan, shape, tile }, {
      input,
      weight,
      normaliser,
      gate,
      output: { data: outputLength, storage },
    });
    const output = results.get("output") ?? new Float32Array();
    assertClose(output, conv2dForwardReference(shape, { input: loaded, weight: data.weight }), { bound });
    const moments = results.get("moments");
    assertEquals(moments !== undefined, shape.moments ?? false);
    if (moments === undefined) return;
    // Of the output as it is stored, so that f16 costs no precision.
    assertClose(totals(momentTotals(moments, shape.outChannels)), momentsOf(output, shape.outChannels), {
      what: "moments",
    });
  });

  eachDevice(`${tile}: conv2d input gradient matches the reference: ${name}`, async (device) => {
    const results = await run(device, { planner: conv2dInputGradientPlan, shape, tile }, {
      outGradient,
      weight,
      raw: input,
      normaliser,
      inputGradient: { data: inputLength, storage },
    });
    const gradient = results.get("inputGradient") ?? new Float32Array();
    assertClose(gradient, inputGradientThroughLoad(shape, data), { bound });
    const sums = results.get("sums");
    assertEquals(sums !== undefined, shape.load === "normalised" || shape.load === "normalised relu");
    if (sums === undefined) return;
    assertClose(totals(sumTotals(sums, shape.inChannels)), gradientSums(shape, gradient, data), { what: "sums" });
  });

  eachDevice(`${tile}: conv2d weight gradient matches the reference: ${name}`, async (device) => {
    const results = await run(device, { planner: conv2dWeightGradientPlan, shape, tile }, {
      input,
      outGradient,
      normaliser,
      gate,
      weightGradient: { data: weightLength },
    });
    assertClose(
      results.get("weightGradient") ?? [],
      conv2dWeightGradientReference(shape, { input: loaded, outGradient: data.outGradient }),
    );
  });
}
