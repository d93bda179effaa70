/**
 * How the kernel of the weights' partial gradients loads the inputs of its tile: for one kernel row or all of them, for
 * several pixels of a line at a time, number by number or in fours, as they are or normalised on the way. What the taps of
 * one turn share with the next is kept.
 */
import type { Conv2dShape } from "./conv2d_shape.ts";
import type { Tiling } from "./conv2d_weight_gradient_tiling.ts";
import type { Access } from "./kernel.ts";
import { cellsOf, component, floats, gather, range, sharedValues, type Sharing } from "./tiles.ts";

/** The inputs of a tile, WGSL. */
export interface TileInputs {
  /** Of the buffers that hold the tables of a normalising load. */
  readonly access: readonly Access[];
  /** Declarations of the tables, from binding 2. */
  readonly bindings: string;
  /** Type of the input buffer's elements. */
  readonly type: string;
  /** Statements before all lines. */
  readonly setup: string;
  /** Statements before a line of the image with that number. */
  readonly image: (image: string) => string;
  /** Statements before the first pixels of a line, given `inY` and `inBase` of the tile's first kernel row. */
  readonly atFirst: string;
  /** Positions before `inX` that are kept from the pixels before. */
  readonly kept: number;
  /** Statements that load what is new, given `inX`. */
  readonly load: string;
  /** The input of one of the pixels for a row of the tile. */
  readonly value: (pixel: number, row: number) => string;
  /** Statements that keep what the next pixels need. */
  readonly keep: string;
}

/** Loads of the input for partial sums of a shape. */
export function tileInputs(shape: Conv2dShape, tiling: Tiling & { readonly sharing: Sharing }): TileInputs {
  const { stride } = shape;
  const { taps, channels, loaded, kernelRows } = tiling;
  const loads = normalisingLoads(shape, loaded);
  const rows = range(kernelRows).map((row) => rowInputs(shape, { ...tiling, row, loads }));
  return {
    access: loads.access,
    bindings: loads.bindings,
    type: cellsOf(shape.storage ?? "f32", loaded).type,
    setup: loads.setup(),
    image: loads.image,
    atFirst: rows.map(({ atFirst }) => atFirst).join("\n"),
    kept: Math.max(0, taps - stride),
    load: rows.map(({ load }) => load).join("\n"),
    value(pixel, row) {
      const kernelRow = Math.floor(row / (taps * channels));
      const at = pixel * stride * channels + row % (taps * channels);
      return component(rows[kernelRow].names[Math.floor(at / loaded)], at % loaded, loaded);
    },
    keep: rows.map(({ keep }) => keep).join("\n"),
  };
}

