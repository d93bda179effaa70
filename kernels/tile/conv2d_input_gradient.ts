/**
 * Convolution's gradient towards its input as a {@linkcode GemmProblem}: rows are input pixels, columns a group's input
 * channels, k is (ky, kx, output channel of the group). With a stride, pixels fall into classes by the residue of
 * (y + padding, x + padding): all pixels of a class meet the same taps, ky ≡ residue, so a slice is a class of a group and
 * its k holds no tap in vain. Where the input was normalised on load the gradient goes on through ReLU, and the result
 * gives the sums that the normalisation's gradient needs. Knows no skeleton.
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "../conv2d_shape.ts";
import type { Conv2dInputGradientRole } from "../operations.ts";
import { kMask, paddedTo, selected } from "./conv2d_input.ts";
import { planPartials } from "./partials.ts";
import type { GemmBuffer, GemmOperand, GemmPlanner, GemmResult } from "./problem.ts";
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

/** What operands share: names and numbers of one shape. */
interface Geometry {
  readonly shape: Conv2dShape;
  readonly output: { readonly height: number; readonly width: number };
  readonly groupIn: number;
  readonly groupOut: number;
  /** Output channels of a group with zeros up to a whole fetch. */
  readonly padded: number;
  /** Pixels of the largest class, by image. */
  readonly classHeight: number;
  readonly classWidth: number;
  readonly panel: number;
}

/** Declares `name_k`, the tap's number in its class (`name_jy`, `name_jx`) and the output channel `name_c` of a step. */
function step(
  name: string,
  { start, offset }: { start: string; offset: string },
  { padded, panel, shape: { kernelWidth, stride } }: Geometry,
): string {
  const first = padded % panel === 0 ? start : `${name}_k`;
  // A division by a number unknown until run time costs some twenty instructions; a class rarely has more than two taps.
  const most = Math.ceil(kernelWidth / stride);
  const lines = stride === 1 || most > 2 ? `/ tapsAcross` : most === 1 ? "" : `>> (tapsAcross - 1u)`;
  return `let ${name}_k = ${start} + ${offset};
let ${name}_j = ${first} / ${padded}u;
let ${name}_c = ${first} - ${name}_j * ${padded}u${first === start ? ` + ${offset}` : ""};
let ${name}_jy = ${name}_j ${lines};
let ${name}_jx = ${name}_j - ${name}_jy * tapsAcross;`;
}

/** outGradient by (pixel of the class; tap, output channel). */
function gradientByTaps(elements: Elements, geometry: Geometry): GemmOperand {
  const { output, groupOut, padded, classHeight, classWidth, panel, shape } = geometry;
  const { batch, outChannels } = shape;
  const pixels = batch * classHeight * classWidth;
  // Above and left of the image wraps to large numbers.
  const inside = (place: string, by: string) =>
    `(${place}_y - ${by}_jy) < ${output.height}u && (${place}_x - ${by}_jx) < ${output.width}u`;
  return {
    along: "k",
    length: fetchLength(elements),
    raw: rawType(elements),
    place: (name, position) =>
      `let ${name}_pixel = min(${position}, ${pixels - 1}u);
let ${name}_image = ${name}_pixel / ${classHeight * classWidth}u;
let ${name}_y = ${name}_pixel / ${classWidth}u % ${classHeight}u + outY;
let ${name}_x = ${name}_pixel % ${classWidth}u + outX;
let ${name}_at = ((${name}_image * ${output.height}u + ${name}_y) * ${output.width}u + ${name}_x) * ${outChannels}u;`,
    step: (name, k) =>
      `${step(name, k, geometry)}
let ${name}_channel = group * ${groupOut}u + ${clamped(`${name}_c`, groupOut, elements.width)};
let ${name}_at = ${name}_channel - (${name}_jy * ${output.width}u + ${name}_jx) * ${outChannels}u;`,
    fetch: (place, by) => fetchOf(elements, `select(0u, ${place}_at + ${by}_at, ${inside(place, by)})`),
    finish: (name, { raw, place, step: by }, as) =>
      foursOf(elements, { raw, as }).map((value, four) => {
        const masks = kMask({ channels: groupOut, padded }, { step: by, four, panel, end: "endK" });
        return `let ${name}${four} = ${selected(value, [inside(place, by), ...masks], as)};`;
      }).join("\n"),
  };
}

