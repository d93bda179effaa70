/**
 * The matrix family: every operation in f16 as an implicit matrix multiply on matrix units, in a few sizes of tile, and for
 * which shapes and devices each exists. Unproven: no device with matrix units has run these; their index arithmetic is
 * tested with an emulated unit, their texts are validated, and the stated default of no device (see `variant.ts`): a
 * tuner takes one only after it gave the default's results. Knows no operation's arithmetic.
 */
import type { Conv2dShape } from "../conv2d_shape.ts";
import type { MatmulShape } from "../matmul.ts";
import type {
  Conv2dForwardRole,
  Conv2dInputGradientRole,
  Conv2dWeightGradientRole,
  MatmulRole,
} from "../operations.ts";
import { conv2dForwardPlan } from "../tile/conv2d_forward.ts";
import { conv2dInputGradientPlan } from "../tile/conv2d_input_gradient.ts";
import { conv2dWeightGradientPlan } from "../tile/conv2d_weight_gradient.ts";
import { matmulPlan } from "../tile/matmul.ts";
import { type GemmPlan, type GemmPlanner, partialBytesOf } from "../tile/problem.ts";
import { memoized } from "../tiles.ts";
import type { Capabilities, MatrixConfiguration, Program, Storage, Variant } from "../variant.ts";
import { matrixKernel, type MatrixTile, matrixWorkgroupBytes } from "./skeleton.ts";
import { type MatrixUnit, subgroupMatrices } from "./unit.ts";

/** A tile with its name. */
export interface NamedMatrixTile extends MatrixTile {
  readonly name: string;
}

const sized = (
  rows: number,
  columns: number,
  [subgroupRows, subgroupColumns]: readonly [number, number],
): NamedMatrixTile => ({
  name: `matrix ${rows}x${columns}`,
  rows,
  columns,
  panel: 32,
  fetch: 8,
  subgroupRows,
  subgroupColumns,
});

/** All tiles. Whole tiles of f32 sums pass through workgroup memory, which bounds them to some 64×64. */
export const MATRIX_TILES: readonly NamedMatrixTile[] = [
  sized(64, 64, [2, 2]),
  sized(128, 32, [4, 1]),
  sized(64, 32, [2, 1]),
  sized(32, 32, [2, 1]),
];

const GRID_MAX = 65_535;

/** The program of a plan's problem and what follows it. */
export function matrixProgram<Role extends string>(
  { problem, after, workspaceBytes }: GemmPlan<Role>,
  tile: MatrixTile,
  unit: MatrixUnit,
): Program<Role> {
  return {
    launches: [
      { kernel: matrixKernel(problem, tile, unit), buffers: problem.buffers.map(({ role }) => role) },
      ...after,
    ],
    workspaceBytes,
    partialBytes: partialBytesOf(problem, tile),
  };
}

/** Whether a tile's shares are whole numbers of a unit's matrices. */
function divides({ rows, columns, panel, subgroupRows, subgroupColumns }: MatrixTile, unit: MatrixConfiguration) {
  return rows % (subgroupRows * unit.m) === 0 && columns % (subgroupColumns * unit.n) === 0 && panel % unit.k === 0;
}

/** The largest of a device's shapes, f16 into f32, that a tile is made of. */
function configurationFor(tile: MatrixTile, { matrices }: Capabilities): MatrixConfiguration | undefined {
  const size = ({ m, n, k }: MatrixConfiguration) => m * n * k;
  return matrices.filter((one) => one.component === "f16" && one.result === "f32" && divides(tile, one))
    .toSorted((a, b) => size(b) - size(a))[0];
}

/** The unit that a tile is computed by, or why there is none. */
function unitFor(tile: MatrixTile, device: Capabilities): MatrixUnit | string {
  if (device.matrices.length === 0) return "the device has no matrix units";
  const needed = ["f16", "subgroups", "subgroup-size-control", "subgroup-matrix"] as const;
  const missing = needed.filter((feature) => !device.features.includes(feature));
  if (missing.length > 0) return `the device has no ${missing.join(" and no ")}`;
  const configuration = configurationFor(tile, device);
  if (configuration === undefined) return "the device multiplies no f16 matrices into f32 whose sizes divide the tile";
  const [least, most] = device.subgroupSizes;
  // Larger subgroups leave fewer of them to a workgroup, and the matrices' shapes are those of the usual size.
  const subgroupSize = least === most ? least : Math.min(most, 32);
  if (subgroupSize < least) return `the device's subgroups have ${least} lanes or more`;
  return subgroupMatrices({ ...configuration, subgroupSize });
}

