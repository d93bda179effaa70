/**
 * Convolution's gradient for its weights. The sum over all output pixels is long and the result small, so the pixels
 * are split into a number of runs that depends on the shape alone; a first kernel sums each run in order into a
 * workspace, a second adds the runs in order. Lanes lie along output channels; each computes a register tile of (kx,
 * input channel) × output channels, and the inputs, which all lanes need, are loaded once for all. With a single run
 * the first kernel writes the result itself.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import { eachTap } from "./conv2d_forward.ts";
import type { Access, Kernel } from "./kernel.ts";
import {
  cellsOf,
  chosen,
  floats,
  laneNumber,
  LANES,
  memoized,
  OPAQUE_ZERO,
  range,
  sharedValues,
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

/** Workgroups worth having before a sum is split no further: keeps many cores busy, and partial sums few. */
const TILES_WANTED = 64;
/** Pixels that a run has at least. */
const RUN_PIXELS_MIN = 64;
/** Bytes that a workspace has at most. */
const WORKSPACE_BYTES_MAX = 64 * 2 ** 20;

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

interface Tiling {
  /** Taps of a kernel row whose input channels are in one tile: all, or 1. */
  readonly taps: number;
  readonly channels: number;
  readonly channelTiles: number;
  readonly rowTiles: number;
  /** Output channels of a lane, {@linkcode LANES} apart. */
  readonly columns: number;
  readonly columnTiles: number;
  readonly runs: number;
  /** Lines of output pixels in a run. */
  readonly runLines: number;
}

function tilingOf(shape: Conv2dShape): Tiling {
  const { batch, inChannels, outChannels, kernelHeight, kernelWidth, groups } = shape;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const wholeRow = kernelWidth > 1 && groupIn * kernelWidth <= 24;
  const taps = wholeRow ? kernelWidth : 1;
  const channels = wholeRow ? groupIn : Math.min(16, groupIn);
  const channelTiles = Math.ceil(groupIn / channels);
  const rowTiles = wholeRow ? kernelHeight : kernelHeight * kernelWidth * channelTiles;
  const columns = Math.min(4, Math.ceil(groupOut / LANES));
  const columnTiles = Math.ceil(groupOut / (columns * LANES));
  const lines = batch * output.height;
  const wanted = Math.max(
    1,
    Math.min(
      Math.ceil(TILES_WANTED / (rowTiles * columnTiles * groups)),
      Math.floor(lines * output.width / RUN_PIXELS_MIN),
      Math.floor(WORKSPACE_BYTES_MAX / (4 * output.weightLength)),
      lines,
    ),
  );
  const runLines = Math.ceil(lines / wanted);
  const runs = Math.ceil(lines / runLines);
  return { taps, channels, channelTiles, rowTiles, columns, columnTiles, runs, runLines };
}

/** How the partial sums' kernel loads its input, by what the shape says. */
interface InputLoads {
  readonly access: readonly Access[];
  /** Declarations of the tables, from binding 2. */
  readonly bindings: string;
  /** The value that a raw number of a channel, WGSL, stands for; the channel must not change within an invocation. */
  readonly value: (raw: string, channel: string) => string;
  /** Statements before all lines of pixels, for the values asked for so far. */
  readonly setup: () => string;
  /** Statements at the start of a line of pixels of the image with that number, WGSL. */
  readonly line: (image: string) => string;
}

function inputLoads({ load = "plain", batch, inChannels }: Conv2dShape): InputLoads {
  if (load === "plain") return { access: [], bindings: "", value: (raw) => raw, setup: () => "", line: () => "" };
  const gated = load === "normalised relu gated";
  const channels: string[] = [];
  return {
    access: gated ? ["read", "read"] : ["read"],
    bindings: `@group(0) @binding(2) var<storage, read> normaliser: array<f32, ${4 * inChannels}>;
${gated ? `@group(0) @binding(3) var<storage, read> gate: array<f32, ${batch * inChannels}>;\n` : ""}`,
    value(raw, channel) {
      const known = channels.indexOf(channel);
      const n = known === -1 ? channels.push(channel) - 1 : known;
      const normalised = `(${raw} - mean${n}) * factor${n} + beta${n}`;
      if (load === "normalised") return normalised;
      return gated ? `max(${normalised}, 0.0) * gate${n}` : `max(${normalised}, 0.0)`;
    },
    setup: () =>
      channels.map((channel, n) =>
        `let channel${n} = ${channel};
let mean${n} = normaliser[channel${n}];
let factor${n} = normaliser[${inChannels}u + channel${n}];
let beta${n} = normaliser[${2 * inChannels}u + channel${n}];`
      ).join("\n"),
    line: (image) =>
      gated ? channels.map((_, n) => `let gate${n} = gate[${image} * ${inChannels}u + channel${n}];`).join("\n") : "",
  };
}