/** Weights by (tap, output channel; input channel): output channels lie next to each other. */
function weightsByChannels(elements: Elements, geometry: Geometry): GemmOperand {
  const { groupIn, groupOut, shape } = geometry;
  const { kernelHeight, kernelWidth, outChannels, stride } = shape;
  const taps = kernelHeight * kernelWidth;
  return {
    along: "k",
    length: fetchLength(elements),
    raw: rawType(elements),
    place: (name, position) =>
      `let ${name}_at = min(${position}, ${groupIn - 1}u) * ${outChannels}u + group * ${groupOut}u;`,
    step: (name, k) =>
      `${step(name, k, geometry)}
let ${name}_tap = (tapY + ${name}_jy * ${stride}u) * ${kernelWidth}u + tapX + ${name}_jx * ${stride}u;
let ${name}_at = min(${name}_tap, ${taps - 1}u) * ${groupIn * outChannels}u + ${
        clamped(`${name}_c`, groupOut, elements.width)
      };`,
    fetch: (place, by) => fetchOf(elements, `(${place}_at + ${by}_at)`),
    finish: (name, { raw }, as) =>
      foursOf(elements, { raw, as }).map((four, i) => `let ${name}${i} = ${four};`).join("\n"),
  };
}

/** WGSL of a slice: its group, its class' residues and first pixel, and how many taps it meets. */
function sliceOf({ shape, padded }: Geometry): string {
  const { stride, padding, kernelHeight, kernelWidth } = shape;
  const classes = stride * stride;
  const axis = (upper: string, residue: string, kernel: number) =>
    `let tap${upper} = ${residue};
let first${upper} = (tap${upper} + ${Math.ceil(padding / stride) * stride - padding}u) % ${stride}u;
let out${upper} = (first${upper} + ${padding}u - tap${upper}) / ${stride}u;
let taps${upper} = (${kernel + stride - 1}u - tap${upper}) / ${stride}u;`;
  return `let group = slice / ${classes}u;
let residues = slice % ${classes}u;
${axis("Y", `residues / ${stride}u`, kernelHeight)}
${axis("X", `residues % ${stride}u`, kernelWidth)}
let tapsAcross = ${stride === 1 ? `${kernelWidth}u` : "max(tapsX, 1u)"};
let firstK = 0u;
let endK = tapsY * tapsX * ${padded}u;`;
}

/** What is stored and summed: the gradient, behind the normalisation's ReLU where there was one. */
function resultOf(inputGradient: Elements, geometry: Geometry, merged: number | undefined): GemmResult {
  const { shape, groupIn, classHeight, classWidth } = geometry;
  const { batch, height, width, inChannels, stride, storage = "f32", load = "plain" } = shape;
  const passes = merged !== undefined;
  const table: Elements = { name: "normaliser", storage: "f32", width: widthOf([groupIn], { storage: "f32" }) };
  const planes = (name: string) =>
    ["mean", "factor", "beta"].map((which, plane) =>
      `let ${name}_${which} = ${fetchOf(table, `(${name}_channel + ${plane * inChannels}u)`)};`
    ).join("\n");
  const store = storeOf(inputGradient, {
    at: "at",
    value: "stored",
    count: groupIn % 4 === 0 ? undefined : `${groupIn}u - column`,
  });
  const loaded = foursOf({ ...inputGradient, name: "raw" }, {
    raw: fetchOf({ ...inputGradient, name: "raw" }, "at"),
    as: "f32",
  })[0];
  const through = (value: string, column: string) =>
    `deviation = ${loaded} - ${column}_mean;
${
      load === "normalised"
        ? ""
        : `${value} = select(vec4f(), ${value}, deviation * ${column}_factor + ${column}_beta > vec4f());`
    }
${value} = ${rounded(value, storage)};`;
  return {
    row: (name, row) =>
      `let ${name}_image = ${row} / ${classHeight * classWidth}u;
let ${name}_y = firstY + ${row} / ${classWidth}u % ${classHeight}u * ${stride}u;
let ${name}_x = firstX + ${row} % ${classWidth}u * ${stride}u;
let ${name}_inside = ${row} < ${batch * classHeight * classWidth}u && ${name}_y < ${height}u && ${name}_x < ${width}u;
let ${name}_at = ((${name}_image * ${height}u + ${name}_y) * ${width}u + ${name}_x) * ${inChannels}u;`,
    column: (name, column) =>
      `let ${name}_inside = ${column} < ${groupIn}u;
let ${name}_at = ${column};
${
        passes
          ? `let ${name}_channel = group * ${groupIn}u + ${clamped(column, groupIn, table.width)};\n${planes(name)}`
          : ""
      }`,
    store: (value, row, column) =>
      `${passes ? "var deviation = vec4f();" : ""}
if (${row}_inside && ${column}_inside) {
let column = ${column}_at;
let at = (${row}_at + group * ${groupIn}u + column);
${passes ? through(value, column) : ""}
let stored = ${value};
${store}
}${passes ? ` else { ${value} = vec4f(); }` : ""}`,
    ...(passes
      ? {
        partials: {
          kind: "sums",
          buffer: "sums",
          channels: inChannels,
          columns: groupIn,
          chunks: (rowTiles) => stride * stride * rowTiles,
          merged,
          chunk: `(rowTile * ${stride * stride}u + residues)`,
          channel: (column) => `(group * ${groupIn}u + ${column})`,
          factor: () => "deviation",
        },
      }
      : {}),
  };
}

