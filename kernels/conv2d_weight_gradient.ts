/**
 * Convolution's gradient for its weights. The sum over all output pixels is long and the result small, so the pixels
 * are split into a number of runs that depends on the shape alone; a first kernel sums each run in order into a
 * workspace, a second adds the runs in order. Lanes lie along output channels, everything else is the same for all
 * lanes. With a single run the first kernel writes the result itself.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import { eachTap } from "./conv2d_forward.ts";
import type { Kernel } from "./kernel.ts";
import { component, floats, LANES, memoized, OPAQUE_ZERO, range, tileGrid, unroll, vectorWidth } from "./tiles.ts";

/** Kernels that run one after the other, the first leaving in a workspace what the second reads. */
export interface WeightGradientKernels {
  /**
   * Binds (input, outGradient, workspace); with no `reduce` the workspace is the weights' gradient itself.
   */
  readonly partial: Kernel;
  /** Binds (workspace, weightGradient); absent where one pass is enough. */
  readonly reduce: Kernel | undefined;
  /** Bytes of the workspace, whose contents need not be cleared; 0 with no `reduce`. */
  readonly workspaceBytes: number;
}

/** Workgroups worth having before a sum is split no further: keeps many cores busy, and partial sums few. */
const TILES_WANTED = 64;
/** Pixels that a run has at least. */
const RUN_PIXELS_MIN = 64;
/** Bytes that a workspace has at most. */
const WORKSPACE_BYTES_MAX = 64 * 2 ** 20;

/** weightGradient[ky, kx, c, o] = Σ over output pixels of input[…, c] · outGradient[…, o]. */
export const conv2dWeightGradient: (shape: Conv2dShape) => WeightGradientKernels = memoized((shape) => {
  const { height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const inWidth = vectorWidth(groupIn);
  const outWidth = groupOut % (4 * LANES) === 0 ? 4 : 1;
  // Rows of a tile are input channels of one tap, or with few channels those of a whole kernel row.
  const wholeRow = groupIn * kernelWidth <= 12;
  const taps = wholeRow ? kernelWidth : 1;
  const channels = wholeRow ? groupIn : Math.min(8, groupIn);
  const rowTiles = wholeRow ? kernelHeight : kernelHeight * kernelWidth * Math.ceil(groupIn / channels);
  const channelTiles = wholeRow ? 1 : Math.ceil(groupIn / channels);
  const columnTiles = Math.ceil(groupOut / (outWidth * LANES));
  const tiles = rowTiles * columnTiles * groups;
  const lines = shape.batch * output.height;
  const runs = Math.max(
    1,
    Math.min(
      Math.ceil(TILES_WANTED / tiles),
      Math.floor(lines * output.width / RUN_PIXELS_MIN),
      Math.floor(WORKSPACE_BYTES_MAX / (4 * output.weightLength)),
      lines,
    ),
  );
  const runLines = Math.ceil(lines / runs);
  const usedRuns = Math.ceil(lines / runLines);
  const grid = tileGrid(tiles * usedRuns);
  const padded = padding > 0 || (output.width - 1) * stride + kernelWidth > width ||
    (output.height - 1) * stride + kernelHeight > height;
  const raggedRows = groupIn % channels !== 0;
  const raggedColumns = groupOut % (outWidth * LANES) !== 0;
  const rows = range(taps).flatMap((t) => range(channels).map((c) => ({ t, c, name: `sum${t}_${c}` })));
  const inUnits = Math.ceil(channels / inWidth);

  const wgsl = `// Each invocation sums one run of lines for ${rows.length} rows × ${outWidth} output channels.
@group(0) @binding(0) var<storage, read> input: array<${floats(inWidth)}, ${output.inputLength / inWidth}>;
@group(0) @binding(1) var<storage, read> outGradient: array<${floats(outWidth)}, ${output.outputLength / outWidth}>;
@group(0) @binding(2) var<storage, read_write> partial: array<${floats(outWidth)}, ${
    output.weightLength * usedRuns / outWidth
  }>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let tile = ${grid.tile};
let columnTile = tile % ${columnTiles * groups}u;
let group = columnTile / ${columnTiles}u;
let outUnit = (columnTile % ${columnTiles}u) * ${LANES}u + lane;
let rowTile = (tile / ${columnTiles * groups}u) % ${rowTiles}u;
let run = tile / ${tiles}u;
let firstIn = (rowTile % ${channelTiles}u) * ${channels}u;
let ky = i32(rowTile / ${wholeRow ? 1 : kernelWidth * channelTiles}u);
let kx = ${wholeRow ? "0" : `i32(rowTile / ${channelTiles}u % ${kernelWidth}u)`};
let outBase = group * ${groupOut / outWidth}u + ${
    raggedColumns ? `min(outUnit, ${groupOut / outWidth - 1}u)` : "outUnit"
  };
let inBase = group * ${groupIn / inWidth}u + firstIn / ${inWidth}u;
${rows.map(({ name }) => `var ${name} = ${floats(outWidth)}();`).join("\n")}
for (var line = run * ${runLines}u; line < min((run + 1u) * ${runLines}u, ${lines}u); line++) {
let inY = i32(line % ${output.height}u) * ${stride} + ky - ${padding};
if (u32(inY) >= ${height}u) { continue; }
let inLine = ((line / ${output.height}u) * ${height}u + u32(inY)) * ${width}u;
let outLine = line * ${output.width}u;
for (var x = 0u; x < ${output.width}u + opaque; x++) {
let out = outGradient[(outLine + x) * ${outChannels / outWidth}u + outBase];
let inX = i32(x) * ${stride} + kx - ${padding};
${
    unroll(taps, (t) =>
      `${padded ? `if (u32(inX + ${t}) < ${width}u)` : ""} {
let at = (inLine + u32(inX + ${t})) * ${inChannels / inWidth}u + inBase;
${
        unroll(inUnits, (j) =>
          `let in${j} = input[at + ${
            raggedRows ? `min(${j}u, ${groupIn / inWidth - 1}u - firstIn / ${inWidth}u)` : `${j}u`
          }];`)
      }
${
        rows.filter((row) => row.t === t).map(({ c, name }) =>
          `${name} = fma(${floats(outWidth)}(${
            component(`in${Math.floor(c / inWidth)}`, c % inWidth, inWidth)
          }), out, ${name});`
        ).join("\n")
      }
}`)
  }
}
}
${raggedColumns ? `if (outUnit >= ${groupOut / outWidth}u) { return; }` : ""}
let destination = run * ${
    output.weightLength / outWidth
  }u + (u32(ky * ${kernelWidth} + kx) * ${groupIn}u + firstIn) * ${outChannels / outWidth}u + outBase;
${
    rows.map(({ t, c, name }) => {
      const store = `partial[destination + ${(t * groupIn + c) * outChannels / outWidth}u] = ${name};`;
      return raggedRows ? `if (firstIn + ${c}u < ${groupIn}u) { ${store} }` : store;
    }).join("\n")
  }
}
`;
  return {
    partial: {
      label: `conv2d weight gradient ${describeConv2d(shape)}`,
      wgsl,
      bindings: ["read", "read", "write"],
      workgroups: grid.workgroups,
    },
    reduce: usedRuns === 1 ? undefined : sumOfRuns({ runs: usedRuns, length: output.weightLength }),
    workspaceBytes: usedRuns === 1 ? 0 : 4 * output.weightLength * usedRuns,
  };
});

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
