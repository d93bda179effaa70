/**
 * The input of a convolution as an operand: forward, pixels are positions and (tap, channel) is k; in the gradient towards
 * the weights it is the other way round. Either way an element is found from a pixel's part and a tap's part, loaded, and
 * normalised, rectified and gated as the shape asks; padding is zero after all that. Knows no tile.
 */
import { conv2dOutput, type Conv2dShape } from "../conv2d_shape.ts";
import { range } from "../tiles.ts";
import type { Storage } from "../variant.ts";
import type { GemmBuffer, GemmOperand, TileSizes } from "./problem.ts";
import { below, binding, type Elements, fetchLength, fetchOf, foursOf, rawType, vector4, widthOf } from "./quads.ts";

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

/** Channels of a group, filled up to whole fetches. */
export function paddedTo(length: number, channels: number): number {
  return Math.ceil(channels / length) * length;
}

/** The parts of {@linkcode ConvInput} that are not WGSL of an element. */
function layoutOf(shape: Conv2dShape, { fetch }: Pick<TileSizes, "fetch">) {
  const { inChannels, kernelHeight, kernelWidth, groups, storage = "f32" } = shape;
  const channels = inChannels / groups;
  const elements: Elements = { name: "input", storage, width: widthOf([channels], { storage, fetch }) };
  const length = fetchLength(elements);
  const tableWidth = widthOf([channels], { storage: "f32" });
  const table = (name: TableRole): Elements => ({ name, storage: "f32", width: tableWidth });
  return {
    elements,
    length,
    channels,
    padded: paddedTo(length, channels),
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

/** WGSL i32: line and column of the image where a pixel meets a tap; outside it in the padding. */
function placeIn({ kernelHeight, kernelWidth }: Conv2dShape, { pixel, tap }: { pixel: string; tap: string }) {
  const single = kernelHeight * kernelWidth === 1;
  return { y: single ? `${pixel}_y` : `${pixel}_y + ${tap}_y`, x: single ? `${pixel}_x` : `${pixel}_x + ${tap}_x` };
}

/** Where an element lies, and its loads. */
function addressing(shape: Conv2dShape, layout: Layout): Pick<ConvInput, "pixel" | "tap" | "fetch"> {
  const { height, width, inChannels, kernelWidth, stride, padding } = shape;
  const { elements, channels, taps, fours, normaliser, gate } = layout;
  const output = conv2dOutput(shape);
  const within = isWithin(shape);
  const index = (value: string, count: number) => within ? `u32(${value})` : `u32(clamp(${value}, 0, ${count - 1}))`;
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
let ${name}_y = i32(${name}_pixel / ${output.width}u % ${output.height}u * ${stride}u) - ${padding};
let ${name}_x = i32(${name}_pixel % ${output.width}u * ${stride}u) - ${padding};`,
    tap: (name, tap, channel) =>
      [
        `let ${name}_channel = group * ${channels}u + min(${channel}, ${channels - elements.width}u);`,
        ...(taps === 1
          ? []
          : [`let ${name}_y = i32(${tap} / ${kernelWidth}u);`, `let ${name}_x = i32(${tap} % ${kernelWidth}u);`]),
        ...(isNormalised(shape) ? planes(name) : []),
      ].join("\n"),
    fetch: (pixel, tap) => {
      const { y, x } = placeIn(shape, { pixel, tap });
      // 1×1 with a stride of 1: an output pixel's number is the input pixel's.
      const at = `(${
        within && stride === 1
          ? `${pixel}_pixel`
          : `((${pixel}_image * ${height}u + ${index(y, height)}) * ${width}u + ${index(x, width)})`
      } * ${inChannels}u + ${tap}_channel)`;
      if (!isGated(shape)) return fetchOf(elements, at);
      const gates = fours.map((four) =>
        fetchOf(gate, `(${pixel}_image * ${inChannels}u + ${tap}_channel + ${4 * four}u)`)
      );
      return `GatedInput(${[fetchOf(elements, at), ...gates].join(", ")})`;
    },
  };
}

/** The input operand of a shape for a skeleton that fetches like that. */
export function convInput(shape: Conv2dShape, tile: Pick<TileSizes, "fetch">): ConvInput {
  const { batch, height, width, inChannels } = shape;
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
    prelude: gated
      ? `struct GatedInput { value: ${rawType(elements)}, ${fours.map((four) => `gate${four}: vec4f`).join(", ")} }`
      : "",
    raw: gated ? "GatedInput" : rawType(elements),
    finish: (name, { raw, pixel, tap }, { as, masks }) => {
      const { y, x } = placeIn(shape, { pixel, tap });
      const inside = isWithin(shape) ? [] : [`u32(${y}) < ${height}u`, `u32(${x}) < ${width}u`];
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

/** `value` where all conditions, scalar or per component, hold; zero elsewhere. */
function selected(value: string, conditions: readonly string[], as: Storage): string {
  const isVector = (condition: string) => condition.startsWith("(vec4u");
  const scalars = conditions.filter((condition) => !isVector(condition));
  const inner = scalars.length === 0 ? value : `select(${vector4(as)}(), ${value}, ${scalars.join(" && ")})`;
  return conditions.filter(isVector).reduce(
    (chosen, condition) => `select(${vector4(as)}(), ${chosen}, ${condition})`,
    inner,
  );
}

/** Masks of the fours of a fetch that starts at `channel`, WGSL, of a group's filled-up channels. */
export function channelMask(
  { channels, padded }: Pick<ConvInput, "channels" | "padded">,
  channel: string,
  four: number,
): string[] {
  return channels === padded ? [] : [below(four === 0 ? channel : `${channel} + ${4 * four}u`, `${channels}u`, false)];
}

/** The left operand of the forward pass: positions are output pixels, k is (tap, channel). */
export function pixelsByTaps(
  input: ConvInput,
  { pixels, panel }: { pixels: number; panel: number },
): GemmOperand {
  const { padded, taps, length } = input;
  const steps = taps * padded;
  return {
    along: "k",
    length,
    raw: input.raw,
    place: (name, position) => input.pixel(name, `min(${position}, ${pixels - 1}u)`),
    step: (name, { start, offset }) =>
      `${tapAndChannel(name, { k: `${start} + ${offset}`, padded, taps })}
${input.tap(name, `${name}_tap`, `${name}_c`)}`,
    fetch: (place, step) => input.fetch(place, step),
    finish: (name, { raw, place, step }, as) =>
      input.finish(name, { raw, pixel: place, tap: step }, {
        as,
        masks: (four) => [
          ...(steps % panel === 0 ? [] : [`${step}_k < ${steps}u`]),
          ...channelMask(input, `${step}_c`, four),
        ],
      }),
  };
}

/** Declares `name_k`, `name_tap` and `name_c` for an index over (tap, channel) that may lie past the end. */
export function tapAndChannel(
  name: string,
  { k, padded, taps }: { k: string; padded: number; taps: number },
): string {
  const tap = taps === 1 ? "0u" : `min(${name}_k / ${padded}u, ${taps - 1}u)`;
  return `let ${name}_k = ${k};
let ${name}_tap = ${tap};
let ${name}_c = ${taps === 1 ? `${name}_k` : `${name}_k - ${name}_tap * ${padded}u`};`;
}
