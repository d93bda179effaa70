/**
 * Convolution forward as a {@linkcode GemmProblem}: rows are output pixels, columns a group's output channels, k is
 * (ky, kx, input channel of the group); a slice is a group. Knows no skeleton.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "../conv2d_shape.ts";
import type { Conv2dForwardRole } from "../operations.ts";
import { convInput, pixelsByTaps, tapAndChannel } from "./conv2d_input.ts";
import { planPartials } from "./partials.ts";
import type { GemmOperand, GemmPlanner, GemmResult } from "./problem.ts";
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
  rounded,
  storeOf,
  widthOf,
} from "./quads.ts";

/** Weights by (tap, channel) of a group, output channels next to each other. */
function weightsByTaps(
  weights: Elements,
  { groupIn, groupOut, outChannels, ...k }: {
    groupIn: number;
    groupOut: number;
    outChannels: number;
    padded: number;
    taps: number;
    panel: number;
  },
): GemmOperand {
  return {
    along: "position",
    length: fetchLength(weights),
    raw: rawType(weights),
    place: (name, position) => `let ${name}_at = group * ${groupOut}u + ${clamped(position, groupOut, weights.width)};`,
    step: (name, at) =>
      `${tapAndChannel(name, at, k)}
let ${name}_at = (${name}_tap * ${groupIn}u + min(${name}_c, ${groupIn - 1}u)) * ${outChannels}u;`,
    fetch: (place, step) => fetchOf(weights, `(${place}_at + ${step}_at)`),
    finish: (name, { raw }, as) =>
      foursOf(weights, { raw, as }).map((four, i) => `let ${name}${i} = ${four};`).join("\n"),
  };
}

/** output [N, H', W', Co] (and its moments) from input [N, H, W, Ci] and weight [kh, kw, Ci / groups, Co]. */
export const conv2dForwardPlan: GemmPlanner<Conv2dShape, Conv2dForwardRole> = (shape, tile) => {
  const { batch, outChannels, groups, storage = "f32", moments = false } = shape;
  const { height, width, inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const groupOut = outChannels / groups;
  const pixels = batch * height * width;
  const input = convInput(shape, tile);
  const { channels, padded, taps } = input;
  const weights = elementsOf("weights", [groupOut], { storage, fetch: tile.fetch });
  const output: Elements = { name: "output", storage, width: widthOf([groupOut], { storage }) };
  const partials = moments
    ? planPartials<Conv2dForwardRole>({ kind: "moments", channels: outChannels }, {
      role: "moments",
      chunks: Math.ceil(pixels / tile.rows),
    })
    : undefined;
  const store = storeOf(output, {
    at: "at",
    value: "stored",
    count: groupOut % 4 === 0 ? undefined : `${groupOut}u - column`,
  });
  const result: GemmResult = {
    row: (name, row) => `let ${name}_inside = ${row} < ${pixels}u;\nlet ${name}_at = ${row} * ${outChannels}u;`,
    column: (name, column) => `let ${name}_inside = ${column} < ${groupOut}u;\nlet ${name}_at = ${column};`,
    store: (value, row, column) =>
      `if (${row}_inside && ${column}_inside) {
let stored = ${value};
let column = ${column}_at;
let at = ${row}_at + group * ${groupOut}u + column;
${store}
${moments ? `${value} = ${rounded("stored", storage)};` : ""}
}${moments ? ` else { ${value} = vec4f(); }` : ""}`,
    ...(partials !== undefined
      ? {
        partials: {
          kind: "moments",
          buffer: "moments",
          channels: outChannels,
          columns: groupOut,
          chunks: (rowTiles) => rowTiles,
          merged: partials.merged,
          chunk: "rowTile",
          channel: (column) => `(group * ${groupOut}u + ${column})`,
        },
      }
      : {}),
  };
  return {
    workspaceBytes: partials?.workspaceBytes ?? 0,
    after: partials?.after ?? [],
    problem: {
      label: `conv2d forward ${describeConv2d(shape)}`,
      m: pixels,
      n: groupOut,
      k: taps * padded,
      slices: groups,
      buffers: [
        binding(input.elements, { role: "input", access: "read", length: inputLength }),
        binding(weights, { role: "weight", access: "read", length: weightLength }),
        ...input.tables,
        binding(output, { role: "output", access: "write", length: outputLength }),
        ...(partials === undefined ? [] : [partials.buffer]),
      ],
      requires: storage === "f16" ? ["f16"] : [],
      prelude: `${input.prelude}\n${gathering(weights)}`,
      slice: `let group = slice;\nlet firstK = 0u;\nlet endK = ${taps * padded}u;`,
      left: pixelsByTaps(input, { pixels, panel: tile.panel }),
      right: weightsByTaps(weights, { groupIn: channels, groupOut, outChannels, padded, taps, panel: tile.panel }),
      result,
    },
  };
};
