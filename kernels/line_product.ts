/**
 * The frame that convolution forward and its input gradient share on software adapters where a group has few channels: an
 * invocation computes several neighbouring results of a line × the columns of a group, so that what it loads of the left
 * operand serves all taps of a kernel row; lanes take different stretches of lines. An element's sum runs over (kernel
 * row, channel, tap of the row) in that order, whatever the tile: every tile gives the same bits. Knows no operation, only
 * where each one says its numbers lie.
 */
import type { Kernel } from "./kernel.ts";
import { type Operand, productOpening, type RegisterTile, registerTile } from "./register_product.ts";
import {
  cellsOf,
  chosen,
  gather,
  LANES,
  range,
  sharedValues,
  sharing,
  storageFeatures,
  unroll,
  vectorWidth,
} from "./tiles.ts";
import type { Storage } from "./variant.ts";

/** Columns of a group up to which lines pay: above, a load is used by enough columns without them. */
const COLUMNS_MAX = 16;
/** Multiplications in one step of the innermost loop at most: more take seconds to compile, and spill. */
const PRODUCTS_MAX = 192;
/** Results stored in one turn of a loop: one more halves the choosing, and doubles what stores take to compile. */
const STORES_MAX = 2;

/** One product that a result needs. */
export interface LineUse {
  /** Number of the tap in its kernel row. */
  readonly tap: number;
  /** Number of the result in the tile. */
  readonly result: number;
  /** Position of the left operand, counted from {@linkcode LineProduct.leftX}. */
  readonly at: number;
}

/** What decides the tile. */
export interface LineShape {
  /** Results of a line. */
  readonly width: number;
  /** A tile starts at a multiple of it. */
  readonly multiple: number;
  /** Columns of a group. */
  readonly columns: number;
  /** Taps of a kernel row. */
  readonly taps: number;
}

/** A convolution's pass by lines. Strings are WGSL. */
export interface LineProduct extends LineShape {
  readonly label: string;
  readonly storage: Storage;
  readonly tile: RegisterTile;
  /** Read, read, written. */
  readonly buffers: readonly [left: Operand, right: Operand, result: Operand];
  /** Lines of results of a class. */
  readonly lines: number;
  readonly groups: number;
  /** Kinds of lines that run other loops, `class_` being the number of one. */
  readonly classes: number;
  /** Statements that depend on `line`, `group` and `class_` alone. */
  readonly setup: string;
  /** What a tile of so many results needs, in the order of the taps. */
  readonly uses: (results: number) => readonly LineUse[];
  /** Position on the left operand's line that belongs to a tile whose first result is at `x0`; WGSL, and in numbers. */
  readonly leftX: readonly [wgsl: string, at: (x0: number) => number];
  /** Positions on a line of the left operand, and channels of each. */
  readonly left: { readonly width: number; readonly channels: number };
  /** Opens the loop over kernel rows and says `inside` (whether the row is in the image) and `leftLine`, an `i32`. */
  readonly open: string;
  /** Turns of the innermost loop, over `index`. */
  readonly depth: number;
  /** Where in the left operand the channels of the group begin, past a position's first. */
  readonly leftChannel: string;
  /** Where in the right operand the number for a tap of the row and a column of the group lies. */
  readonly right: (tap: string, column: string) => string;
  /** Where result `x` of the `line` goes: a condition if not all are stored, and the element of column 0 of the group. */
  readonly destination: { readonly inside?: string; readonly at: string };
}

/** Whether a pass with such a kernel row and so many columns in a group is computed by lines. */
export function byLines({ taps, columns }: Pick<LineShape, "taps" | "columns">): boolean {
  return taps > 1 && taps <= 3 && columns <= COLUMNS_MAX;
}

/** Results and columns of the tile. Of the sizes allowed it is the one that loads least over a whole line. */
export function lineTile(
  { width, multiple, columns, taps }: LineShape,
  { tileRows = Infinity, tileColumns }: RegisterTile = {},
): { rows: number; columns: number } {
  const tile = registerTile({ rows: 1, columns }, { tileColumns });
  const products = taps * tile.columns / multiple;
  const most = Math.max(1, Math.floor(Math.min(tileRows, PRODUCTS_MAX / products) / multiple));
  const loads = (results: number) => Math.ceil(width / results) * (results + taps);
  const rows = range(most).map((n) => (n + 1) * multiple)
    .reduce((best, results) => loads(results) <= loads(best) ? results : best);
  return { rows, columns: tile.columns };
}

