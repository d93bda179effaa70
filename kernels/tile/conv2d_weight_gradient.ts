/**
 * Convolution's gradient towards its weights as a {@linkcode GemmProblem}: rows are (ky, kx, input channel of the group,
 * filled up to whole fetches), columns a group's output channels, k runs over output pixels. The pixels are cut into runs,
 * as many as keep a large GPU busy, told from the shape alone; a slice is a run of a group, and a second kernel adds the
 * runs in order. Knows no skeleton.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "../conv2d_shape.ts";
import type { Kernel } from "../kernel.ts";
import type { Conv2dWeightGradientRole } from "../operations.ts";
import { once, pointwise, vectorOf } from "../wgsl.ts";
import { type ConvInput, convInput } from "./conv2d_input.ts";
import { type GemmOperand, type GemmPlanner, tilesOf } from "./problem.ts";
import {
  binding,
  clamped,
  type Elements,
  elementsOf,
  fetchLength,
  fetchOf,
  foursOf,
  gathering,
  rawType,
  storeOf,
  widthOf,
} from "./quads.ts";

/** Workgroups worth having before a sum is split no further: four for each multiprocessor of the largest GPUs. */
const WORKGROUPS_WANTED = 512;
/** Pixels that a run has at least. */
const RUN_PIXELS_MIN = 256;
/** Bytes that a workspace has at most. */
const WORKSPACE_BYTES_MAX = 128 * 2 ** 20;
const SLICES_MAX = 65_535;

/** How many runs the pixels are cut into, and how long one is: a multiple of a panel. */
function runsOf(
  { pixels, groups, tiles, weightBytes }: { pixels: number; groups: number; tiles: number; weightBytes: number },
  panel: number,
): { runs: number; runPixels: number } {
  const most = Math.min(
    Math.ceil(WORKGROUPS_WANTED / (tiles * groups)),
    Math.floor(pixels / RUN_PIXELS_MIN),
    Math.floor(WORKSPACE_BYTES_MAX / weightBytes),
    Math.floor(SLICES_MAX / groups),
  );
  const runPixels = Math.ceil(pixels / Math.max(1, most) / panel) * panel;
  return { runs: Math.ceil(pixels / runPixels), runPixels };
}

/** The left operand: positions are (tap, channel), k is pixels. */
function tapsByPixels(input: ConvInput, { pixels, panel }: { pixels: number; panel: number }): GemmOperand {
  const { padded, taps } = input;
  return {
    along: "position",
    length: input.length,
    raw: input.raw,
    place: (name, position) =>
      `let ${name}_row = min(${position}, ${taps * padded - input.length}u);
let ${name}_tap = ${name}_row / ${padded}u;
${input.tap(name, `${name}_tap`, `(${name}_row - ${name}_tap * ${padded}u)`)}`,
    step: (name, { start, offset }) =>
      `let ${name}_k = ${start} + ${offset};
${input.pixel(name, `min(${name}_k, ${pixels - 1}u)`)}`,
    fetch: (place, step) => input.fetch(step, place),
    finish: (name, { raw, place, step }, as) =>
      input.finish(name, { raw, pixel: step, tap: place }, {
        as,
        masks: () => pixels % panel === 0 ? [] : [`${step}_k < ${pixels}u`],
      }),
  };
}

/** The right operand: positions are output channels, k is pixels. */
function gradientByPixels(
  elements: Elements,
  { pixels, groupOut, outChannels }: { pixels: number; groupOut: number; outChannels: number },
): GemmOperand {
  return {
    along: "position",
    length: fetchLength(elements),
    raw: rawType(elements),
    place: (name, position) =>
      `let ${name}_at = group * ${groupOut}u + ${clamped(position, groupOut, elements.width)};`,
    step: (name, { start, offset }) => `let ${name}_at = min(${start} + ${offset}, ${pixels - 1}u) * ${outChannels}u;`,
    fetch: (place, step) => fetchOf(elements, `(${place}_at + ${step}_at)`),
    finish: (name, { raw }, as) =>
      foursOf(elements, { raw, as }).map((four, i) => `let ${name}${i} = ${four};`).join("\n"),
  };
}

