/**
 * Convolution's gradient for its weights. The sum over all output pixels is long and the result small, so the pixels
 * are split into a number of runs that depends on the shape alone; a first kernel sums each run in order into a
 * workspace, a second adds the runs in order. Lanes lie along output channels; each computes a register tile of (kx,
 * input channel) × output channels, and the inputs, which all lanes need, are loaded once for all. With a single run
 * the first kernel writes the result itself. How the tile is chosen and how its inputs are loaded, two files beside this
 * one tell.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import { eachTap } from "./conv2d_forward.ts";
import { tileInputs } from "./conv2d_weight_gradient_inputs.ts";
import { type Tiling, tilingOf } from "./conv2d_weight_gradient_tiling.ts";
import type { Kernel } from "./kernel.ts";
import {
  cellsOf,
  chosen,
  floats,
  laneNumber,
  LANES,
  memoized,
  OPAQUE_ZERO,
  range,
  type Sharing,
  sharing,
  storageFeatures,
  tileGrid,
  unroll,
  vectorWidth,
} from "./tiles.ts";

/** Kernels that run one after the other, the first leaving in a workspace what the second reads. */
export interface WeightGradientKernels {
  /**
   * Binds (input, outGradient, [normaliser, [gate]], workspace); with no `reduce` the workspace is the weights' gradient itself.
   */
  readonly partial: Kernel;
  /** Binds (workspace, weightGradient); absent where one pass is enough. */
  readonly reduce: Kernel | undefined;
  /** Bytes of the workspace, whose contents need not be cleared; 0 with no `reduce`. */
  readonly workspaceBytes: number;
}

/** weightGradient[ky, kx, c, o] = Σ over output pixels of input[…, c] · outGradient[…, o]. */
export const conv2dWeightGradient: (shape: Conv2dShape) => WeightGradientKernels = memoized((shape) => {
  const { weightLength } = conv2dOutput(shape);
  const tiling = tilingOf(shape);
  const { runs } = tiling;
  return {
    partial: sharing((how) => partialSums(shape, { ...tiling, sharing: how })),
    reduce: runs === 1 ? undefined : sumOfRuns({ runs, length: weightLength }),
    workspaceBytes: runs === 1 ? 0 : 4 * weightLength * runs,
  };
});