function partialSums(shape: Conv2dShape, tiling: Tiling & { readonly sharing: Sharing }): Kernel {
  const { height, width, inChannels, outChannels, kernelWidth, stride, padding, groups } = shape;
  const { storage = "f32" } = shape;
  const { taps, channels, channelTiles, rowTiles, columns, columnTiles, runs, runLines } = tiling;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const lines = shape.batch * output.height;
  const rows = taps * channels;
  const tiles = rowTiles * columnTiles * groups;
  const grid = tileGrid(tiles * runs);
  // Along a line the last taps of a pixel are the first of the next: those are kept, the others are loaded afresh.
  const fresh = Math.min(taps, stride);
  const kept = (taps - fresh) * channels;
  // Inputs of a tile lie next to each other, tap after tap; past the channels of a group nothing is stored.
  const tap = (row: string) => fresh === 1 ? "0u" : `(${row} / ${channels}u)`;
  const channel = (row: string) => fresh === 1 ? row : `(${row} % ${channels}u)`;
  const one = cellsOf(storage);
  const loads = inputLoads(shape);
  const load = (at: string, ofChannel: string) =>
    loads.value(one.load(`input[${at}]`), `group * ${groupIn}u + min(firstIn + ${ofChannel}, ${groupIn - 1}u)`);
  const inputs = sharedValues("in", {
    count: fresh * channels,
    sharing: tiling.sharing,
    at: (row) => {
      const value = load(
        `u32(inBase + inX * ${inChannels}) + ${tap(row)} * ${inChannels}u + ${channel(row)}`,
        channel(row),
      );
      return padding === 0 ? value : `select(0.0, ${value}, u32(inX + i32(${tap(row)})) < ${width}u)`;
    },
  });
  const keptAtFirst = range(kept).map((r) => {
    const x = Math.floor(r / channels) - padding;
    const at = `u32(inBase) + ${x * inChannels + r % channels}u`;
    return x < 0 || x >= width ? "0.0" : load(at, `${r % channels}u`);
  });
  const values = [...range(kept).map((r) => `kept${r}`), ...inputs.values];
  const out = (k: number) => `group * ${groupOut}u + min(firstOut + ${laneNumber(k)}, ${groupOut - 1}u)`;

  const wgsl =
    `// Each invocation sums one run of lines for ${rows} inputs × ${columns} output channels, ${LANES} apart.
@group(0) @binding(0) var<storage, read> input: array<${one.type}, ${output.inputLength}>;
@group(0) @binding(1) var<storage, read> outGradient: array<${one.type}, ${output.outputLength}>;
${loads.bindings}@group(0) @binding(${2 + loads.access.length}) var<storage, read_write> partial: array<f32, ${
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
let firstTap = rowTile / ${channelTiles}u * ${taps}u;
let ky = i32(firstTap / ${kernelWidth}u);
let kx = i32(firstTap % ${kernelWidth}u);
${unroll(columns, (k) => `let out${k} = ${out(k)};`)}
${unroll(rows, (r) => unroll(columns, (k) => `var sum${r}_${k} = 0.0;`))}
${loads.setup()}
for (var line = run * ${runLines}u; line < min((run + 1u) * ${runLines}u, ${lines}u); line++) {
let inY = i32(line % ${output.height}u) * ${stride} + ky - ${padding};
if (u32(inY) < ${height}u) {
${loads.line(`line / ${output.height}u`)}
let inBase = (i32(line / ${output.height}u) * ${height} + inY) * ${
      width * inChannels
    } + i32(group * ${groupIn}u + firstIn);
${unroll(kept, (r) => `var kept${r} = ${keptAtFirst[r]};`)}
for (var x = 0u; x < ${output.width}u + opaque; x++) {
let inX = i32(x) * ${stride} + kx - ${padding} + ${taps - fresh};
let outBase = (line * ${output.width}u + x) * ${outChannels}u;
${unroll(columns, (k) => `let gradient${k} = ${one.load(`outGradient[outBase + out${k}]`)};`)}
${inputs.load}
${unroll(rows, (r) => unroll(columns, (k) => `sum${r}_${k} = fma(${values[r]}, gradient${k}, sum${r}_${k});`))}
${unroll(kept, (r) => `kept${r} = ${values[r + fresh * channels]};`)}
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
    bindings: ["read", "read", ...loads.access, "write"],
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
