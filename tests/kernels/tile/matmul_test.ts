import { matmulReference, type MatmulShape } from "../../../kernels/matmul.ts";
import { matmulPlan } from "../../../kernels/tile/matmul.ts";
import { tileProgram, TILES } from "../../../kernels/tile/variants.ts";
import type { Storage } from "../../../kernels/variant.ts";
import { eachDevice } from "../../devices.ts";
import { assertClose, madeUp } from "../close.ts";
import { runProgram, stored } from "./run.ts";

const CASES: readonly (readonly [tile: string, MatmulShape & { storage?: Storage }])[] = [
  ["tile 64x16", { m: 70, n: 20, k: 36 }],
  ["tile 64x16", { m: 70, n: 21, k: 37, transposeA: true, accumulate: true }],
  ["tile 32x32, two panels", { m: 33, n: 36, k: 40, transposeB: true }],
  ["tile 32x32", { m: 5, n: 7, k: 9, transposeA: true, transposeB: true }],
  ["tile 128x64", { m: 130, n: 66, k: 20 }],
  ["tile 32x32", { m: 33, n: 40, k: 24, storage: "f16" }],
  ["tile 32x32", { m: 34, n: 38, k: 22, storage: "f16", transposeB: true, transposeA: true }],
];

for (const [name, shape] of CASES) {
  const { m, n, k, storage = "f32", accumulate = false, transposeA = false, transposeB = false } = shape;
  const forms = `${transposeA ? "Aᵀ" : "A"}·${transposeB ? "Bᵀ" : "B"}${accumulate ? " + C" : ""}`;
  eachDevice(`${name}: ${forms} matches the reference with m ${m}, n ${n}, k ${k}, ${storage}`, async (device) => {
    const tile = TILES.find((candidate) => candidate.name === name.split(",")[0]);
    if (tile === undefined) throw new RangeError(`There must be a tile named "${name}"`);
    const stages = name.endsWith("two panels") ? 2 : 1;
    const sized = { ...tile, stages } as const;
    const a = stored(madeUp(m * k, 1), storage);
    const b = stored(madeUp(k * n, 2), storage);
    const c = stored(madeUp(m * n, 3), storage);
    const results = await runProgram(device, tileProgram(matmulPlan(shape, sized), sized, { unrolls: false }), {
      left: { data: a, storage },
      right: { data: b, storage },
      product: { data: accumulate ? c : m * n, storage },
    });
    assertClose(results.get("product") ?? [], matmulReference(shape, { a, b, c }), {
      bound: storage === "f32" ? 1e-6 : 1e-3,
    });
  });
}
