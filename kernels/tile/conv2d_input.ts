/**
 * The input of a convolution as an operand: forward, pixels are positions and (tap, channel) is k; in the gradient towards
 * the weights it is the other way round. Either way an element is found from a pixel's part and a tap's part, loaded, and
 * normalised, rectified and gated as the shape asks; padding is zero after all that. Knows no tile.
 */
import { conv2dOutput, type Conv2dShape } from "../conv2d_shape.ts";
import { range } from "../tiles.ts";
import type { Storage } from "../variant.ts";
import type { GemmBuffer, GemmOperand, TileSizes } from "./problem.ts";
import {
  below,
  binding,
  type Elements,
  elementsOf,
  fetchLength,
  fetchOf,
  foursOf,
  gathering,
  rawType,
  vector4,
  widthOf,
} from "./quads.ts";

/** Roles of the tables that loads take besides the input. */
type TableRole = "normaliser" | "gate";

/** A convolution's input, its numbers baked in. */
export interface ConvInput {
  readonly elements: Elements;
  /** Elements of a fetch. */
  readonly length: 4 | 8;
  /** Channels of a group, and with zeros up to a multiple of a fetch. */
  readonly channels: number;
  readonly padded: number;
  readonly taps: number;
  /** Tables that the load takes, in binding order. */
  readonly tables: readonly GemmBuffer<TableRole>[];
  /** Module scope. */
  readonly prelude: string;
  readonly raw: string;
  /** Declares an output pixel's part for `name`: `pixel` is WGSL, below the number of pixels. */
  pixel(name: string, pixel: string): string;
  /** Declares a tap's part: `tap` and `channel` (a multiple of a fetch, below `padded`) are WGSL; needs `group`. */
  tap(name: string, tap: string, channel: string): string;
  /** The loads of a pixel and a tap. */
  fetch(pixel: string, tap: string): string;
  /** {@linkcode GemmOperand.finish}; `masks` are more conditions on the fours, each scalar or per component. */
  finish(
    name: string,
    from: { readonly raw: string; readonly pixel: string; readonly tap: string },
    options: { readonly as: Storage; readonly masks: (four: number) => readonly string[] },
  ): string;
}

/** Most of k that may be filling. */
const FILLING_MAX = 0.1;

/**
 * Channels of a group, filled up to whole fetches; to whole panels where that costs little, because a panel then lies in
 * one tap, whose arithmetic is the same for all invocations.
 */
export function paddedTo({ length, panel }: { length: number; panel?: number }, channels: number): number {
  const whole = panel === undefined ? Infinity : Math.ceil(channels / panel) * panel;
  return whole <= (1 + FILLING_MAX) * channels ? whole : Math.ceil(channels / length) * length;
}

/** What the input must know of a tile: the panel where its channels lie along k. */
type InputTile = Pick<TileSizes, "fetch"> & { readonly panel?: number };

/** The parts of {@linkcode ConvInput} that are not WGSL of an element. */
function layoutOf(shape: Conv2dShape, { fetch, panel }: InputTile) {
  const { inChannels, kernelHeight, kernelWidth, groups, storage = "f32" } = shape;
  const channels = inChannels / groups;
  const elements = elementsOf("input", [channels], { storage, fetch });
  const length = fetchLength(elements);
  const tableWidth = widthOf([channels], { storage: "f32" });
  const table = (name: TableRole): Elements => ({ name, storage: "f32", width: tableWidth });
  return {
    elements,
    length,
    channels,
    padded: paddedTo({ length, panel }, channels),
    taps: kernelHeight * kernelWidth,
    fours: range(length / 4),
    normaliser: table("normaliser"),
    gate: table("gate"),
  };
}

type Layout = ReturnType<typeof layoutOf>;

const isNormalised = ({ load = "plain" }: Conv2dShape) => load !== "plain";
const isGated = ({ load }: Conv2dShape) => load === "normalised relu gated";
/** Whether every tap of every pixel lies in the image. */
const isWithin = ({ kernelHeight, kernelWidth, padding }: Conv2dShape) =>
  kernelHeight * kernelWidth === 1 && padding === 0;

