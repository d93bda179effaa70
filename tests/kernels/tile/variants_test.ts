import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Conv2dShape } from "../../../kernels/conv2d.ts";
import { heavyOperations } from "../../../kernels/operations.ts";
import { TILES } from "../../../kernels/tile/variants.ts";
import type { Capabilities, HeavyOperation } from "../../../kernels/variant.ts";
import { closeValidator, validate } from "../validate.ts";

Deno.test.afterAll(closeValidator);

const gpu: Capabilities = {
  kind: "gpu",
  features: ["f16"],
  workgroupBytesMax: 32_768,
  workgroupInvocationsMax: 256,
  subgroupSizes: [0, 0],
  matrices: [],
};

const base: Conv2dShape = {
  batch: 32,
  height: 112,
  width: 112,
  inChannels: 224,
  outChannels: 224,
  kernelHeight: 3,
  kernelWidth: 3,
  stride: 2,
  padding: 1,
  groups: 2,
};
const pointwise = { ...base, kernelHeight: 1, kernelWidth: 1, stride: 1, padding: 0, groups: 1 };

const LAYERS: Readonly<Record<string, Conv2dShape>> = {
  "the stem": { ...base, height: 224, width: 224, inChannels: 3, outChannels: 32, groups: 1, moments: true },
  "16GF, groups of 112": { ...base, load: "normalised relu", moments: true, storage: "f16" },
  "16GF, last stage, gated": {
    ...pointwise,
    batch: 8,
    height: 7,
    width: 7,
    inChannels: 3024,
    outChannels: 3024,
    load: "normalised relu gated",
    moments: true,
    storage: "f16",
  },
  "256GF, groups of 373": { ...base, inChannels: 746, outChannels: 746, load: "normalised relu", storage: "f16" },
  "256GF, odd channels": {
    ...pointwise,
    height: 14,
    width: 14,
    inChannels: 4103,
    outChannels: 4103,
    load: "normalised",
    moments: true,
  },
  "400MF, groups of 8": { ...base, inChannels: 48, outChannels: 48, groups: 6, load: "normalised relu", moments: true },
};

const { matmul, ...convolutions } = heavyOperations;

/** Validates the kernels of every tile that does not refuse; returns the names of those. */
async function validateAll<Shape, Role extends string>(operation: HeavyOperation<Shape, Role>, shape: Shape) {
  const names: string[] = [];
  for (const variant of operation.variants(shape).filter(({ family }) => family === "tile")) {
    if (variant.refuses(shape, gpu) !== undefined) continue;
    names.push(variant.name);
    for (const { kernel, buffers } of variant.program(shape, gpu).launches) {
      assertEquals(await validate(kernel, gpu), [], `${variant.name}: ${kernel.label}`);
      assertEquals(kernel.bindings.length, buffers.length);
      for (const count of kernel.workgroups) assert(Number.isInteger(count) && count >= 1 && count <= 65_535);
    }
  }
  return names;
}

for (const [name, shape] of Object.entries(LAYERS)) {
  Deno.test(`every tile that takes a layer has valid kernels for it: ${name}`, async () => {
    for (const operation of Object.values(convolutions)) {
      const names = await validateAll(operation, shape);
      assertEquals(names[0], operation.usual(shape, gpu).name);
    }
  });
}

Deno.test("every tile that takes a matrix multiply has valid kernels for it", async () => {
  for (const form of [{}, { transposeA: true }, { transposeB: true, accumulate: true }]) {
    const names = await validateAll(matmul, { m: 1024, n: 2048, k: 512, ...form });
    assert(names.includes("tile 128x64") && names.includes("tile 128x128"), String(names));
  }
});

Deno.test("a tile fits its shape: narrow ones for narrow groups, low ones for few rows", () => {
  const usual = (shape: Conv2dShape) => heavyOperations["conv2d forward"].usual(shape, gpu).name;
  assertEquals(usual(pointwise), "tile 128x64");
  assertEquals(usual(LAYERS["400MF, groups of 8"]), "tile 256x8");
  assertEquals(usual(LAYERS["the stem"]), "tile 128x32");
  assertEquals(matmul.usual({ m: 20, n: 2048, k: 64 }, gpu).name, "tile 32x64");
  assertEquals(matmul.usual({ m: 3, n: 5, k: 7 }, gpu).name, "tile 32x32");
});

Deno.test("some tile takes every shape, however odd", () => {
  for (const m of [1, 32, 33, 64, 65, 128, 129, 5000]) {
    for (const n of [1, 8, 9, 16, 17, 31, 32, 33, 64, 65, 1000]) {
      const shape = { m, n, k: 5 };
      assertEquals(matmul.usual(shape, { ...gpu, workgroupBytesMax: 16_384 }).family, "tile", JSON.stringify(shape));
    }
  }
});

Deno.test("tiles refuse what a device lacks, and say what", () => {
  const variant = heavyOperations["conv2d forward"].variants(base).find(({ name }) => name === "tile 128x128");
  assert(variant);
  const large = { ...pointwise, storage: "f16" as const };
  assertEquals(variant.refuses(large, gpu), undefined);
  assertMatch(variant.refuses(large, { ...gpu, features: [] }) ?? "", /^the device has no f16$/);
  assertMatch(variant.refuses(large, { ...gpu, workgroupBytesMax: 8192 }) ?? "", /^takes 16384 bytes .* has 8192$/);
  assertMatch(variant.refuses(large, { ...gpu, workgroupInvocationsMax: 128 }) ?? "", /256 invocations, .* has 128$/);
  assertMatch(variant.refuses(large, { ...gpu, kind: "cpu" }) ?? "", /software adapter/);
});

Deno.test("tiles have names of their own and divide evenly among their invocations", () => {
  assertEquals(new Set(TILES.map(({ name }) => name)).size, TILES.length);
  for (const { name, rows, columns, eachRows, eachColumns, panel } of TILES) {
    const remainders = [rows % eachRows, columns % eachColumns, eachRows % 4, eachColumns % 4, panel % 8];
    assertEquals(remainders, [0, 0, 0, 0, 0], name);
  }
});

Deno.test("equal shapes give the same kernels", () => {
  const [variant] = heavyOperations["conv2d weight gradient"].variants(base).filter(({ family }) => family === "tile");
  const kernel = () => variant.program({ ...base }, gpu).launches.map((launch) => launch.kernel);
  kernel().forEach((one, i) => assert(one === kernel()[i]));
});
