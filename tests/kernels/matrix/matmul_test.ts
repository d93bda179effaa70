import { assertEquals } from "@std/assert";
import { matmulReference } from "../../../kernels/matmul.ts";
import { matrixKernel, type MatrixTile } from "../../../kernels/matrix/skeleton.ts";
import { subgroupMatrices } from "../../../kernels/matrix/unit.ts";
import { matmulPlan } from "../../../kernels/tile/matmul.ts";
import { eachDevice } from "../../devices.ts";
import { assertClose, madeUp } from "../close.ts";
import { runProgram, stored } from "../tile/run.ts";
import { closeValidator, validate } from "../validate.ts";
import { emulatedMatrices } from "./emulated.ts";

Deno.test.afterAll(closeValidator);

const TILE: MatrixTile = { rows: 32, columns: 32, panel: 16, fetch: 8, subgroupRows: 2, subgroupColumns: 1 };
const SHAPES = [{ m: 40, n: 48, k: 40 }, { m: 37, n: 35, k: 21, transposeA: true, transposeB: true }];
const NVIDIA = { m: 16, n: 16, k: 16, subgroupSize: 32 };
const APPLE = { m: 8, n: 8, k: 8, subgroupSize: 32 };

for (const shape of SHAPES) {
  const { m, n, k } = shape;
  const forms = "transposeA" in shape ? "Aᵀ·Bᵀ" : "A·B";
  for (const sizes of [NVIDIA, APPLE]) {
    const name = `${forms}, m ${m}, n ${n}, k ${k}, units of ${sizes.m}×${sizes.n}×${sizes.k}`;
    eachDevice(`emulated matrix units give the reference's product: ${name}`, async (device) => {
      // wgpu has no bitcast to vec4<f16>, which 16-byte fetches take; it has no matrix units either.
      if (device.adapter.provider !== "dawn" || !device.adapter.features.includes("f16")) return;
      const { problem } = matmulPlan({ ...shape, storage: "f16" }, TILE);
      const kernel = matrixKernel(problem, TILE, emulatedMatrices(sizes));
      const a = stored(madeUp(m * k, 1), "f16");
      const b = stored(madeUp(k * n, 2), "f16");
      const program = {
        launches: [{ kernel, buffers: problem.buffers.map(({ role }) => role) }],
        workspaceBytes: 0,
      };
      const results = await runProgram(device, program, {
        left: { data: a, storage: "f16" },
        right: { data: b, storage: "f16" },
        product: { data: m * n, storage: "f16" },
      });
      const expected = matmulReference(shape, { a, b, c: new Float32Array(m * n) });
      assertClose(results.get("product") ?? [], expected, { bound: 1e-3 });
    });

    Deno.test(`the same text with subgroup matrices is valid: ${name}`, async () => {
      const { problem } = matmulPlan({ ...shape, storage: "f16" }, TILE);
      assertEquals(await validate(matrixKernel(problem, TILE, subgroupMatrices(sizes))), []);
    });
  }
}
