import { assert, assertEquals, assertMatch } from "@std/assert";
import { momentTotals, sumTotals } from "../../../device/tune_trial.ts";
import {
  conv2dForwardReference,
  conv2dOutput,
  type Conv2dShape,
  conv2dWeightGradientReference,
} from "../../../kernels/conv2d.ts";
import { MATRIX_TILES, matrixProgram } from "../../../kernels/matrix/variants.ts";
import { heavyOperations } from "../../../kernels/operations.ts";
import { conv2dForwardPlan } from "../../../kernels/tile/conv2d_forward.ts";
import { conv2dInputGradientPlan } from "../../../kernels/tile/conv2d_input_gradient.ts";
import { conv2dWeightGradientPlan } from "../../../kernels/tile/conv2d_weight_gradient.ts";
import type { Capabilities, HeavyOperation } from "../../../kernels/variant.ts";
import { eachDevice } from "../../devices.ts";
import { assertClose } from "../close.ts";
import { convData, gradientSums, inputGradientThroughLoad, loadedInput, momentsOf } from "../tile/conv2d_reference.ts";
import { runProgram } from "../tile/run.ts";
import { closeValidator, validate } from "../validate.ts";
import { emulatedMatrices } from "./emulated.ts";

Deno.test.afterAll(closeValidator);

const nvidia: Capabilities = {
  kind: "gpu",
  features: ["f16", "subgroups", "subgroup-size-control", "subgroup-matrix"],
  workgroupBytesMax: 32_768,
  workgroupInvocationsMax: 256,
  subgroupSizes: [32, 32],
  matrices: [
    { m: 16, n: 16, k: 16, component: "f16", result: "f16" },
    { m: 16, n: 8, k: 8, component: "f16", result: "f32" },
    { m: 16, n: 16, k: 16, component: "f16", result: "f32" },
  ],
};

const base: Conv2dShape = {
  batch: 2,
  height: 7,
  width: 6,
  inChannels: 48,
  outChannels: 40,
  kernelHeight: 3,
  kernelWidth: 3,
  stride: 1,
  padding: 1,
  groups: 1,
  storage: "f16",
};
const CASES: Readonly<Record<string, Conv2dShape>> = {
  "3x3, stride 2, in groups, normalised relu, moments": {
    ...base,
    outChannels: 48,
    groups: 2,
    stride: 2,
    load: "normalised relu",
    moments: true,
  },
  "1x1, gated, moments": {
    ...base,
    kernelHeight: 1,
    kernelWidth: 1,
    padding: 0,
    load: "normalised relu gated",
    moments: true,
  },
};

const [TILE] = MATRIX_TILES.filter(({ name }) => name === "matrix 32x32");
const UNIT = emulatedMatrices({ m: 16, n: 16, k: 16, subgroupSize: 32 });
const totals = (parts: readonly (readonly [string, Float32Array])[]) => parts.flatMap(([, values]) => [...values]);

for (const [name, shape] of Object.entries(CASES)) {
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const data = convData(shape);
  const loaded = loadedInput(shape, data);
  const half = (values: Float32Array<ArrayBuffer> | number) => ({ data: values, storage: "f16" as const });
  const [input, weight, outGradient] = [half(data.input), half(data.weight), half(data.outGradient)];
  const tables = { normaliser: { data: data.normaliser }, gate: { data: data.gate } };

  eachDevice(`every pass on emulated matrix units matches its reference: ${name}`, async (device) => {
    // wgpu has no bitcast to vec4<f16>, which 16-byte fetches take; it has no matrix units either.
    if (device.adapter.provider !== "dawn" || !device.adapter.features.includes("f16")) return;
    const forward = matrixProgram(conv2dForwardPlan(shape, TILE), TILE, UNIT);
    const made = await runProgram(device, forward, { input, weight, ...tables, output: half(outputLength) });
    const output = made.get("output") ?? new Float32Array();
    // The normalised input is rounded to f16 as well.
    assertClose(output, conv2dForwardReference(shape, { input: loaded, weight: data.weight }), { bound: 2e-3 });
    const moments = made.get("moments");
    assert(moments !== undefined);
    const wanted = momentsOf(output, shape.outChannels);
    assertClose(totals(momentTotals(moments, shape.outChannels)), wanted, { what: "moments" });

    const back = matrixProgram(conv2dInputGradientPlan(shape, TILE), TILE, UNIT);
    const bound = { outGradient, weight, raw: input, ...tables, inputGradient: half(inputLength) };
    const results = await runProgram(device, back, bound);
    const gradient = results.get("inputGradient") ?? new Float32Array();
    assertClose(gradient, inputGradientThroughLoad(shape, data), { bound: 2e-3, what: "input gradient" });
    const sums = results.get("sums");
    assertEquals(sums !== undefined, shape.load === "normalised relu");
    if (sums !== undefined) {
      assertClose(totals(sumTotals(sums, shape.inChannels)), gradientSums(shape, gradient, data), { what: "sums" });
    }

    const weights = matrixProgram(conv2dWeightGradientPlan(shape, TILE), TILE, UNIT);
    const found = await runProgram(device, weights, {
      input,
      outGradient,
      ...tables,
      weightGradient: { data: weightLength },
    });
    assertClose(
      found.get("weightGradient") ?? [],
      conv2dWeightGradientReference(shape, { input: loaded, outGradient: data.outGradient }),
      { bound: 2e-3, what: "weight gradient" },
    );
  });
}

