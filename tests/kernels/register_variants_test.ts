import { assertEquals } from "@std/assert";
import { momentTotals, sumTotals } from "../../device/tune_trial.ts";
import {
  conv2dForwardReference,
  conv2dOutput,
  type Conv2dShape,
  conv2dWeightGradientReference,
} from "../../kernels/conv2d.ts";
import {
  registerForwardVariants,
  registerInputGradientVariants,
  registerWeightGradientVariants,
} from "../../kernels/register_variants.ts";
import type { Capabilities, Variant } from "../../kernels/variant.ts";
import { eachDevice } from "../devices.ts";
import { assertClose } from "./close.ts";
import { convData, gradientSums, inputGradientThroughLoad, loadedInput, momentsOf } from "./tile/conv2d_reference.ts";
import { type Bound, runProgram } from "./tile/run.ts";

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

const CASES: Readonly<Record<string, Conv2dShape>> = {
  "3x3 in groups of 5, stride 2, normalised relu, moments": {
    ...base,
    inChannels: 15,
    outChannels: 15,
    groups: 3,
    stride: 2,
    load: "normalised relu",
    moments: true,
  },
  "3x3, normalised": { ...base, load: "normalised" },
  "1x1, stride 2, normalised relu gated": {
    ...pointwise,
    stride: 2,
    inChannels: 36,
    outChannels: 44,
    load: "normalised relu gated",
    moments: true,
  },
  "3x3 in groups of 8, f16, normalised relu, moments": {
    ...base,
    inChannels: 16,
    groups: 2,
    storage: "f16",
    load: "normalised relu",
    moments: true,
  },
  "3x3 in groups of 8, stride 2, f16, normalised relu": {
    ...base,
    inChannels: 16,
    groups: 2,
    stride: 2,
    storage: "f16",
    load: "normalised relu",
  },
  "1x1 with odd channels, f16, gated": {
    ...pointwise,
    inChannels: 37,
    outChannels: 43,
    storage: "f16",
    load: "normalised relu gated",
    moments: true,
  },
  "the stem, f16": { ...base, inChannels: 3, stride: 2, storage: "f16", moments: true },
};

const totals = (parts: readonly (readonly [string, Float32Array])[]) => parts.flatMap(([, values]) => [...values]);

for (const [name, shape] of Object.entries(CASES)) {
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

  eachDevice(`registers: every pass of a fused convolution matches its reference: ${name}`, async (device) => {
    const [forward] = registerForwardVariants;
    const { capabilities } = device.choices;
    const output = { data: outputLength, storage };
    const results = await runProgram(device, forward.program(shape, capabilities), {
      input,
      weight,
      normaliser,
      gate,
      output,
    });
    const made = results.get("output") ?? new Float32Array();
    assertClose(made, conv2dForwardReference(shape, { input: loaded, weight: data.weight }), { bound, what: "output" });
    const moments = results.get("moments");
    assertEquals(moments !== undefined, shape.moments ?? false);
    if (moments !== undefined) {
      const found = totals(momentTotals(moments, shape.outChannels));
      assertClose(found, momentsOf(made, shape.outChannels), { what: "moments" });
    }

    const [inputGradient] = registerInputGradientVariants;
    const back = await runProgram(device, inputGradient.program(shape, capabilities), {
      outGradient,
      weight,
      raw: input,
      normaliser,
      inputGradient: { data: inputLength, storage },
    });
    const gradient = back.get("inputGradient") ?? new Float32Array();
    assertClose(gradient, inputGradientThroughLoad(shape, data), { bound, what: "input gradient" });
    const sums = back.get("sums");
    assertEquals(sums !== undefined, shape.load === "normalised" || shape.load === "normalised relu");
    if (sums !== undefined) {
      assertClose(totals(sumTotals(sums, shape.inChannels)), gradientSums(shape, gradient, data), { what: "sums" });
    }

    const [weightGradient] = registerWeightGradientVariants;
    const weights = await runProgram(device, weightGradient.program(shape, capabilities), {
      input,
      outGradient,
      normaliser,
      gate,
      weightGradient: { data: weightLength },
    });
    assertClose(
      weights.get("weightGradient") ?? [],
      conv2dWeightGradientReference(shape, { input: loaded, outGradient: data.outGradient }),
      { what: "weight gradient" },
    );
  });
}

eachDevice(
  "registers: tiles of convolutions give equal bits, and one like another is refused",
  async (device) => {
    const { capabilities } = device.choices;
    const wide: Conv2dShape = { ...base, batch: 3, stride: 2, inChannels: 36, outChannels: 40 };
    const bits = async <Role extends string>(
      variants: readonly Variant<Conv2dShape, Role>[],
      { shape, role, bound }: { shape: Conv2dShape; role: Role; bound: Readonly<Partial<Record<Role, Bound>>> },
    ) => {
      const runs = variants.filter((variant) => variant.refuses(shape, capabilities) === undefined);
      const results = [];
      for (const variant of runs) {
        results.push((await runProgram(device, variant.program(shape, capabilities), bound)).get(role));
      }
      for (const result of results) assertEquals(result, results[0]);
      return runs.map(({ name }) => name);
    };
    const narrow: Conv2dShape = { ...base, width: 7, inChannels: 24, outChannels: 24, groups: 3 };
    const long: Conv2dShape = { ...narrow, batch: 1, width: 23, stride: 2, inChannels: 20, outChannels: 20, groups: 4 };
    const strided: Conv2dShape = { ...narrow, stride: 2, width: 14 };
    const names = ["registers", "registers 6x32", "registers 8x16"];
    const cases = [[wide, names, names], [narrow, names.slice(0, 2), names.slice(0, 2)], [
      long,
      names.slice(0, 2),
      names,
    ], [strided, names.slice(0, 2), names]] as const;
    for (const [shape, forward, backward] of cases) {
      const { inputLength, outputLength } = conv2dOutput(shape);
      const data = convData(shape);
      const [input, weight, outGradient] = [data.input, data.weight, data.outGradient].map((data) => ({ data }));
      const there = { input, weight, output: { data: outputLength } };
      assertEquals(await bits(registerForwardVariants, { shape, role: "output", bound: there }), forward);
      const back = { outGradient, weight, inputGradient: { data: inputLength } };
      assertEquals(await bits(registerInputGradientVariants, { shape, role: "inputGradient", bound: back }), backward);
    }

    // Two images have 24 pixels: three rows of lanes for either tile.
    const [, sixRows, eightRows] = registerForwardVariants;
    const refusal = sixRows.refuses({ ...wide, batch: 2 }, capabilities);
    assertEquals(refusal, "the tile is that of another variant at this shape");
    // By lines: a line of 7 has a tile of 7, which 8 rows change nothing about.
    assertEquals(eightRows.refuses(narrow, capabilities), "the tile is that of another variant at this shape");
  },
);

Deno.test("the registers family refuses f16 where the device has none", () => {
  const device: Capabilities = {
    kind: "cpu",
    features: [],
    workgroupBytesMax: 0,
    workgroupInvocationsMax: 0,
    subgroupSizes: [0, 0],
    matrices: [],
  };
  for (const [variant] of [registerForwardVariants, registerInputGradientVariants, registerWeightGradientVariants]) {
    assertEquals(variant.refuses({ ...base, storage: "f16" }, device), "the device has no f16");
    assertEquals(variant.refuses(base, device), undefined);
  }
});
