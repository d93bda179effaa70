import { assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { type Ceiling, copyCeiling, fmaCeiling, matrixCeiling } from "../../kernels/ceilings.ts";
import { eachDevice } from "../devices.ts";
import { closeValidator, validate } from "./validate.ts";

Deno.test.afterAll(closeValidator);

async function outputOf(device: Device, { ceiling, iterations }: { ceiling: Ceiling; iterations: number }) {
  const inputs = ceiling.inputs(iterations).map((data) => device.upload(data));
  const output = device.allocate(ceiling.outputBytes);
  device.run(ceiling.kernel, [...inputs, output]);
  const [bytes] = await device.read([{ buffer: output, byteLength: ceiling.outputBytes }]);
  for (const buffer of [...inputs, output]) device.free(buffer);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

eachDevice("fmaCeiling() does every multiplication that it counts, in f32 and in f16", async (device) => {
  for (const storage of ["f32", "f16"] as const) {
    if (storage === "f16" && !device.adapter.features.includes("f16")) continue;
    const ceiling = fmaCeiling({ storage, workgroups: 3 });
    for (const iterations of [0, 1, 7]) {
      assertEquals(await outputOf(device, { ceiling, iterations }), ceiling.expected(iterations));
    }
    assertEquals(ceiling.flops(7), 2 * (storage === "f16" ? 2 : 1) * 12 * 8 * 7 * 3 * 64);
  }
});

eachDevice("copyCeiling() copies everything, also where the last workgroup is not full", async (device) => {
  const ceiling = copyCeiling({ byteLength: 16 * 5001 });
  assertEquals(await outputOf(device, { ceiling, iterations: 1 }), ceiling.expected(1));
});

Deno.test("matrixCeiling() is valid for every configuration that devices are known to have", async () => {
  const shapes = [[16, 16, 16, "f16", "f32"], [16, 16, 16, "f16", "f16"], [8, 8, 8, "f16", "f16"], [
    16,
    8,
    16,
    "f16",
    "f32",
  ], [
    8,
    8,
    8,
    "f32",
    "f32",
  ]] as const;
  for (const [m, n, k, component, result] of shapes) {
    const { kernel } = matrixCeiling({
      configuration: { m, n, k, component, result },
      subgroupSize: 32,
      accumulators: 16,
      workgroups: 100,
    });
    assertEquals(await validate(kernel), [], kernel.label);
  }
});

Deno.test("ceilings refuse to predict what is beyond exact arithmetic", () => {
  assertThrows(() => fmaCeiling({ storage: "f32", workgroups: 1 }).expected(1e6), RangeError, "fewer");
  assertThrows(() => copyCeiling({ byteLength: 20 }), RangeError, "multiple of 16");
});

Deno.test("matrixCeiling() predicts its sums by plain multiplication", () => {
  const configuration = { m: 2, n: 3, k: 4, component: "f32", result: "f32" } as const;
  const ceiling = matrixCeiling({ configuration, subgroupSize: 8, subgroups: 1, accumulators: 2, workgroups: 1 });
  const [operands] = ceiling.inputs(5);
  const sum = [0, 1, 2, 3].reduce((total, i) => total + operands[4 + i] * operands[8 + i * 3 + 2], 0);
  assertEquals(ceiling.expected(5)[6 + 3 + 2], 1 + 4 * 5 * sum);
});
