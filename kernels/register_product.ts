/**
 * The frame that matrix multiply, convolution forward and its input gradient share on software adapters: lanes lie along
 * rows of the result, each computes a register tile of rows × columns, and what the right operand gives, which all lanes
 * need, is loaded once for all. An element's sum runs in the order of its operation's loops, whatever the tile: every
 * tile gives the same bits. Knows no operation, only where each one says its numbers lie.
 */
import type { Kernel } from "./kernel.ts";
import {
  cellsOf,
  chosen,
  gather,
  LANES,
  OPAQUE_ZERO,
  range,
  sharedValues,
  sharing,
  storageFeatures,
  tileGrid,
  unroll,
  vectorWidth,
} from "./tiles.ts";
import type { Storage } from "./variant.ts";

/** Most rows (each {@linkcode LANES} apart) and columns of the tile that one invocation holds in registers. */
export interface RegisterTile {
  /** @default 8, and 4 where there are more than 16 columns: about 128 sums, so that loads are few */
  readonly tileRows?: number;
  /** @default 32 */
  readonly tileColumns?: number;
}

/**
 * Rows and columns of the tile for a result of `rows` × `columns`, both shared out evenly, so that the last tiles are
 * nearly as full as the others.
 */
export function registerTile(
  result: { rows: number; columns: number },
  { tileRows, tileColumns = 32 }: RegisterTile = {},
): { rows: number; columns: number } {
  const even = Math.ceil(result.columns / Math.ceil(result.columns / tileColumns));
  const columns = result.columns % 4 === 0 ? Math.ceil(even / 4) * 4 : even;
  const laneRows = Math.ceil(result.rows / LANES);
  const tiles = Math.ceil(laneRows / (tileRows ?? (columns > 16 ? 4 : 8)));
  return { rows: Math.ceil(laneRows / tiles), columns };
}

/** A buffer's name in the text, and its elements. */
export interface Operand {
  readonly name: string;
  readonly length: number;
}

/** A sum of products over loops, for a result of rows × (groups × columns). Strings are WGSL. */
export interface RegisterProduct {
  readonly label: string;
  readonly storage: Storage;
  readonly tile: RegisterTile;
  /** Read, read, written. */
  readonly buffers: readonly [left: Operand, right: Operand, result: Operand];
  readonly rows: number;
  /** Columns of a group. */
  readonly columns: number;
  /** @default 1 */
  readonly groups?: number;
  /** Kinds of rows that run other loops, `class` being the number of one; each has `rows` rows. @default 1 */
  readonly classes?: number;
  /** Statements that depend on `group` and `class` alone. */
  readonly setup?: string;
  /** Statements for row number i of the tile, once; `row{i}` is clamped to the last row. */
  readonly eachRow?: (i: number) => string;
  /** Opens the loops, the innermost over `index`, given lines for each row of the tile; `close` closes them. */
  readonly open: (eachRow: (line: (i: number) => string) => string) => string;
  readonly close: string;
  /** The left operand's f32 for row number i, given how an element is loaded. */
  readonly left: (i: number, load: (at: string) => string) => string;
  /** Where in the right operand the number for a column of the group lies. */
  readonly right: (column: string) => string;
  /** Where a `row` goes: statements, a condition if not all are stored, and the element of column 0 of the group. */
  readonly destination: { readonly setup?: string; readonly inside?: string; readonly at: string };
  /** Adds to what the result holds. @default false */
  readonly accumulate?: boolean;
}

/**
 * The bindings of a product and the place of a workgroup in its result, up to `class_`; the function stays open. Workgroups
 * take `rowTiles` for each class × the tiles of `columns` that each group needs.
 */