/** The kernel of a product; binds (left, right, result). */
export function lineProduct(product: LineProduct): Kernel {
  return sharing((how) => {
    const { label, storage, buffers, classes, width, destination } = product;
    const { rows, columns } = lineTile(product, product.tile);
    const stores = Math.min(STORES_MAX, rows);
    const stretches = Math.ceil(width / rows);
    const pairs = product.lines * stretches;
    const opening = productOpening(product, { rowTiles: Math.ceil(pairs / LANES), columns });
    const step = vectorWidth(product.columns, columns);
    const one = cellsOf(storage), several = cellsOf(storage, step);
    const [left, right, result] = buffers;
    const uses = product.uses(rows);
    const taps = [...new Set(uses.map(({ tap }) => tap))];
    const first = Math.min(...uses.map(({ at }) => at));
    const reach = Math.max(...uses.map(({ at }) => at)) - first + 1;
    const isInside = (at: number) =>
      range(stretches).every((n) => {
        const x = product.leftX[1](n * rows) + first + at;
        return x >= 0 && x < product.left.width;
      });
    const shared = sharedValues("right", {
      count: taps.length * columns,
      sharing: how,
      at: (n) =>
        one.load(
          `${right.name}[${
            product.right(`(${n} / ${columns}u)`, `min(firstColumn + ${n} % ${columns}u, ${product.columns - 1}u)`)
          }]`,
        ),
    });
    const products = (at: number) =>
      uses.filter((use) => use.at - first === at).map((use) =>
        unroll(columns, (j) => {
          const sum = `sum${use.result}_${j}`;
          return `${sum} = fma(left${at}, ${shared.values[taps.indexOf(use.tap) * columns + j]}, ${sum});`;
        })
      ).join("\n");

    const wgsl = `// Each invocation computes ${rows} results of a line × ${columns} columns.
${opening.text}
let pair = (rowTile / ${classes}u) * ${LANES}u + lane;
let line = min(pair, ${pairs - 1}u) / ${stretches}u;
let x0 = min(pair, ${pairs - 1}u) % ${stretches}u * ${rows}u;
${product.setup}
let leftX = ${product.leftX[0]} + ${first};
${unroll(rows, (i) => unroll(columns, (j) => `var sum${i}_${j} = 0.0;`))}
${unroll(reach, (at) => isInside(at) ? "" : `let on${at} = u32(leftX + ${at}) < ${product.left.width}u;`)}
${product.open}
let base = u32((leftLine + leftX) * ${product.left.channels}) + ${product.leftChannel};
${unroll(reach, (at) => `let inside${at} = inside${isInside(at) ? "" : ` && on${at}`};`)}
for (var index = 0u; index < ${product.depth}u + opaque; index++) {
${shared.load}
${
      unroll(reach, (at) =>
        `let left${at} = select(0.0, ${
          one.load(`${left.name}[base + index + ${at * product.left.channels}u]`)
        }, inside${at});
${products(at)}`)
    }
}
}
for (var round = 0u; round < ${Math.ceil(rows / stores)}u + opaque; round++) {
${
      unroll(stores, (n) =>
        `{
let result = round * ${stores}u + ${n}u;
let x = x0 + result;
if (pair < ${pairs}u && result < ${rows}u && x < ${width}u${
          destination.inside === undefined ? "" : ` && ${destination.inside}`
        }) {
let at = (${destination.at} + firstColumn) / ${step}u;
${
          unroll(columns / step, (j) => {
            const stored = range(rows).filter((i) => i % stores === n);
            const sums = range(step).map((u) => chosen(stored.map((i) => `sum${i}_${j * step + u}`), "round"));
            const store = `${result.name}[at + ${j}u] = ${several.store(gather(sums))};`;
            return product.columns % columns === 0
              ? store
              : `if (firstColumn + ${j * step}u < ${product.columns}u) { ${store} }`;
          })
        }
}
}`)
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