/** WGSL conditions that a pixel meets a tap within the image and not in the padding; none where all do. */
function insideImage(shape: Conv2dShape, { pixel, tap }: { pixel: string; tap: string }): string[] {
  if (isWithin(shape)) return [];
  const { height, width, kernelHeight, kernelWidth } = shape;
  const moved = (axis: string) =>
    kernelHeight * kernelWidth === 1 ? `${pixel}_${axis}` : `${pixel}_${axis} + ${tap}_${axis}`;
  // Above and left of the image wraps to large numbers.
  return [`(${moved("y")}) < ${height}u`, `(${moved("x")}) < ${width}u`];
}

/** Where an element lies, and its loads. */
function addressing(shape: Conv2dShape, layout: Layout): Pick<ConvInput, "pixel" | "tap" | "fetch"> {
  const { height, width, inChannels, kernelWidth, stride, padding } = shape;
  const { elements, channels, taps, fours, normaliser, gate } = layout;
  const output = conv2dOutput(shape);
  const planes = (name: string) =>
    ["mean", "factor", "beta"].flatMap((which, plane) =>
      fours.map((four) =>
        `let ${name}_${which}${four} = ${fetchOf(normaliser, `(${name}_channel + ${plane * inChannels + 4 * four}u)`)};`
      )
    );
  return {
    pixel: (name, pixel) =>
      `let ${name}_pixel = ${pixel};
let ${name}_image = ${name}_pixel / ${output.height * output.width}u;
let ${name}_y = ${name}_pixel / ${output.width}u % ${output.height}u * ${stride}u - ${padding}u;
let ${name}_x = ${name}_pixel % ${output.width}u * ${stride}u - ${padding}u;
let ${name}_at = ${
        // 1×1 with a stride of 1: an output pixel's number is the input pixel's.
        isWithin(shape) && stride === 1
          ? `${name}_pixel`
          : `((${name}_image * ${height}u + ${name}_y) * ${width}u + ${name}_x)`} * ${inChannels}u;`,
    tap: (name, tap, channel) =>
      [
        `let ${name}_channel = group * ${channels}u + min(${channel}, ${channels - elements.width}u);`,
        ...(taps === 1 ? [`let ${name}_at = ${name}_channel;`] : [
          `let ${name}_y = ${tap} / ${kernelWidth}u;`,
          `let ${name}_x = ${tap} % ${kernelWidth}u;`,
          `let ${name}_at = (${name}_y * ${width}u + ${name}_x) * ${inChannels}u + ${name}_channel;`,
        ]),
        ...(isNormalised(shape) ? planes(name) : []),
      ].join("\n"),
    fetch: (pixel, tap) => {
      const inside = insideImage(shape, { pixel, tap });
      const sum = `${pixel}_at + ${tap}_at`;
      const at = inside.length === 0 ? `(${sum})` : `select(0u, ${sum}, ${inside.join(" && ")})`;
      if (!isGated(shape)) return fetchOf(elements, at);
      const gates = fours.map((four) =>
        fetchOf(gate, `(${pixel}_image * ${inChannels}u + ${tap}_channel + ${4 * four}u)`)
      );
      return `GatedInput(${[fetchOf(elements, at), ...gates].join(", ")})`;
    },
  };
}

/** The input operand of a shape for a skeleton that fetches like that. */
export function convInput(shape: Conv2dShape, tile: InputTile): ConvInput {
  const { batch, inChannels } = shape;
  const layout = layoutOf(shape, tile);
  const { elements, fours, normaliser, gate } = layout;
  const [normalised, gated] = [isNormalised(shape), isGated(shape)];
  const tables = [
    ...(normalised ? [[normaliser, "normaliser", 4 * inChannels] as const] : []),
    ...(gated ? [[gate, "gate", batch * inChannels] as const] : []),
  ];
  return {
    ...layout,
    ...addressing(shape, layout),
    tables: tables.map(([table, role, length]) => binding<TableRole>(table, { role, access: "read", length })),
    prelude: [
      gathering(elements),
      ...(gated
        ? [`struct GatedInput { value: ${rawType(elements)}, ${fours.map((four) => `gate${four}: vec4f`).join(", ")} }`]
        : []),
    ].join("\n"),
    raw: gated ? "GatedInput" : rawType(elements),
    finish: (name, { raw, pixel, tap }, { as, masks }) => {
      const inside = insideImage(shape, { pixel, tap });
      const values = foursOf(elements, { raw: gated ? `${raw}.value` : raw, as: normalised ? "f32" : as });
      return values.flatMap((value, four) => {
        const result = `${name}${four}`;
        const conditions = [...inside, ...masks(four)];
        return [
          normalised
            ? normalisedFour(shape, { result, value, tap, gate: `${raw}.gate${four}`, four, as })
            : `var ${result} = ${value};`,
          ...(conditions.length > 0 ? [`${result} = ${selected(result, conditions, as)};`] : []),
        ];
      }).join("\n");
    },
  };
}

