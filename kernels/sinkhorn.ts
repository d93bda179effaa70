/**
 * Sinkhorn-Knopp: scores to codes whose rows sum to 1 and whose columns are used about equally; as kernels for a device
 * that holds all samples, and as the reference that the coordinator runs on the CPU.
 */
import type { Kernel } from "./kernel.ts";
import { tileGrid } from "./tiles.ts";

/** Static shape and settings. */
export interface SinkhornOptions {
  readonly samples: number;
  readonly prototypes: number;
  readonly epsilon: number;
  readonly iterations: number;
}

/**
 * Scores `[samples, prototypes]` → codes of the same shape; f64 inside. The maximum of all scores is subtracted before
 * exp; prototypes are scaled first and samples last, so each row sums to 1. When a prototype's sum is 0, 1e-12 is added to
 * all entries. Source: SwAV's `distributed_sinkhorn`, VISSL's `distibuted_sinkhornknopp.py`.
 */
export function sinkhornReference(scores: Float32Array, options: SinkhornOptions): Float32Array<ArrayBuffer> {
  const { samples, prototypes, epsilon, iterations } = options;
  let max = -Infinity;
  for (const score of scores) max = Math.max(max, score);
  const q = Float64Array.from(scores, (score) => Math.exp((score - max) / epsilon));
  const sums = new Float64Array(prototypes);
  for (let iteration = 0; iteration < iterations; iteration++) {
    sumColumns(q, sums);
    if (sums.some((sum) => sum === 0)) {
      for (let i = 0; i < q.length; i++) q[i] += 1e-12;
      sumColumns(q, sums);
    }
    for (let i = 0, k = 0; i < q.length; i++, k = k + 1 === prototypes ? 0 : k + 1) q[i] /= sums[k] * prototypes;
    normalizeRows(q, prototypes, 1 / samples);
  }
  normalizeRows(q, prototypes, 1);
  return Float32Array.from(q);
}

function sumColumns(q: Float64Array, sums: Float64Array): void {
  const columns = sums.length;
  sums.fill(0);
  for (let i = 0, k = 0; i < q.length; i++, k = k + 1 === columns ? 0 : k + 1) sums[k] += q[i];
}

function normalizeRows(q: Float64Array, columns: number, target: number): void {
  for (let start = 0; start < q.length; start += columns) {
    let sum = 0;
    for (let k = 0; k < columns; k++) sum += q[start + k];
    for (let k = 0; k < columns; k++) q[start + k] *= target / sum;
  }
}

/** A buffer that {@linkcode sinkhorn}'s kernels bind. */
export type SinkhornBuffer = "scores" | "codes" | "workspace";

/** Kernels in the order in which they run, each with the buffers it binds. */
export interface SinkhornKernels {
  readonly steps: readonly { readonly kernel: Kernel; readonly buffers: readonly SinkhornBuffer[] }[];
  /** Bytes of the workspace: a sum for each prototype, and the largest score. */
  readonly workspaceBytes: number;
}

/**
 * Scores `[samples, prototypes]` → codes of the same shape in f32, as {@linkcode sinkhornReference}. One invocation sums a
 * prototype or a sample in order.
 */
export function sinkhorn(options: SinkhornOptions): SinkhornKernels {
  const { iterations, prototypes } = options;
  const steps: SinkhornKernels["steps"][number][] = [
    { kernel: maximum(options), buffers: ["scores", "workspace"] },
    { kernel: exponentials(options), buffers: ["scores", "workspace", "codes"] },
  ];
  for (let iteration = 0; iteration < iterations; iteration++) {
    const last = iteration === iterations - 1;
    steps.push({ kernel: prototypeSums(options), buffers: ["codes", "workspace"] });
    steps.push({ kernel: scaling(options, last ? 1 : 1 / options.samples), buffers: ["workspace", "codes"] });
  }
  if (iterations === 0) steps.push({ kernel: scaling(options, 1), buffers: ["workspace", "codes"] });
  return { steps, workspaceBytes: 4 * (prototypes + 1) };
}

const THREADS = 64;
const HEAD = `@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {`;

