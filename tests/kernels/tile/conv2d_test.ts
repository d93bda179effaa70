import { assertEquals } from "@std/assert";
import { conv2dOutput } from "../../../kernels/conv2d.ts";
import { conv2dForwardPlan } from "../../../kernels/tile/conv2d_forward.ts";
import { conv2dWeightGradientPlan } from "../../../kernels/tile/conv2d_weight_gradient.ts";
import { eachDevice } from "../../devices.ts";
import { base, type ConvCase, examine, pointwise, run } from "./conv2d_exam.ts";
import { convData } from "./conv2d_reference.ts";

const CASES: readonly ConvCase[] = [
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
  ["many pixels, whose partials are merged", "tile 32x32", {
    ...pointwise,
    height: 48,
    width: 47,
    inChannels: 4,
    outChannels: 8,
    load: "normalised",
    moments: true,
  }],
];

examine(CASES);

eachDevice("the same moments and weight gradient come out bit for bit when they are computed again", async (device) => {
  const [, tile, shape] = CASES.find(([name]) => name.startsWith("many pixels")) ?? CASES[0];
  const { weightLength, outputLength } = conv2dOutput(shape);
  const data = convData(shape);
  const given = { input: { data: data.input }, weight: { data: data.weight }, normaliser: { data: data.normaliser } };
  const moments = async () => {
    const bound = { ...given, output: { data: outputLength } };
    return (await run(device, { planner: conv2dForwardPlan, shape, tile }, bound)).get("moments");
  };
  const weightGradient = async () => {
    const bound = { ...given, outGradient: { data: data.outGradient }, weightGradient: { data: weightLength } };
    return (await run(device, { planner: conv2dWeightGradientPlan, shape, tile }, bound)).get("weightGradient");
  };
  for (const compute of [moments, weightGradient]) {
    const first = await compute();
    for (let again = 0; again < 3; again++) assertEquals(await compute(), first);
  }
});