function unfit<Role extends string>(
  { problem }: GemmPlan<Role>,
  tile: NamedMatrixTile,
  { unit, device }: { unit: MatrixUnit; device: Capabilities },
): string | undefined {
  const { rows, columns, subgroupRows, subgroupColumns } = tile;
  const invocations = unit.subgroupSize * subgroupRows * subgroupColumns;
  if (invocations > device.workgroupInvocationsMax) {
    return `takes workgroups of ${invocations} invocations, the device has ${device.workgroupInvocationsMax}`;
  }
  const threadColumns = columns / 4;
  if (invocations % threadColumns !== 0 || rows % (invocations / threadColumns) !== 0) {
    return `${invocations} invocations cannot share the results of ${rows}×${columns}`;
  }
  const bytes = matrixWorkgroupBytes(problem, tile);
  if (bytes > device.workgroupBytesMax) {
    return `takes ${bytes} bytes of workgroup memory, the device has ${device.workgroupBytesMax}`;
  }
  if (problem.slices > GRID_MAX) return `the operation has ${problem.slices} slices, a grid ${GRID_MAX}`;
  if (problem.n <= columns / 2) return `the result has ${problem.n} columns, which leaves half of a tile idle`;
  if (problem.m <= rows / 2) return `the result has ${problem.m} rows, which leaves half of a tile idle`;
  if (problem.k < tile.panel / 2) return `sums of ${problem.k} products leave most of a panel empty`;
}

function matrixVariant<Shape extends { readonly storage?: Storage }, Role extends string>(
  tile: NamedMatrixTile,
  planner: GemmPlanner<Shape, Role>,
): Variant<Shape, Role> {
  const plan = memoized((shape: Shape) => planner(shape, tile));
  const programs = new Map<string, (shape: Shape) => Program<Role>>();
  return {
    name: tile.name,
    family: "matrix",
    refuses(shape, device) {
      if ((shape.storage ?? "f32") === "f32") return "matrix units multiply f16, this is stored as f32";
      const unit = unitFor(tile, device);
      return typeof unit === "string" ? unit : unfit(plan(shape), tile, { unit, device });
    },
    program(shape, device) {
      const unit = unitFor(tile, device);
      if (typeof unit === "string") throw new RangeError(`Cannot run ${tile.name}: ${unit}`);
      const key = `${unit.m}x${unit.n}x${unit.k} of ${unit.subgroupSize}`;
      const make = programs.get(key) ?? memoized((wanted: Shape) => matrixProgram(plan(wanted), tile, unit));
      programs.set(key, make);
      return make(shape);
    },
  };
}

const variantsOf = <Shape extends { readonly storage?: Storage }, Role extends string>(
  planner: GemmPlanner<Shape, Role>,
): readonly Variant<Shape, Role>[] => MATRIX_TILES.map((tile) => matrixVariant(tile, planner));

/** Matrix multiply on matrix units. */
export const matrixMatmulVariants: readonly Variant<MatmulShape & { readonly storage?: Storage }, MatmulRole>[] =
  variantsOf(matmulPlan);

/** Convolution forward on matrix units. */
export const matrixConv2dForwardVariants: readonly Variant<Conv2dShape, Conv2dForwardRole>[] = variantsOf(
  conv2dForwardPlan,
);

/** Convolution's gradient towards its input on matrix units. */
export const matrixConv2dInputGradientVariants: readonly Variant<Conv2dShape, Conv2dInputGradientRole>[] = variantsOf(
  conv2dInputGradientPlan,
);

/** Convolution's gradient towards its weights on matrix units. */
export const matrixConv2dWeightGradientVariants: readonly Variant<Conv2dShape, Conv2dWeightGradientRole>[] = variantsOf(
  conv2dWeightGradientPlan,
);
