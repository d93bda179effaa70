/**
 * The end of a tile: every invocation gives the sums it holds to the problem's result, and where the result has partials
 * the workgroup adds them up per column in a fixed order. Knows how values are spread over invocations only as far as it
 * is told, so that any skeleton that can bring its sums into `var`s of type vec4f may use it.
 */
import { range } from "../tiles.ts";
import type { GemmPartials, GemmProblem, TileSizes } from "./problem.ts";

/**
 * How a workgroup's invocations hold a tile. `lane: u32`, `threadRow: u32`, `threadColumn: u32`, `firstRow`, `firstColumn`
 * and `opaque` (see `tiles.ts`) are in scope. Invocation (threadRow, threadColumn) holds in its four number b the columns
 * from 4 · (b · threadColumns + threadColumn) of the tile.
 */
export interface HeldTile {
  /** Invocations below one another, and side by side; their product is the workgroup. */
  readonly threadRows: number;
  readonly threadColumns: number;
  /** WGSL: each held row within the tile, different for different `threadRow`. */
  readonly rows: readonly string[];
  /** Held fours of columns. */
  readonly fours: number;
  /** Name of the `var` of type vec4f. */
  value(row: number, four: number): string;
  /** `array<vec4f>` in workgroup memory of {@linkcode scratchFours} at least, which nobody else uses any more. */
  readonly scratch: string;
}

/** vec4f of workgroup memory that {@linkcode storeTile} needs: none without partials. */
export function scratchFours(
  { result }: Pick<GemmProblem<string>, "result">,
  { threadRows, columns }: { threadRows: number; columns: number },
): number {
  return result.partials === undefined ? 0 : threadRows * columns / 4;
}

/** Statements that store a held tile and write its partials. All invocations must reach them. */
export function storeTile(
  { m, result }: Pick<GemmProblem<string>, "m" | "result">,
  { rows }: Pick<TileSizes, "rows">,
  held: HeldTile,
): string {
  const { partials } = result;
  const fours = range(held.fours);
  const column = (b: number) => `firstColumn + (${b * held.threadColumns}u + threadColumn) * 4u`;
  const summed = partials?.kind === "sums";
  return [
    ...held.rows.map((row, i) => result.row(`row${i}`, `(firstRow + ${row})`)),
    ...fours.map((b) => result.column(`column${b}`, `(${column(b)})`)),
    ...(summed ? fours.map((b) => `var second${b} = vec4f();`) : []),
    ...held.rows.flatMap((_, i) =>
      fours.map((b) => {
        const value = held.value(i, b);
        const second = summed ? `second${b} += ${value} * ${partials.factor?.(value) ?? value};` : "";
        return `{\n${result.store(value, `row${i}`, `column${b}`)}\n${second}\n}`;
      })
    ),
    partials === undefined ? "" : writePartials(partials, { m, rows, held }),
  ].join("\n");
}

/** Adds up one vec4f of each invocation (`term` of a four) over `threadRow`, in order; lane f < fours then has four f's. */
function columnSums(held: HeldTile, total: string, term: (four: number) => string): string {
  const { threadRows, threadColumns, scratch } = held;
  const across = held.fours * threadColumns;
  return `workgroupBarrier();
${
    range(held.fours).map((b) =>
      `${scratch}[threadRow * ${across}u + ${b * threadColumns}u + threadColumn] = ${term(b)};`
    ).join("\n")
  }
workgroupBarrier();
var ${total} = vec4f();
if (lane < ${across}u) {
for (var r = 0u; r < ${threadRows}u + opaque; r++) { ${total} += ${scratch}[r * ${across}u + lane]; }
}`;
}

/** Writes a four's part number `part` of the chunk. */
function writePart(
  { buffer, channels, chunk, channel, kind }: GemmPartials,
  { part, value }: { part: number; value: string },
): string {
  const parts = kind === "moments" ? 3 : 2;
  return range(4).map((u) => {
    const column = `(partialColumn + ${u}u)`;
    return `if (${column} < partialColumns) { ${buffer}[(${chunk} * ${parts}u + ${part}u) * ${channels}u + ${
      channel(column)
    }] = ${value}.${"xyzw"[u]}; }`;
  }).join("\n");
}

function writePartials(
  partials: GemmPartials,
  { m, rows, held }: { m: number; rows: number; held: HeldTile },
): string {
  const { threadColumns, scratch } = held;
  const across = held.fours * threadColumns;
  const down = (term: (row: number) => string) => held.rows.map((_, i) => term(i)).join(" + ");
  const open = `if (lane < ${across}u) {
let partialColumn = firstColumn + lane * 4u;
let partialColumns = ${partials.columns}u;`;
  if (partials.kind === "sums") {
    return `${columnSums(held, "totals", (b) => down((i) => held.value(i, b)))}
${columnSums(held, "products", (b) => `second${b}`)}
${open}
${writePart(partials, { part: 0, value: "totals" })}
${writePart(partials, { part: 1, value: "products" })}
}`;
  }
  // Squares about the tile's own mean, so that a large mean costs no precision.
  return `let tileRows = f32(min(${rows}u, ${m}u - firstRow));
${columnSums(held, "totals", (b) => down((i) => held.value(i, b)))}
if (lane < ${across}u) { ${scratch}[lane] = totals / tileRows; }
workgroupBarrier();
${
    range(held.fours).map((b) =>
      `let mean${b} = ${scratch}[${b * threadColumns}u + threadColumn];
var squares${b} = vec4f();
${
        held.rows.map((_, i) =>
          `{ let d = select(vec4f(), ${held.value(i, b)} - mean${b}, row${i}_inside); squares${b} += d * d; }`
        ).join("\n")
      }`
    ).join("\n")
  }
${columnSums(held, "squares", (b) => `squares${b}`)}
${open}
${writePart(partials, { part: 0, value: "totals" })}
${writePart(partials, { part: 1, value: "squares" })}
${writePart(partials, { part: 2, value: "vec4f(tileRows)" })}
}`;
}