/** Statements for one kernel row of the tile, and what its inputs are called, tap after tap. */
function rowInputs(
  shape: Conv2dShape,
  { row, loads, ...tiling }: Tiling & {
    readonly sharing: Sharing;
    readonly row: number;
    readonly loads: NormalisingLoads;
  },
): Pick<TileInputs, "atFirst" | "load" | "keep"> & { readonly names: readonly string[] } {
  const { height, width, inChannels, stride, padding, groups, storage = "f32" } = shape;
  const { taps, channels, pixels, loaded, kernelRows } = tiling;
  const groupIn = inChannels / groups;
  // Along a line the last taps of the pixels at a time are the first of the next: those are kept.
  const kept = Math.max(0, taps - stride);
  const stored = cellsOf(storage, loaded);
  // Inputs lie next to each other, position after position; past the channels of a group nothing is stored.
  const cells = channels / loaded;
  const nothing = `${floats(loaded)}(0.0)`;
  // A tile of one kernel row passes over lines where it lies outside; one of several has to go on.
  const onLine = kernelRows === 1 ? [] : [`inside${row}`];
  /** Cells of `positions` of the line from `from` on, loaded by all lanes together. */
  const cellsFrom = (name: string, { from, positions }: { from: string; positions: number }) => {
    const tapOf = (cell: string) => positions === 1 ? "0u" : `(${cell} / ${cells}u)`;
    const channelOf = (cell: string) => {
      const number = positions === 1 ? cell : `(${cell} % ${cells}u)`;
      return loaded === 1 ? number : `${number} * ${loaded}u`;
    };
    return sharedValues(`${name}${row}_`, {
      count: positions * cells,
      sharing: tiling.sharing,
      at(cell) {
        const at = `u32(inBase${row} + ${from} * ${inChannels}) + ${tapOf(cell)} * ${inChannels}u + ${channelOf(cell)}`;
        const raw = stored.load(`input[${loaded === 1 ? at : `(${at}) / ${loaded}u`}]`);
        const channel = `group * ${groupIn}u + min(firstIn + ${channelOf(cell)}, ${groupIn - loaded}u)`;
        const value = loads.value(raw, channel);
        const inside = [...onLine, ...(padding === 0 ? [] : [`u32(${from} + i32(${tapOf(cell)})) < ${width}u`])];
        return inside.length === 0 ? value : `select(${nothing}, ${value}, ${inside.join(" && ")})`;
      },
    });
  };
  const fresh = cellsFrom("in", { from: "inX", positions: (pixels - 1) * stride + taps - kept });
  // Where the padding is as wide, all that is kept at first lies before the line.
  const first = kept <= padding
    ? { load: "", values: range(kept * cells).map(() => nothing) }
    : cellsFrom("first", { from: `(-${padding})`, positions: kept });
  const names = [...first.values.map((_, cell) => `kept${row}_${cell}`), ...fresh.values];
  return {
    names,
    atFirst: [
      `let inBase${row} = inBase + ${row * width * inChannels};`,
      ...(kernelRows === 1 ? [] : [`let inside${row} = u32(inY + ${row}) < ${height}u;`]),
      first.load,
      ...first.values.map((value, cell) => `var kept${row}_${cell} = ${value};`),
    ].join("\n"),
    load: fresh.load,
    keep: first.values.map((_, cell) => `kept${row}_${cell} = ${names[cell + pixels * stride * cells]};`).join("\n"),
  };
}

/** What a load does by the shape, for `width` neighbouring channels at a time. */
interface NormalisingLoads {
  readonly access: readonly Access[];
  readonly bindings: string;
  /** What raw numbers from a channel on stand for; the channel, WGSL, must not change within an invocation. */
  readonly value: (raw: string, channel: string) => string;
  /** For the values asked for so far. */
  readonly setup: () => string;
  readonly image: (image: string) => string;
}

function normalisingLoads({ load = "plain", batch, inChannels }: Conv2dShape, width: 1 | 4): NormalisingLoads {
  if (load === "plain") return { access: [], bindings: "", value: (raw) => raw, setup: () => "", image: () => "" };
  const gated = load === "normalised relu gated";
  const channels: string[] = [];
  const from = (table: string, at: string) => gather(range(width).map((i) => `${table}[${at} + ${i}u]`));
  return {
    access: gated ? ["read", "read"] : ["read"],
    bindings: `@group(0) @binding(2) var<storage, read> normaliser: array<f32, ${4 * inChannels}>;
${gated ? `@group(0) @binding(3) var<storage, read> gate: array<f32, ${batch * inChannels}>;\n` : ""}`,
    value(raw, channel) {
      const known = channels.indexOf(channel);
      const n = known === -1 ? channels.push(channel) - 1 : known;
      const normalised = `(${raw} - mean${n}) * factor${n} + beta${n}`;
      if (load === "normalised") return normalised;
      const rectified = `max(${normalised}, ${floats(width)}(0.0))`;
      return gated ? `${rectified} * gate${n}` : rectified;
    },
    setup: () =>
      channels.map((channel, n) =>
        `let channel${n} = ${channel};
let mean${n} = ${from("normaliser", `channel${n}`)};
let factor${n} = ${from("normaliser", `${inChannels}u + channel${n}`)};
let beta${n} = ${from("normaliser", `${2 * inChannels}u + channel${n}`)};`
      ).join("\n"),
    image: (image) =>
      gated
        ? channels.map((_, n) => `let gate${n} = ${from("gate", `${image} * ${inChannels}u + channel${n}`)};`).join(
          "\n",
        )
        : "",
  };
}
