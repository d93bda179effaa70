/**
 * The skeleton of GPUs with matrix units: a workgroup computes one tile of a {@linkcode GemmProblem}'s result. Both
 * operands of a panel of k are staged in workgroup memory as f16, and several subgroups multiply them, each into a grid of
 * result matrices in f32; the sums then go through workgroup memory to the problem's result. How matrices are loaded,
 * multiplied and stored, a {@linkcode MatrixUnit} says; what an operand or a result is, the problem.
 */
import type { Kernel } from "../kernel.ts";
import { storeTile } from "../tile/epilogue.ts";
import { type GemmProblem, type TileSizes, tilesOf } from "../tile/problem.ts";
import { type Side, staging } from "../tile/staging.ts";
import { range, tileGrid, unroll } from "../tiles.ts";
import type { MatrixUnit } from "./unit.ts";

/** A tile and how it is shared among subgroups. */
export interface MatrixTile extends TileSizes {
  /** Subgroups below one another, and side by side. */
  readonly subgroupRows: number;
  readonly subgroupColumns: number;
}

/** vec4<f16> between rows of staged tiles: eight halves more than needed, against bank conflicts; 16-byte aligned. */
const PADDING_FOURS = 2;

const halvesPitch = (length: number) => length / 4 + PADDING_FOURS;

/** Fours of f16 of both staged panels. */
function stagedFours({ left, right }: Pick<GemmProblem<string>, "left" | "right">, tile: MatrixTile): [number, number] {
  const of = (along: "k" | "position", span: number) =>
    along === "k" ? span * halvesPitch(tile.panel) : tile.panel * halvesPitch(span);
  return [of(left.along, tile.rows), of(right.along, tile.columns)];
}

/** Bytes of workgroup memory of a problem's kernel. */
export function matrixWorkgroupBytes(problem: GemmProblem<string>, tile: MatrixTile): number {
  const [left, right] = stagedFours(problem, tile);
  return 8 * (left + right) + 4 * tile.rows * tile.columns;
}

/** The kernel of a problem that was made for this tile; sizes must be multiples of the unit's. */
export function matrixKernel<Role extends string>(
  problem: GemmProblem<Role>,
  tile: MatrixTile,
  unit: MatrixUnit,
): Kernel {
  const { rows, columns, panel, subgroupRows, subgroupColumns } = tile;
  const { m, n, k } = unit;
  const invocations = unit.subgroupSize * subgroupRows * subgroupColumns;
  const { rowTiles, columnTiles } = tilesOf(problem, tile);
  const grid = tileGrid(rowTiles * columnTiles);
  const [leftFours, rightFours] = stagedFours(problem, tile);
  const [eachRows, eachColumns] = [rows / subgroupRows, columns / subgroupColumns];
  const [down, across] = [eachRows / m, eachColumns / n];
  const sums = range(down).flatMap((i) => range(across).map((j) => ({ i, j, name: `sum${i}_${j}` })));
  const side = (name: "left" | "right", span: number, first: string): Side => {
    const operand = problem[name];
    const pitch = halvesPitch(operand.along === "k" ? panel : span);
    return { name, operand, first, span, each: 4, threads: 1, thread: "0u", panel, together: 1, halves: { pitch } };
  };
  const sides = [side("left", rows, "firstRow"), side("right", columns, "firstColumn")];
  const stagings = sides.map((one) => staging(one, invocations));
  const all = (part: (one: ReturnType<typeof staging>) => string) => stagings.map(part).join("\n");
  /** Where the matrix at a position and step of k starts. */
  const operandAt = ({ operand, halves }: Side, position: string, step: number) => {
    const pitch = halves?.pitch ?? 0;
    const along = operand.along === "k";
    return {
      offset: along ? `(${position}) * ${pitch}u + ${step / 4}u` : `${step * pitch}u + (${position}) / 4u`,
      pitch,
      along: operand.along,
    };
  };
  const multiply = range(panel / k).map((step) =>
    `{
${unroll(down, (i) => unit.left(`left${i}`, operandAt(sides[0], `ownRow + ${i * m}u`, step * k)))}
${unroll(across, (j) => unit.right(`right${j}`, operandAt(sides[1], `ownColumn + ${j * n}u`, step * k)))}
${sums.map(({ i, j, name }) => unit.multiply(name, `left${i}`, `right${j}`)).join("\n")}
}`
  ).join("\n");
  const threadColumns = columns / 4;
  const threadRows = invocations / threadColumns;
  const held = range(rows / threadRows);
  const wgsl = `diagnostic(off, ${unit.diagnostic});
// ${rows}×${columns} sums a workgroup, ${eachRows}×${eachColumns} a subgroup, of ${m}×${n}×${k}.
${
    problem.buffers.map(({ name, access, type }, index) =>
      `@group(0) @binding(${index}) var<storage, ${access === "read" ? "read" : "read_write"}> ${name}: ${type};`
    ).join("\n")
  }
${problem.prelude}
var<workgroup> leftTile: array<vec4<f16>, ${leftFours}>;
var<workgroup> rightTile: array<vec4<f16>, ${rightFours}>;
var<workgroup> results: array<vec4f, ${rows * columns / 4}>;
${unit.prelude(sides.map(({ operand, halves }) => ({ along: operand.along, pitch: halves?.pitch ?? 0 })))}

@compute @workgroup_size(${invocations}) ${unit.attribute}
fn main(
@builtin(workgroup_id) workgroup: vec3u,
@builtin(num_workgroups) groups: vec3u,
@builtin(local_invocation_index) lane: u32,${unit.builtin}
) {
${grid.guard}
let opaque = groups.z - ${problem.slices}u;
let slice = workgroup.z;
let tile = ${grid.tile};
let rowTile = tile / ${columnTiles}u;
let firstRow = rowTile * ${rows}u;
let firstColumn = tile % ${columnTiles}u * ${columns}u;
let ownRow = ${unit.subgroup} / ${subgroupColumns}u * ${eachRows}u;
let ownColumn = ${unit.subgroup} % ${subgroupColumns}u * ${eachColumns}u;
${problem.slice}
${sums.map(({ name }) => unit.zero(name)).join("\n")}
let panels = (endK - firstK + ${panel - 1}u) / ${panel}u;
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
${multiply}
workgroupBarrier();
${all(({ store }) => store(""))}
workgroupBarrier();
}
${
    sums.map(({ i, j, name }) =>
      unit.store(name, `((ownRow + ${i * m}u) * ${columns}u + ownColumn + ${j * n}u) / 4u`, columns / 4)
    ).join("\n")
  }
workgroupBarrier();
let threadRow = lane / ${threadColumns}u;
let threadColumn = lane % ${threadColumns}u;
${
    held.map((i) => `var held${i} = results[(threadRow + ${i * threadRows}u) * ${threadColumns}u + threadColumn];`)
      .join("\n")
  }
${
    storeTile(problem, tile, {
      threadRows,
      threadColumns,
      rows: held.map((i) => `threadRow + ${i * threadRows}u`),
      fours: 1,
      value: (row) => `held${row}`,
      scratch: "results",
    })
  }
}
`;
  return {
    label: problem.label,
    wgsl,
    bindings: problem.buffers.map(({ access }) => access),
    workgroups: [grid.workgroups[0], grid.workgroups[1], problem.slices],
    requires: [...new Set([...problem.requires, ...unit.requires])],
  };
}
