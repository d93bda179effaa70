/**
 * The exam of the three passes of a convolution in tiles: cases are run on every device and compared with references.
 * Cases are spread over test files, because each kernel takes a software adapter half a second to compile.
 */
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

/** Shapes to vary. */
export const base: Conv2dShape = {
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
export const pointwise = { ...base, kernelHeight: 1, kernelWidth: 1, padding: 0 };

/** A shape by name, and the tile that is to compute it. */
export type ConvCase = readonly [name: string, tile: string, shape: Conv2dShape];

/** Runs a pass in the tile of that name. */
export async function run<Role extends string>(
  device: Device,
  { planner, shape, tile: name }: { planner: GemmPlanner<Conv2dShape, Role>; shape: Conv2dShape; tile: string },
  bound: Readonly<Partial<Record<Role, Bound>>>,
) {
  const tile = TILES.find((candidate) => candidate.name === name);
  if (tile === undefined) throw new RangeError(`There must be a tile named "${name}"`);
  const plan = planner(shape, tile);
  return await runProgram(device, tileProgram(plan, tile, { unrolls: false }), bound);
}

const totals = (parts: readonly (readonly [string, Float32Array])[]) => parts.flatMap(([, values]) => [...values]);

/** Registers the tests of the cases. */
export function examine(cases: readonly ConvCase[]): void {
  for (const one of cases) examineOne(one);
}

function examineOne([name, tile, shape]: ConvCase): void {
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
