/**
 * The skeleton of vector GPUs: a workgroup computes one tile of a {@linkcode GemmProblem}'s result. Both operands of a
 * panel of k are staged in workgroup memory as f32, four neighbours at a time and in the direction in which they were
 * fetched; the next panel is fetched into registers before the current one is multiplied; each invocation holds
 * `eachRows` × `eachColumns` sums. A sum runs over k in order, whatever the tile, so the bits of a result do not depend
 * on it (those of partial sums do). What an operand or a result is, the problem knows.
 */
import type { Kernel } from "../kernel.ts";
import { range, tileGrid, unroll } from "../tiles.ts";
import { type HeldTile, scratchFours, storeTile } from "./epilogue.ts";
import { type GemmProblem, type TileSizes, tilesOf } from "./problem.ts";
import { foursStaged, reading, readTogether, type Side, staging } from "./staging.ts";

/** A tile and how it is shared among invocations. */
export interface Tile extends TileSizes {
  /** Rows and columns of one invocation; multiples of 4. */
  readonly eachRows: number;
  readonly eachColumns: number;
  /** Panels in workgroup memory: 1 takes two barriers a panel, 2 take one. */
  readonly stages: 1 | 2;
}

/** Invocations of a tile's workgroup. */
export function invocationsOf({ rows, columns, eachRows, eachColumns }: Tile): number {
  return (rows / eachRows) * (columns / eachColumns);
}

/** The two operands' sides of a tile. */
function sidesOf({ left, right }: Pick<GemmProblem<string>, "left" | "right">, tile: Tile): [Side, Side] {
  const { rows, columns, eachRows, eachColumns, panel } = tile;
  const across = columns / eachColumns;
  return [
    {
      name: "left",
      operand: left,
      first: "firstRow",
      span: rows,
      each: eachRows,
      threads: rows / eachRows,
      thread: "threadRow",
      panel,
      together: readTogether("left", across),
    },
    {
      name: "right",
      operand: right,
      first: "firstColumn",
      span: columns,
      each: eachColumns,
      threads: across,
      thread: "threadColumn",
      panel,
      together: readTogether("right", across),
    },
  ];
}

/** vec4f of workgroup memory: the panels of both sides; the left ones make room for partials too. */
function foursOf(problem: GemmProblem<string>, tile: Tile): readonly [left: number, right: number] {
  const [left, right] = sidesOf(problem, tile).map(foursStaged);
  const threadRows = tile.rows / tile.eachRows;
  return [
    Math.max(tile.stages * left, scratchFours(problem, { threadRows, columns: tile.columns })),
    tile.stages * right,
  ];
}

/** Bytes of workgroup memory of a problem's kernel. */
export function workgroupBytesOf(problem: GemmProblem<string>, tile: Tile): number {
  const [left, right] = foursOf(problem, tile);
  return 16 * (left + right);
}

/** The multiplication of one staged panel. */
function multiply(sides: readonly [Side, Side], bases: readonly [string, string]): string {
  const [left, right] = sides;
  const [rows, columns] = sides.map(reading);
  return `for (var quad = 0u; quad < ${left.panel / 4}u + opaque; quad++) {
${rows.load(bases[0])}
${columns.load(bases[1])}
${
    unroll(4, (j) =>
      unroll(left.each, (i) =>
        unroll(right.each / 4, (block) =>
          `sum${i}_${block} = fma(vec4f(${rows.one(i, j)}), ${columns.four(block, j)}, sum${i}_${block});`)))
  }
}`;
}

/** How a kernel's text is written for a kind of device. */
export interface TextOptions {
  /**
   * Whether short loops have constant bounds, which GPUs' compilers unroll. Software adapters spend seconds of compiling
   * on that, and get bounds that compilers cannot see through.
   */
  readonly unrolls: boolean;
}