const large: Conv2dShape = { ...base, batch: 16, height: 56, width: 56, inChannels: 448, outChannels: 448 };
const LAYERS: Readonly<Record<string, Conv2dShape>> = {
  "16GF, groups of 112": { ...large, groups: 4, stride: 2, load: "normalised relu", moments: true },
  "256GF, 1x1 of odd channels, gated": {
    ...large,
    height: 14,
    width: 14,
    inChannels: 4103,
    outChannels: 4103,
    kernelHeight: 1,
    kernelWidth: 1,
    padding: 0,
    load: "normalised relu gated",
    moments: true,
  },
  "256GF, groups of 373": { ...large, inChannels: 746, outChannels: 746, groups: 2, load: "normalised relu" },
};

async function validateAll<Shape, Role extends string>(operation: HeavyOperation<Shape, Role>, shape: Shape) {
  const names: string[] = [];
  for (const variant of operation.variants(shape).filter(({ family }) => family === "matrix")) {
    if (variant.refuses(shape, nvidia) !== undefined) continue;
    names.push(variant.name);
    const { launches } = variant.program(shape, nvidia);
    for (const { kernel, buffers } of launches) {
      assertEquals(await validate(kernel, nvidia), [], `${variant.name}: ${kernel.label}`);
      assertEquals(kernel.bindings.length, buffers.length);
      for (const count of kernel.workgroups) assert(Number.isInteger(count) && count >= 1 && count <= 65_535);
    }
  }
  return names;
}

const { matmul, ...convolutions } = heavyOperations;

for (const [name, shape] of Object.entries(LAYERS)) {
  Deno.test(`matrix units have valid kernels for every pass of a layer: ${name}`, async () => {
    for (const operation of Object.values(convolutions)) {
      const names = await validateAll(operation, shape);
      assert(names.length > 0, operation.name);
      // Not before a device has proven them.
      assertEquals(operation.usual(shape, nvidia).family, "tile");
    }
  });
}

Deno.test("matrix units have valid kernels for a matrix multiply in f16", async () => {
  const names = await validateAll(matmul, { m: 1024, n: 2048, k: 512, storage: "f16" });
  assertEquals(names, MATRIX_TILES.map((tile) => tile.name));
});

Deno.test("matrix tiles refuse what a device or a shape lacks, and say what", () => {
  const variant = heavyOperations["conv2d forward"].variants(large).find(({ name }) => name === "matrix 64x64");
  assert(variant);
  const refusal = (device: Partial<Capabilities>, shape: Partial<Conv2dShape> = {}) =>
    variant.refuses({ ...large, ...shape }, { ...nvidia, ...device }) ?? "";
  assertEquals(refusal({}), "");
  assertMatch(refusal({}, { storage: "f32" }), /stored as f32$/);
  assertMatch(refusal({ matrices: [] }), /no matrix units$/);
  assertMatch(refusal({ features: ["f16", "subgroups", "subgroup-matrix"] }), /no subgroup-size-control$/);
  assertMatch(refusal({ matrices: nvidia.matrices.slice(0, 1) }), /no f16 matrices into f32/);
  assertMatch(refusal({ workgroupBytesMax: 16_384 }), /bytes of workgroup memory, the device has 16384$/);
  assertMatch(refusal({}, { outChannels: 24 }), /24 columns/);
  assertMatch(refusal({ workgroupInvocationsMax: 64 }), /128 invocations, the device has 64$/);
});
