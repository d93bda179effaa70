/**
 * The end of a residual block in one pass, `max(normalised c + shortcut, 0)`, and its gradient in one pass. The shortcut is
 * a plain tensor or the raw output of a convolution with its normaliser. Tables and partial sums are those of
 * `batch_norm.ts`.
 */
import { batchNormPartition, batchNormRowsWgsl } from "./batch_norm.ts";
import type { Kernel } from "./kernel.ts";
import { cellsOf, storageFeatures } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { blockSums, once, pointwise } from "./wgsl.ts";

/** `c` and the shortcut are `[rows, channels]`. */
export interface ResidualShape {
  readonly rows: number;
  readonly channels: number;
  readonly storage: Storage;
  /** Whether the shortcut is normalised by a table too. */
  readonly normalisedShortcut: boolean;
}

/** Short chunks in large number: enough invocations to hide a GPU's memory latency. */
function split({ rows, channels, storage }: ResidualShape) {
  const { element, lanes, cells } = batchNormPartition({ rows, channels, storage });
  const wanted = Math.min(1024, Math.max(1, Math.ceil(65_536 / lanes)));
  const chunkRows = Math.max(32, Math.ceil(rows / wanted));
  return { element, lanes, cells, wanted, chunks: Math.ceil(rows / chunkRows) };
}

/** Floats of the partial sums of one normalisation. */
export function residualPartials(shape: ResidualShape): number {
  return 2 * split(shape).chunks * shape.channels;
}

const nameOf = ({ rows, channels, storage, normalisedShortcut }: ResidualShape) =>
  `${rows}x${channels} ${storage}${normalisedShortcut ? " normalised shortcut" : ""}`;

/** Buffers: c, its normaliser, shortcut, (its normaliser,) result. */
export function residual(shape: ResidualShape): Kernel {
  return once(`residual ${nameOf(shape)}`, () => {
    const { storage, normalisedShortcut } = shape;
    const { element, lanes } = batchNormPartition(shape);
    const cells = cellsOf(storage, element === "f32" ? 1 : 4);
    const normalised = (x: string, table: string) =>
      `(${cells.load(`${x}[i]`)} - ${table}[column]) * ${table}[${lanes}u + column] + ${table}[${2 * lanes}u + column]`;
    const shortcut = normalisedShortcut ? normalised("shortcut", "shortcutNormaliser") : cells.load("shortcut[i]");
    return {
      ...pointwise({
        label: `residual ${nameOf(shape)}`,
        storage: [
          ["c", "read", cells.type],
          ["normaliser", "read", element],
          ["shortcut", "read", cells.type],
          ...(normalisedShortcut ? [["shortcutNormaliser", "read", element] as const] : []),
          ["result", "write", cells.type],
        ],
        invocations: shape.rows * lanes,
        count: "arrayLength(&result)",
        body: `
  let column = i % ${lanes}u;
  result[i] = ${cells.store(`max(${normalised("c", "normaliser")} + ${shortcut}, ${element}(0))`)};`,
      }),
      requires: storageFeatures(storage),
    };
  });
}

/**
 * Goes back through the ReLU in place, and sums for the gradients of both normalisations. Buffers: result, c, its
 * normaliser, (shortcut, its normaliser,) gradient (afterwards that of c's normalised values and of the shortcut),
 * partials, (partials of the shortcut): `[chunks, 2, channels]` each, Σ g and Σ g · (raw − mean).
 */
export function residualGradientSums(shape: ResidualShape): Kernel {
  return once(`residual gradient sums ${nameOf(shape)}`, () => {
    const { storage, normalisedShortcut } = shape;
    const { element, lanes, cells, wanted, chunks } = split(shape);
    return {
      ...pointwise({
        label: `residual gradient sums ${nameOf(shape)}`,
        storage: [
          ["x", "read", cells.type],
          ["c", "read", cells.type],
          ["normaliser", "read", element],
          ...(normalisedShortcut
            ? [["shortcut", "read", cells.type] as const, ["shortcutNormaliser", "read", element] as const]
            : []),
          ["g", "write", cells.type],
          ["partials", "write", element],
          ...(normalisedShortcut ? [["shortcutPartials", "write", element] as const] : []),
        ],
        invocations: chunks * lanes,
        count: "arrayLength(&partials) / 2u",
        body: `
  ${batchNormRowsWgsl(lanes)}
  let chunkRows = max(32u, (rows + ${wanted - 1}u) / ${wanted}u);
  let column = i % ${lanes}u;
  let chunk = i / ${lanes}u;
  let first = chunk * chunkRows;
  let end = min(first + chunkRows, rows);
  let mean = normaliser[column];
  ${normalisedShortcut ? "let shortcutMean = shortcutNormaliser[column];" : ""}${
          blockSums({
            element,
            first: `first * ${lanes}u + column`,
            end: `end * ${lanes}u`,
            stride: lanes,
            setup: `let masked = select(${element}(0), ${cells.load("g[at]")}, ${
              cells.load("x[at]")
            } > ${element}(0)); g[at] = ${cells.store("masked")};`,
            sums: {
              total: "masked",
              product: `masked * (${cells.load("c[at]")} - mean)`,
              ...(normalisedShortcut
                ? { shortcutProduct: `masked * (${cells.load("shortcut[at]")} - shortcutMean)` }
                : {}),
            },
          })
        }
  let destination = chunk * ${2 * lanes}u + column;
  partials[destination] = total;
  partials[destination + ${lanes}u] = product;
  ${
          normalisedShortcut
            ? `shortcutPartials[destination] = total; shortcutPartials[destination + ${lanes}u] = shortcutProduct;`
            : ""
        }`,
      }),
      requires: storageFeatures(storage),
    };
  });
}

/** {@linkcode residual} on the CPU; a table is `[4, channels]`. */
export function residualReference(
  inputs: Readonly<Record<"c" | "normaliser" | "shortcut", ArrayLike<number>>> & {
    readonly shortcutNormaliser?: ArrayLike<number>;
  },
  channels: number,
): Float32Array<ArrayBuffer> {
  const { c, normaliser, shortcut, shortcutNormaliser } = inputs;
  const normalised = (x: ArrayLike<number>, table: ArrayLike<number>, at: number) => {
    const column = at % channels;
    return (x[at] - table[column]) * table[channels + column] + table[2 * channels + column];
  };
  return Float32Array.from({ length: c.length }, (_, at) => {
    const beside = shortcutNormaliser === undefined ? shortcut[at] : normalised(shortcut, shortcutNormaliser, at);
    return Math.max(normalised(c, normaliser, at) + beside, 0);
  });
}