function partialSums(shape: Conv2dShape, tiling: Tiling & { readonly sharing: Sharing }): Kernel {
  const { height, width, inChannels, outChannels, kernelWidth, stride, padding, groups } = shape;
  const { storage = "f32" } = shape;
  const { kernelRows, taps, channels, channelTiles, rowTiles, columns, columnTiles, runs, runLines, pixels } = tiling;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const lines = shape.batch * output.height;
  const rows = kernelRows * taps * channels;
  const tiles = rowTiles * columnTiles * groups;
  const grid = tileGrid(tiles * runs);
  const one = cellsOf(storage);
  const inputs = tileInputs(shape, tiling);
  const gradient = (k: number, pixel: number) => {
    const loaded = one.load(`outGradient[outBase + ${pixel * outChannels}u + out${k}]`);
    return output.width % pixels === 0 || pixel === 0
      ? loaded
      : `select(0.0, ${loaded}, x + ${pixel}u < ${output.width}u)`;
  };
  const out = (k: number) => `group * ${groupOut}u + min(firstOut + ${laneNumber(k)}, ${groupOut - 1}u)`;

  const wgsl =
    `// Each invocation sums one run of lines for ${rows} inputs × ${columns} output channels, ${LANES} apart.
@group(0) @binding(0) var<storage, read> input: array<${inputs.type}, ${output.inputLength / tiling.loaded}>;
@group(0) @binding(1) var<storage, read> outGradient: array<${one.type}, ${output.outputLength}>;
${inputs.bindings}@group(0) @binding(${2 + inputs.access.length}) var<storage, read_write> partial: array<f32, ${
      output.weightLength * runs
    }>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let tile = ${grid.tile};
let columnTile = tile % ${columnTiles * groups}u;
let group = columnTile / ${columnTiles}u;
let firstOut = (columnTile % ${columnTiles}u) * ${columns * LANES}u;
let rowTile = (tile / ${columnTiles * groups}u) % ${rowTiles}u;
let run = tile / ${tiles}u;
let firstIn = (rowTile % ${channelTiles}u) * ${channels}u;
let firstTap = rowTile / ${channelTiles}u * ${taps * kernelRows}u;
let ky = i32(firstTap / ${kernelWidth}u);
let kx = i32(firstTap % ${kernelWidth}u);
${unroll(columns, (k) => `let out${k} = ${out(k)};`)}
${unroll(rows, (r) => unroll(columns, (k) => `var sum${r}_${k} = 0.0;`))}
${inputs.setup}
for (var line = run * ${runLines}u; line < min((run + 1u) * ${runLines}u, ${lines}u); line++) {
let inY = i32(line % ${output.height}u) * ${stride} + ky - ${padding};
if (${kernelRows === 1 ? `u32(inY) < ${height}u` : "true"}) {
${inputs.image(`line / ${output.height}u`)}
let inBase = (i32(line / ${output.height}u) * ${height} + inY) * ${
      width * inChannels
    } + i32(group * ${groupIn}u + firstIn);
${inputs.atFirst}
for (var x = 0u; x < ${output.width}u + opaque; x += ${pixels}u) {
let inX = i32(x) * ${stride} + kx - ${padding} + ${inputs.kept};
let outBase = (line * ${output.width}u + x) * ${outChannels}u;
${unroll(pixels, (p) => unroll(columns, (k) => `let gradient${p}_${k} = ${gradient(k, p)};`))}
${inputs.load}
${
      unroll(rows, (r) =>
        unroll(pixels, (p) =>
          unroll(columns, (k) =>
            `sum${r}_${k} = fma(${inputs.value(p, r)}, gradient${p}_${k}, sum${r}_${k});`)))
    }
${inputs.keep}
}
}
}
let first = run * ${output.weightLength}u + (firstTap * ${groupIn}u + firstIn) * ${outChannels}u;
for (var column = 0u; column < ${columns}u + opaque; column++) {
let out = firstOut + lane + column * ${LANES}u;
if (out < ${groupOut}u) {
let destination = first + group * ${groupOut}u + out;
${
      unroll(rows, (r) => {
        const value = chosen(range(columns).map((k) => `sum${r}_${k}`), "column");
        const store = `partial[destination + ${r * outChannels}u] = ${value};`;
        return groupIn % channels === 0 ? store : `if (firstIn + ${r}u < ${groupIn}u) { ${store} }`;
      })
    }
}
}
}
`;
  return {
    label: `conv2d weight gradient ${describeConv2d(shape)}`,
    wgsl,
    bindings: ["read", "read", ...inputs.access, "write"],
    workgroups: grid.workgroups,
    requires: storageFeatures(storage),
  };
}

/** result[i] = Σ over runs of partial[run, i], in order. */
const sumOfRuns: (shape: { runs: number; length: number }) => Kernel = memoized(({ runs, length }) => {
  const width = vectorWidth(length);
  const grid = tileGrid(Math.ceil(length / width / 64));
  return {
    label: `sum of ${runs} runs of ${length}`,
    wgsl: `@group(0) @binding(0) var<storage, read> partial: array<${floats(width)}, ${runs * length / width}>;
@group(0) @binding(1) var<storage, read_write> result: array<${floats(width)}, ${length / width}>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
let index = ${grid.tile} * 64u + lane;
if (index >= ${length / width}u) { return; }
var sum = partial[index];
for (var run = 1u; run < ${runs}u + workgroup.z; run++) { sum += partial[run * ${length / width}u + index]; }
result[index] = sum;
}
`,
    bindings: ["read", "write"],
    workgroups: grid.workgroups,
  };
});

/** The plain sum behind {@linkcode conv2dWeightGradient}, in double precision. */
export function conv2dWeightGradientReference(
  shape: Conv2dShape,
  { input, outGradient }: { input: Float32Array; outGradient: Float32Array },
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(conv2dOutput(shape).weightLength);
  const sums = new Float64Array(result.length);
  eachTap(shape, ({ input: at, weight: to, output: by }) => sums[to] += input[at] * outGradient[by]);
  result.set(sums);
  return result;
}
