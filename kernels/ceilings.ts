/**
 * Kernels that do nothing but find a device's ceilings: multiplications in the vector units, multiplications in the matrix
 * units, and copying. Each gives a result that arithmetic predicts exactly, so that a rate is only believed of work that
 * was done. How often it repeats is read from a buffer: compilers cannot know it, and whoever measures can check that
 * twice the iterations take twice the time. Timing them is the benchmark's business.
 */
import type { Kernel } from "./kernel.ts";
import { range, tileGrid, unroll } from "./tiles.ts";
import type { MatrixConfiguration, Storage } from "./variant.ts";

/** What a kernel's buffer is filled with before it runs. */
export type CeilingInput = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

/** A kernel that reaches for a ceiling; it binds its inputs in order, and then its output. */
export interface Ceiling {
  readonly kernel: Kernel;
  /** Contents of the buffers that are read, for that many iterations. */
  inputs(iterations: number): readonly CeilingInput[];
  readonly outputBytes: number;
  /** Floating-point operations of that many iterations; 0 where bytes are what counts. */
  flops(iterations: number): number;
  /** Bytes read and written; 0 where operations are what counts. */
  readonly bytes: number;
  /** Every number of the output as f32 (f16 outputs are widened), exactly. @throws RangeError beyond exact arithmetic */
  expected(iterations: number): Float32Array<ArrayBuffer>;
}

/** Independent chains of multiplications in an invocation: they hide the latency, and fit a CPU's 16 registers. */
const CHAINS = 12;
/** Links of every chain in one iteration. */
const LINKS = 8;
const FMA_WORKGROUP = 64;

/** Whole numbers up to here are exact in f32. */
const EXACT_MAX = 2 ** 24;

/**
 * Rate of `fma` in the vector units: every invocation runs 12 independent chains, x ← x · a + b, of f32 or of two f16 at
 * once, and gives the sum of its chains. With f32 a = b = 1, so the sum counts the links; with f16 a = −1, so that a
 * chain stays small.
 */
export function fmaCeiling({ storage, workgroups }: { storage: Storage; workgroups: number }): Ceiling {
  const half = storage === "f16";
  const type = half ? "vec2<f16>" : "f32";
  const invocations = workgroups * FMA_WORKGROUP;
  const grid = tileGrid(workgroups);
  const start = (chain: number) => `${type}(f32(lane % 8u) + ${chain}.0)`;
  const sum = range(CHAINS).map((chain) => half ? `f32(x${chain}.x)` : `x${chain}`).join(" + ");
  const wgsl = `@group(0) @binding(0) var<storage, read> factors: array<f32, 2>;
@group(0) @binding(1) var<storage, read> iterations: array<u32, 1>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32, ${invocations}>;

@compute @workgroup_size(${FMA_WORKGROUP})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
let a = ${type}(${half ? "f16(factors[0])" : "factors[0]"});
let b = ${type}(${half ? "f16(factors[1])" : "factors[1]"});
${unroll(CHAINS, (chain) => `var x${chain} = ${half ? start(chain).replace("(f32", "(f16") : start(chain)};`)}
let end = iterations[0];
for (var iteration = 0u; iteration < end; iteration++) {
${unroll(LINKS, () => unroll(CHAINS, (chain) => `x${chain} = fma(x${chain}, a, b);`))}
}
sums[${grid.tile} * ${FMA_WORKGROUP}u + lane] = ${sum};
}
`;
  return {
    kernel: {
      label: `${storage} fma ceiling, ${workgroups} workgroups`,
      wgsl,
      bindings: ["read", "read", "write"],
      workgroups: grid.workgroups,
      ...(half ? { requires: ["f16"] } : {}),
    },
    inputs: (iterations) => [Float32Array.of(half ? -1 : 1, 1), Uint32Array.of(iterations)],
    outputBytes: 4 * invocations,
    flops: (iterations) => 2 * (half ? 2 : 1) * CHAINS * LINKS * iterations * invocations,
    bytes: 0,
    expected(iterations) {
      const links = LINKS * iterations;
      if (CHAINS * (links + 20) > EXACT_MAX) throw new RangeError(beyondExact("multiply and add", iterations));
      // An even number of links with a = −1 gives back what a chain started with.
      const added = half ? 0 : links;
      const starts = CHAINS * (CHAINS - 1) / 2;
      return Float32Array.from({ length: invocations }, (_, i) => starts + CHAINS * (i % 8 + added));
    },
  };
}

/** Shape of a measurement of the matrix units. */
export interface MatrixCeilingShape {
  readonly configuration: MatrixConfiguration;
  /** Lanes of a subgroup; the device must allow exactly that number. */
  readonly subgroupSize: number;
  /** Subgroups of a workgroup. @default 4 */
  readonly subgroups?: number;
  /** Independent sums of a subgroup, to hide the latency: 1 to 32. @default 8 */
  readonly accumulators?: number;
  readonly workgroups: number;
}

/**
 * Issue rate of the matrix units: operands that stay in registers, multiplied into several independent sums. Sum `j` starts
 * at j, and every subgroup stores all its sums: j + 4 · iterations · left · right. Binds (operands, iterations, output).
 */