export function productOpening(
  { storage, buffers: [left, right, result], groups = 1, classes = 1, columns: groupColumns }: Pick<
    RegisterProduct,
    "storage" | "buffers" | "groups" | "classes" | "columns"
  >,
  { rowTiles, columns }: { rowTiles: number; columns: number },
): { text: string; workgroups: Kernel["workgroups"] } {
  const columnTiles = Math.ceil(groupColumns / columns);
  const grid = tileGrid(rowTiles * columnTiles * groups * classes);
  const width = vectorWidth(groupColumns, columns);
  const one = cellsOf(storage), several = cellsOf(storage, width);
  return {
    workgroups: grid.workgroups,
    text: `@group(0) @binding(0) var<storage, read> ${left.name}: array<${one.type}, ${left.length}>;
@group(0) @binding(1) var<storage, read> ${right.name}: array<${one.type}, ${right.length}>;
@group(0) @binding(2) var<storage, read_write> ${result.name}: array<${several.type}, ${result.length / width}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let tile = ${grid.tile};
let columnTile = tile % ${columnTiles * groups}u;
let group = columnTile / ${columnTiles}u;
let firstColumn = (columnTile % ${columnTiles}u) * ${columns}u;
let rowTile = tile / ${columnTiles * groups}u;
let class_ = rowTile % ${classes}u;`,
  };
}

/** The kernel of a product; binds (left, right, result). */
export function registerProduct(product: RegisterProduct): Kernel {
  return sharing((how) => {
    const { label, storage, buffers, destination } = product;
    const { rows, columns } = registerTile(product, product.tile);
    const opening = productOpening(product, { rowTiles: Math.ceil(product.rows / (rows * LANES)), columns });
    const width = vectorWidth(product.columns, columns);
    const one = cellsOf(storage), several = cellsOf(storage, width);
    const [left, right, result] = buffers;
    const shared = sharedValues("right", {
      count: columns,
      sharing: how,
      at: (j) => one.load(`${right.name}[${product.right(`min(firstColumn + ${j}, ${product.columns - 1}u)`)}]`),
    });
    const fromLeft = (at: string) => one.load(`${left.name}[${at}]`);

    const wgsl = `// Each invocation computes ${rows} rows, ${LANES} apart, × ${columns} columns.
${opening.text}
let firstRow = (rowTile / ${product.classes ?? 1}u) * ${rows * LANES}u + lane;
${product.setup ?? ""}
${
      unroll(rows, (i) =>
        `let row${i} = min(firstRow + ${i * LANES}u, ${product.rows - 1}u);
${product.eachRow?.(i) ?? ""}
${unroll(columns, (j) => `var sum${i}_${j} = 0.0;`)}`)
    }
${product.open((line) => unroll(rows, line))}
${shared.load}
${
      unroll(rows, (i) =>
        `let left${i} = ${product.left(i, fromLeft)};
${unroll(columns, (j) => `sum${i}_${j} = fma(left${i}, ${shared.values[j]}, sum${i}_${j});`)}`)
    }
${product.close}
for (var round = 0u; round < ${rows}u + opaque; round++) {
let row = firstRow + round * ${LANES}u;
${destination.setup ?? ""}
if (row < ${product.rows}u${destination.inside === undefined ? "" : ` && ${destination.inside}`}) {
let at = (${destination.at} + firstColumn) / ${width}u;
${
      unroll(columns / width, (j) => {
        const sums = range(width).map((u) => chosen(range(rows).map((i) => `sum${i}_${j * width + u}`), "round"));
        const before = product.accumulate ? ` + ${several.load(`${result.name}[at + ${j}u]`)}` : "";
        const store = `${result.name}[at + ${j}u] = ${several.store(`${gather(sums)}${before}`)};`;
        return product.columns % columns === 0
          ? store
          : `if (firstColumn + ${j * width}u < ${product.columns}u) { ${store} }`;
      })
    }
}
}
}
`;
    return {
      label,
      wgsl,
      bindings: ["read", "read", "write"],
      workgroups: opening.workgroups,
      requires: storageFeatures(storage),
    };
  });
}