/** The kernel of a problem that was made for this tile. */
export function tileKernel<Role extends string>(
  problem: GemmProblem<Role>,
  tile: Tile,
  { unrolls }: TextOptions,
): Kernel {
  const { rows, columns, eachRows, eachColumns, panel, stages } = tile;
  const invocations = invocationsOf(tile);
  const { rowTiles, columnTiles } = tilesOf(problem, tile);
  const grid = tileGrid(rowTiles * columnTiles);
  const [left, right] = sidesOf(problem, tile);
  const [leftFours, rightFours] = foursOf(problem, tile);
  const held: HeldTile = {
    threadRows: left.threads,
    threadColumns: right.threads,
    rows: range(eachRows).map((i) => `threadRow * 4u + ${i % 4 + Math.floor(i / 4) * 4 * left.threads}u`),
    fours: eachColumns / 4,
    value: (row, four) => `sum${row}_${four}`,
    scratch: "leftTile",
  };

  const wgsl = `// ${rows}×${columns} sums a workgroup, ${eachRows}×${eachColumns} an invocation.
${
    problem.buffers.map(({ name, access, type }, index) =>
      `@group(0) @binding(${index}) var<storage, ${access === "read" ? "read" : "read_write"}> ${name}: ${type};`
    ).join("\n")
  }
${problem.prelude}
var<workgroup> leftTile: array<vec4f, ${leftFours}>;
var<workgroup> rightTile: array<vec4f, ${rightFours}>;

@compute @workgroup_size(${invocations})
fn main(
@builtin(workgroup_id) workgroup: vec3u,
@builtin(num_workgroups) groups: vec3u,
@builtin(local_invocation_index) lane: u32,
) {
${grid.guard}
let opaque = ${unrolls ? "0u" : `groups.z - ${problem.slices}u`};
let slice = workgroup.z;
let tile = ${grid.tile};
let rowTile = tile / ${columnTiles}u;
let firstRow = rowTile * ${rows}u;
let firstColumn = tile % ${columnTiles}u * ${columns}u;
let threadRow = lane / ${right.threads}u;
let threadColumn = lane % ${right.threads}u;
${problem.slice}
${unroll(eachRows, (i) => unroll(eachColumns / 4, (four) => `var ${held.value(i, four)} = vec4f();`))}
${panels([left, right], { invocations, panel, stages })}
${storeTile(problem, tile, held)}
}
`;
  return {
    label: problem.label,
    wgsl,
    bindings: problem.buffers.map(({ access }) => access),
    workgroups: [grid.workgroups[0], grid.workgroups[1], problem.slices],
    ...(problem.requires.length === 0 ? {} : { requires: problem.requires }),
  };
}

/** The loop over k: panel by panel, the next one's loads in flight while this one is multiplied. */
function panels(
  sides: readonly [Side, Side],
  { invocations, panel, stages }: { invocations: number; panel: number; stages: 1 | 2 },
): string {
  const stagings = sides.map((side) => staging(side, invocations));
  const all = (part: (side: ReturnType<typeof staging>, index: number) => string) => stagings.map(part).join("\n");
  const base = (parity: string): [string, string] =>
    stages === 1 ? ["", ""] : [`${parity} * ${foursStaged(sides[0])}u + `, `${parity} * ${foursStaged(sides[1])}u + `];
  const [now, next] = [base("(panel & 1u)"), base("(~panel & 1u)")];
  return `let panels = (endK - firstK + ${panel - 1}u) / ${panel}u + opaque;
${all(({ places }) => places)}
{
${all(({ steps }) => steps("firstK"))}
${all(({ fetch }) => fetch)}
${all(({ store }) => store(""))}
}
workgroupBarrier();
for (var panel = 0u; panel < panels; panel++) {
let nextK = firstK + (panel + 1u) * ${panel}u;
${all(({ steps }) => steps("nextK"))}
if (panel + 1u < panels) {
${all(({ fetch }) => fetch)}
}
${multiply(sides, now)}
${stages === 1 ? "workgroupBarrier();" : ""}
${all(({ store }, i) => store(next[i]))}
workgroupBarrier();
}`;
}