export function matrixCeiling(shape: MatrixCeilingShape): Ceiling {
  const { configuration: { m, n, k, component, result }, subgroupSize, workgroups } = shape;
  const { subgroups = 4, accumulators = 8 } = shape;
  const elements = m * n * accumulators * subgroups * workgroups;
  const grid = tileGrid(workgroups);
  const features = component === "f16" || result === "f16" ? ["f16" as const] : [];
  const wgsl = `diagnostic(off, chromium.subgroup_matrix_uniformity);
@group(0) @binding(0) var<storage, read> operands: array<${component}, ${m * k + k * n}>;
@group(0) @binding(1) var<storage, read> iterations: array<u32, 1>;
@group(0) @binding(2) var<storage, read_write> output: array<${result}, ${elements}>;

@compute @workgroup_size(${subgroupSize * subgroups}) @subgroup_size(${subgroupSize})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_id) subgroup: u32) {
${grid.guard}
let left = subgroupMatrixLoad<subgroup_matrix_left<${component}, ${k}, ${m}>, row_major>(&operands, 0u, ${k}u);
let right = subgroupMatrixLoad<subgroup_matrix_right<${component}, ${n}, ${k}>, row_major>(&operands, ${m * k}u, ${n}u);
${unroll(accumulators, (j) => `var sum${j} = subgroup_matrix_result<${result}, ${n}, ${m}>(${result}(${j}));`)}
let end = iterations[0];
for (var iteration = 0u; iteration < end; iteration++) {
${
    unroll(
      MATRIX_LINKS,
      () => unroll(accumulators, (j) => `sum${j} = subgroupMatrixMultiplyAccumulate(left, right, sum${j});`),
    )
  }
}
let first = (${grid.tile} * ${subgroups}u + subgroup) * ${m * n * accumulators}u;
${unroll(accumulators, (j) => `subgroupMatrixStore<row_major>(&output, first + ${j * m * n}u, sum${j}, ${n}u);`)}
}
`;
  const left = range(m * k).map((i) => (i * 7 % 5) % 3 - 1);
  const right = range(k * n).map((i) => (i * 3 % 7) % 3 - 1);
  const operands = [...left, ...right];
  return {
    kernel: {
      label: `${component} ${m}×${n}×${k} matrix ceiling, ${accumulators} sums, ${subgroups * workgroups} subgroups`,
      wgsl,
      bindings: ["read", "read", "write"],
      workgroups: grid.workgroups,
      requires: [...features, "subgroups", "subgroup-size-control", "subgroup-matrix"],
    },
    inputs: (iterations) => [
      component === "f32" ? Float32Array.from(operands) : Uint16Array.from(operands, smallHalf),
      Uint32Array.of(iterations),
    ],
    outputBytes: elements * (result === "f16" ? 2 : 4),
    flops: (iterations) => 2 * m * n * k * MATRIX_LINKS * accumulators * subgroups * workgroups * iterations,
    bytes: 0,
    expected(iterations) {
      const links = MATRIX_LINKS * iterations;
      const largest = links * k + accumulators;
      if (largest > (result === "f16" ? 2048 : EXACT_MAX)) {
        throw new RangeError(beyondExact("multiply matrices", iterations));
      }
      const product = range(m * n).map((at) => {
        const row = Math.floor(at / n) * k;
        return range(k).reduce((sum, i) => sum + left[row + i] * right[i * n + at % n], 0);
      });
      return Float32Array.from(
        { length: elements },
        (_, at) => Math.floor(at / (m * n)) % accumulators + links * product[at % (m * n)],
      );
    },
  };
}

/** Multiplications of every sum in one iteration. */
const MATRIX_LINKS = 4;

/** Bandwidth of copying `byteLength` bytes, a multiple of 16, by 16-byte loads. Binds (source, target). */
export function copyCeiling({ byteLength }: { byteLength: number }): Ceiling {
  if (!(Number.isInteger(byteLength / 16) && byteLength > 0)) {
    throw new RangeError(`Cannot copy ${byteLength} bytes: a multiple of 16 is needed`);
  }
  const vectors = byteLength / 16;
  const grid = tileGrid(Math.ceil(vectors / (COPY_WORKGROUP * COPY_VECTORS)));
  const wgsl = `@group(0) @binding(0) var<storage, read> source: array<vec4u, ${vectors}>;
@group(0) @binding(1) var<storage, read_write> copied: array<vec4u, ${vectors}>;

@compute @workgroup_size(${COPY_WORKGROUP})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
let first = ${grid.tile} * ${COPY_WORKGROUP * COPY_VECTORS}u + lane;
${
    unroll(COPY_VECTORS, (i) =>
      `let at${i} = first + ${i * COPY_WORKGROUP}u;
if (at${i} < ${vectors}u) { copied[at${i}] = source[at${i}]; }`)
  }
}
`;
  const numbers = () => Float32Array.from({ length: byteLength / 4 }, (_, i) => i % 65_521);
  return {
    kernel: { label: `copy of ${byteLength} bytes`, wgsl, bindings: ["read", "write"], workgroups: grid.workgroups },
    inputs: () => [numbers()],
    outputBytes: byteLength,
    flops: () => 0,
    bytes: 2 * byteLength,
    expected: numbers,
  };
}

const COPY_WORKGROUP = 256;
const COPY_VECTORS = 4;

/** −1, 0 or 1 as the bits of an f16. */
const smallHalf = (value: number) => value === 0 ? 0 : value < 0 ? 0xbc00 : 0x3c00;

const beyondExact = (action: string, iterations: number) =>
  `Cannot predict what ${iterations} iterations ${action} to: the sums leave the exact numbers; use fewer to check`;