/** Declares `result`: a four normalised by the tap's tables, in f32, rectified and gated where the load says so. */
function normalisedFour(
  { load }: Conv2dShape,
  { result, value, tap, gate, four, as }: {
    result: string;
    value: string;
    tap: string;
    gate: string;
    four: number;
    as: Storage;
  },
): string {
  const part = (which: string) => `${tap}_${which}${four}`;
  const full = `${result}_f32`;
  return [
    `var ${full} = (${value} - ${part("mean")}) * ${part("factor")} + ${part("beta")};`,
    ...(load === "normalised" ? [] : [`${full} = max(${full}, vec4f());`]),
    ...(load === "normalised relu gated" ? [`${full} *= ${gate};`] : []),
    `var ${result} = ${as === "f16" ? `vec4<f16>(${full})` : full};`,
  ].join("\n");
}

/** The left operand of the forward pass: positions are output pixels, k is (tap, channel). */
export function pixelsByTaps(
  input: ConvInput,
  { pixels, panel }: { pixels: number; panel: number },
): GemmOperand {
  const { padded, taps, length } = input;
  return {
    along: "k",
    length,
    raw: input.raw,
    place: (name, position) => input.pixel(name, `min(${position}, ${pixels - 1}u)`),
    step: (name, k) =>
      `${tapAndChannel(name, k, { padded, taps, panel })}
${input.tap(name, `${name}_tap`, `${name}_c`)}`,
    fetch: (place, step) => input.fetch(place, step),
    finish: (name, { raw, place, step }, as) =>
      input.finish(name, { raw, pixel: place, tap: step }, {
        as,
        masks: (four) => kMask(input, { step, four, panel, end: `${taps * padded}u` }),
      }),
  };
}

/** Declares `name_k`, `name_tap` and `name_c` of an index over (tap, channel) that may lie past the end. */
export function tapAndChannel(
  name: string,
  { start, offset }: { start: string; offset: string },
  { padded, taps, panel }: { padded: number; taps: number; panel: number },
): string {
  const first = padded % panel === 0 ? start : `${name}_k`;
  return `let ${name}_k = ${start} + ${offset};
let ${name}_tap = ${taps === 1 ? "0u" : `min(${first} / ${padded}u, ${taps - 1}u)`};
let ${name}_c = ${
    taps === 1 ? `${name}_k` : `${first} - ${name}_tap * ${padded}u${first === start ? ` + ${offset}` : ""}`
  };`;
}

/** Conditions on a four of a fetch at `step` (its `_k` and `_c`): within k, and a channel and no filling. */
export function kMask(
  { channels, padded }: { channels: number; padded: number },
  { step, four, panel, end }: { step: string; four: number; panel: number; end: string },
): string[] {
  const channel = four === 0 ? `${step}_c` : `${step}_c + ${4 * four}u`;
  return [
    ...(padded % panel === 0 ? [] : [`${step}_k < ${end}`]),
    ...(channels === padded ? [] : [below(channel, `${channels}u`, channels % 4 === 0)]),
  ];
}

/** `value` where all conditions, scalar or per component, hold; zero elsewhere. */
export function selected(value: string, conditions: readonly string[], as: Storage): string {
  const isVector = (condition: string) => condition.startsWith("(vec4u");
  const zero = `${vector4(as)}()`;
  const scalars = conditions.filter((condition) => !isVector(condition));
  const inner = scalars.length === 0 ? value : `select(${zero}, ${value}, ${scalars.join(" && ")})`;
  return conditions.filter(isVector).reduce(
    (chosen, condition) => `select(${zero}, ${chosen}, ${condition})`,
    inner,
  );
}