/** workspace[prototypes] = the largest score; one workgroup, a fixed tree. */
function maximum({ samples, prototypes }: SinkhornOptions): Kernel {
  return {
    label: `sinkhorn maximum ${samples}×${prototypes}`,
    wgsl: `@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read_write> workspace: array<f32>;
var<workgroup> shared_max: array<f32, ${THREADS}>;

${HEAD}
var largest = scores[0];
for (var i = lane; i < ${samples * prototypes}u; i += ${THREADS}u) { largest = max(largest, scores[i]); }
shared_max[lane] = largest;
workgroupBarrier();
if (lane == 0u) {
  for (var i = 1u; i < ${THREADS}u; i++) { largest = max(largest, shared_max[i]); }
  workspace[${prototypes}] = largest;
}
}
`,
    bindings: ["read", "write"],
    workgroups: [1, 1, 1],
  };
}

function exponentials({ samples, prototypes, epsilon }: SinkhornOptions): Kernel {
  const grid = tileGrid(Math.ceil(samples * prototypes / THREADS));
  return {
    label: `sinkhorn exp ${samples}×${prototypes}`,
    wgsl: `@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> workspace: array<f32>;
@group(0) @binding(2) var<storage, read_write> codes: array<f32>;

${HEAD}
let i = ${grid.tile} * ${THREADS}u + lane;
if (i < ${samples * prototypes}u) { codes[i] = exp((scores[i] - workspace[${prototypes}]) / f32(${epsilon})); }
}
`,
    bindings: ["read", "read", "write"],
    workgroups: grid.workgroups,
  };
}

/** workspace[k] = Σ over samples of codes[·, k]. */
function prototypeSums({ samples, prototypes }: SinkhornOptions): Kernel {
  const grid = tileGrid(Math.ceil(prototypes / THREADS));
  return {
    label: `sinkhorn prototype sums ${samples}×${prototypes}`,
    wgsl: `@group(0) @binding(0) var<storage, read> codes: array<f32>;
@group(0) @binding(1) var<storage, read_write> workspace: array<f32>;

${HEAD}
let k = ${grid.tile} * ${THREADS}u + lane;
if (k >= ${prototypes}u) { return; }
var sum = 0.0;
for (var i = 0u; i < ${samples}u; i++) { sum += codes[i * ${prototypes}u + k]; }
workspace[k] = sum;
}
`,
    bindings: ["read", "write"],
    workgroups: grid.workgroups,
  };
}

/**
 * Divides each entry by its prototype's sum, then scales each sample's row to `target`. Where any prototype's sum is 0,
 * 1e-12 is added to every entry first, which adds samples · 1e-12 to every sum. Without iterations nothing is divided.
 */
function scaling({ samples, prototypes, iterations }: SinkhornOptions, target: number): Kernel {
  const grid = tileGrid(Math.ceil(samples / THREADS));
  const entry = iterations === 0
    ? "codes[first + k]"
    : `(codes[first + k] + lift) / ((workspace[k] + lift * ${samples}.0) * ${prototypes}.0)`;
  return {
    label: `sinkhorn scaling ${samples}×${prototypes}`,
    wgsl: `@group(0) @binding(0) var<storage, read> workspace: array<f32>;
@group(0) @binding(1) var<storage, read_write> codes: array<f32>;

${HEAD}
let sample = ${grid.tile} * ${THREADS}u + lane;
if (sample >= ${samples}u) { return; }
let first = sample * ${prototypes}u;
var lift = 0.0;
for (var k = 0u; k < ${iterations === 0 ? 0 : prototypes}u; k++) { if (workspace[k] == 0.0) { lift = 1e-12; } }
var sum = 0.0;
for (var k = 0u; k < ${prototypes}u; k++) {
  let entry = ${entry};
  codes[first + k] = entry;
  sum += entry;
}
let factor = f32(${target}) / sum;
for (var k = 0u; k < ${prototypes}u; k++) { codes[first + k] *= factor; }
}
`,
    bindings: ["read", "write"],
    workgroups: grid.workgroups,
  };
}
