import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Kernel } from "../../kernels/kernel.ts";
import { closeValidator, validate } from "./validate.ts";

Deno.test.afterAll(closeValidator);

/** A text with everything that only some GPUs have. */
const MATRICES: Kernel = {
  label: "matrices",
  wgsl: `diagnostic(off, chromium.subgroup_matrix_uniformity);
var<workgroup> staged: array<vec4<u32>, 64>;
@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(64) @subgroup_size(32)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32) {
staged[lane] = input[lane];
workgroupBarrier();
let left = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&staged, subgroup * 2u, 2u);
let right = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&staged, 0u, 2u);
let sum = subgroupMatrixMultiplyAccumulate(left, right, subgroup_matrix_result<f32, 16, 16>());
subgroupMatrixStore<row_major>(&output, subgroup * 256u, sum, 16u);
}
`,
  bindings: ["read", "write"],
  workgroups: [1, 1, 1],
  requires: ["f16", "subgroups", "subgroup-size-control", "subgroup-matrix"],
};

const broken = (what: string, by: string): Kernel => {
  assert(MATRICES.wgsl.includes(what));
  return { ...MATRICES, wgsl: MATRICES.wgsl.replace(what, by) };
};

Deno.test("validate() accepts subgroup matrices, which this machine cannot run", async () => {
  assertEquals(await validate(MATRICES), []);
});

Deno.test("validate() tells where a text is broken", async () => {
  const messages = await validate(broken("col_major", "column_major"));
  assertMatch(messages.join("\n"), /^line 10:\d+ unresolved|^line 10:\d+ .*template/);
  assertMatch((await validate(broken("input[lane]", "input[lane"))).join("\n"), /^line 7:\d+ expected/);
});

Deno.test("validate() refuses shapes of matrices that cannot be multiplied", async () => {
  const messages = await validate(broken("subgroup_matrix_right<f16, 16, 16>", "subgroup_matrix_right<f16, 8, 8>"));
  assertMatch(messages.join("\n"), /no matching call to 'subgroupMatrixMultiplyAccumulate/);
});

Deno.test("validate() refuses a text whose features are not required, and bindings that do not fit the text", async () => {
  assertMatch((await validate({ ...MATRICES, requires: ["f16"] })).join("\n"), /requires enabling extension/);
  assertMatch((await validate({ ...MATRICES, bindings: ["read", "read"] })).join("\n"), /binding/i);
});

Deno.test("validate() measures workgroup memory by the GPU that the kernel is meant for", async () => {
  const large = broken("array<vec4<u32>, 64>", "array<vec4<u32>, 2048>");
  assertEquals(await validate(large), []);
  assertMatch((await validate(large, { workgroupBytesMax: 16_384 })).join("\n"), /workgroup storage \(32768 bytes\)/);
});