/** Binds (workspace `[runs, length]`, weightGradient): the runs added in order. */
function sumOfRuns({ runs, length }: { runs: number; length: number }): Kernel {
  const label = `sum of ${runs} runs of ${length}`;
  return once(`tile ${label}`, () => {
    const { element, width } = vectorOf(length);
    const count = length / width;
    return pointwise({
      label,
      storage: [["runs", "read", element], ["total", "write", element]],
      invocations: count,
      count: `${count}u`,
      // `id.z` is a zero that compilers cannot see through: software adapters do not unroll the loop.
      body: `
  var sum = runs[i];
  for (var run = 1u; run < ${runs}u + id.z; run++) { sum += runs[run * ${count}u + i]; }
  total[i] = sum;`,
    });
  });
}

/** weightGradient [kh, kw, Ci / groups, Co] f32. */
export const conv2dWeightGradientPlan: GemmPlanner<Conv2dShape, Conv2dWeightGradientRole> = (shape, tile) => {
  const { batch, outChannels, groups, storage = "f32" } = shape;
  const { height, width, inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const groupOut = outChannels / groups;
  const pixels = batch * height * width;
  const input = convInput(shape, { fetch: tile.fetch });
  const { channels, padded, taps } = input;
  const outGradient = elementsOf("outGradient", [groupOut], { storage, fetch: tile.fetch });
  const m = taps * padded;
  const { rowTiles, columnTiles } = tilesOf({ m, n: groupOut }, tile);
  const tiling = { pixels, groups, tiles: rowTiles * columnTiles, weightBytes: 4 * weightLength };
  const { runs, runPixels } = runsOf(tiling, tile.panel);
  const result: Elements = {
    name: runs === 1 ? "weightGradient" : "runSums",
    storage: "f32",
    width: widthOf([groupOut], { storage: "f32" }),
  };
  const store = storeOf(result, {
    at: "at",
    value: "stored",
    count: groupOut % 4 === 0 ? undefined : `${groupOut}u - column`,
  });
  return {
    workspaceBytes: runs === 1 ? 0 : 4 * weightLength * runs,
    after: runs === 1
      ? []
      : [{ kernel: sumOfRuns({ runs, length: weightLength }), buffers: ["workspace", "weightGradient"] }],
    problem: {
      label: `conv2d weight gradient ${describeConv2d(shape)}`,
      m,
      n: groupOut,
      k: runPixels,
      slices: groups * runs,
      buffers: [
        binding(input.elements, { role: "input", access: "read", length: inputLength }),
        binding(outGradient, { role: "outGradient", access: "read", length: outputLength }),
        ...input.tables,
        binding(result, {
          role: runs === 1 ? "weightGradient" : "workspace",
          access: "write",
          length: weightLength * runs,
        }),
      ],
      requires: storage === "f16" ? ["f16"] : [],
      prelude: `${input.prelude}\n${gathering(outGradient)}`,
      slice: `let group = slice / ${runs}u;
let run = slice % ${runs}u;
let firstK = run * ${runPixels}u;
let endK = min(${pixels}u, firstK + ${runPixels}u);`,
      left: tapsByPixels(input, { pixels, panel: tile.panel }),
      right: gradientByPixels(outGradient, { pixels, groupOut, outChannels }),
      result: {
        row: (name, row) =>
          `let ${name}_tap = ${row} / ${padded}u;
let ${name}_c = ${row} % ${padded}u;
let ${name}_inside = ${row} < ${m}u && ${name}_c < ${channels}u;
let ${name}_at = run * ${weightLength}u + (${name}_tap * ${channels}u + ${name}_c) * ${outChannels}u;`,
        column: (name, column) => `let ${name}_inside = ${column} < ${groupOut}u;\nlet ${name}_at = ${column};`,
        store: (value, row, column) =>
          `if (${row}_inside && ${column}_inside) {
let stored = ${value};
let column = ${column}_at;
let at = ${row}_at + group * ${groupOut}u + column;
${store}
}`,
      },
    },
  };
};