/** inputGradient [N, H, W, Ci] (and sums) from outGradient [N, H', W', Co] and weight [kh, kw, Ci / groups, Co]. */
export const conv2dInputGradientPlan: GemmPlanner<Conv2dShape, Conv2dInputGradientRole> = (shape, tile) => {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, groups } = shape;
  const { storage = "f32", load = "plain" } = shape;
  const output = conv2dOutput(shape);
  const [groupIn, groupOut] = [inChannels / groups, outChannels / groups];
  const outGradient = elementsOf("outGradient", [groupOut], { storage, fetch: tile.fetch });
  const weights = { ...outGradient, name: "weights" };
  const inputGradient: Elements = { name: "inputGradient", storage, width: widthOf([groupIn], { storage }) };
  const geometry: Geometry = {
    shape,
    output,
    groupIn,
    groupOut,
    padded: paddedTo({ length: fetchLength(outGradient), panel: tile.panel }, groupOut),
    classHeight: Math.ceil(height / stride),
    classWidth: Math.ceil(width / stride),
    panel: tile.panel,
  };
  const m = batch * geometry.classHeight * geometry.classWidth;
  const partials = load === "normalised" || load === "normalised relu"
    ? planPartials<Conv2dInputGradientRole>({ kind: "sums", channels: inChannels }, {
      role: "sums",
      chunks: stride * stride * Math.ceil(m / tile.rows),
    })
    : undefined;
  const tables: GemmBuffer<Conv2dInputGradientRole>[] = partials === undefined ? [] : [
    binding({ ...inputGradient, name: "raw" }, { role: "raw", access: "read", length: output.inputLength }),
    binding({ name: "normaliser", storage: "f32", width: widthOf([groupIn], { storage: "f32" }) }, {
      role: "normaliser",
      access: "read",
      length: 4 * inChannels,
    }),
  ];
  return {
    workspaceBytes: partials?.workspaceBytes ?? 0,
    after: partials?.after ?? [],
    problem: {
      label: `conv2d input gradient ${describeConv2d(shape)}`,
      m,
      n: groupIn,
      k: Math.ceil(kernelHeight / stride) * Math.ceil(kernelWidth / stride) * geometry.padded,
      slices: groups * stride * stride,
      buffers: [
        binding(outGradient, { role: "outGradient", access: "read", length: output.outputLength }),
        binding(weights, { role: "weight", access: "read", length: output.weightLength }),
        ...tables,
        binding(inputGradient, { role: "inputGradient", access: "write", length: output.inputLength }),
        ...(partials === undefined ? [] : [partials.buffer]),
      ],
      requires: storage === "f16" ? ["f16"] : [],
      prelude: [outGradient, weights].map(gathering).join("\n"),
      slice: sliceOf(geometry),
      left: gradientByTaps(outGradient, geometry),
      right: weightsByChannels(weights, geometry),
      result: resultOf(inputGradient, geometry, partials?.merged),
    },
  };
};
