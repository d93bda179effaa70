import { assertEquals, assertThrows } from "@std/assert";
import { matmul, matmulReference, type MatmulShape } from "../../kernels/matmul.ts";
import { registerMatmulVariants } from "../../kernels/register_variants.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, madeUp } from "./close.ts";
import { runProgram, stored } from "./tile/run.ts";

const SIZES: readonly MatmulShape[] = [
  { m: 1, n: 1, k: 1 },
  { m: 64, n: 64, k: 64 },
  { m: 33, n: 20, k: 12 },
  { m: 5, n: 7, k: 9 },
  { m: 32, n: 256, k: 128 },
  { m: 37, n: 373, k: 41 },
  { m: 3, n: 746, k: 100 },
  { m: 130, n: 12, k: 3 },
];

for (const size of SIZES) {
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      const shape = { ...size, transposeA, transposeB, accumulate: transposeA };
      const { m, n, k } = shape;
      const forms = `${transposeA ? "Aᵀ" : "A"}·${transposeB ? "Bᵀ" : "B"}${shape.accumulate ? " + C" : ""}`;
      eachDevice(`matmul() matches the reference: ${forms} with m ${m}, n ${n}, k ${k}`, async (device) => {
        const [a, b, c] = [madeUp(m * k, 1), madeUp(k * n, 2), madeUp(m * n, 3)];
        const buffers = [device.upload(a), device.upload(b), device.upload(c)];
        device.run(matmul(shape), buffers);
        const [bytes] = await device.read([{ buffer: buffers[2] }]);
        for (const buffer of buffers) device.free(buffer);
        assertClose(new Float32Array(bytes.buffer), matmulReference(shape, { a, b, c }));
      });
    }
  }
}

eachDevice(
  "matmul() over f16 matrices sums in f32 and rounds once, and every tile gives the same bits",
  async (device) => {
    for (const [m, n, k] of [[70, 51, 33], [33, 52, 12]]) {
      const shape = { m, n, k, transposeB: true, accumulate: true, storage: "f16" } as const;
      const half = (length: number, seed: number) => stored(madeUp(length, seed), "f16");
      const [a, b, c] = [half(m * k, 1), half(k * n, 2), half(m * n, 3)];
      let first: Float32Array | undefined;
      for (const variant of registerMatmulVariants) {
        if (variant.refuses(shape, device.choices.capabilities) !== undefined) continue;
        const results = await runProgram(device, variant.program(shape, device.choices.capabilities), {
          left: { data: a, storage: "f16" },
          right: { data: b, storage: "f16" },
          product: { data: c, storage: "f16" },
        });
        const product = results.get("product") ?? new Float32Array();
        assertClose(product, matmulReference(shape, { a, b, c }), { bound: 5e-4 });
        first ??= product;
        assertEquals(product, first);
      }
      assertEquals(first === undefined, !device.choices.capabilities.features.includes("f16"));
    }
  },
);

Deno.test("matmul() refuses empty matrices", () => {
  assertThrows(() => matmul({ m: 2, n: 0, k: 3 }), RangeError, "n must be a positive integer, got 0");
});
