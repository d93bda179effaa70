/**
 * The tile family: every operation as an implicit matrix multiply, in several sizes of tile, and for which shapes and
 * devices each exists. No size is best everywhere, and sizes tuned on one GPU do not carry over to others; the order is
 * the stated default's, which is 128×64 with 8×4 sums an invocation (the best published for WGSL in f32: 82% of an
 * A100's FMA rate) wherever that fills the device. Unproven here: no GPU timed these. Knows no operation's arithmetic.
 *
 * An invocation of 8×4 sums loads 8 + 4 vec4f of workgroup memory for 128 multiplications, and holds 32 sums, 48 operands
 * and one panel's fetches: about 100 registers, two workgroups of 256 on an NVIDIA multiprocessor. With 8×8 sums it is 16
 * for 256, a third less per multiplication, at about 170 registers: 8 to 12 warps, which must do with less to hide latency
 * behind. An NVIDIA multiprocessor multiplies 128 numbers a clock and loads 128 bytes: 8×4 is about balanced, 8×8 is not
 * bound by workgroup memory; which wins is the tuner's to find.
 */
import type { Conv2dShape } from "../conv2d_shape.ts";
import type {
  Conv2dForwardRole,
  Conv2dInputGradientRole,
  Conv2dWeightGradientRole,
  MatmulRole,
} from "../operations.ts";
import type { MatmulShape } from "../matmul.ts";
import { memoized } from "../tiles.ts";
import type { Capabilities, Program, Storage, Variant } from "../variant.ts";
import { conv2dForwardPlan } from "./conv2d_forward.ts";
import { conv2dInputGradientPlan } from "./conv2d_input_gradient.ts";
import { conv2dWeightGradientPlan } from "./conv2d_weight_gradient.ts";
import { matmulPlan } from "./matmul.ts";
import { type GemmPlan, type GemmPlanner, type GemmProblem, partialBytesOf, tilesOf } from "./problem.ts";
import { invocationsOf, type TextOptions, type Tile, tileKernel, workgroupBytesOf } from "./skeleton.ts";

/** A tile with its name, and the fewest workgroups that it is worth having for. */
export interface NamedTile extends Tile {
  readonly name: string;
  readonly workgroupsMin: number;
}

const sized = (
  rows: number,
  columns: number,
  { each, stages = 1, workgroupsMin = 1, label }: {
    each: readonly [number, number];
    stages?: 1 | 2;
    workgroupsMin?: number;
    label?: string;
  },
): NamedTile => ({
  name: `tile ${rows}x${columns}${label === undefined ? "" : `, ${label}`}`,
  rows,
  columns,
  panel: 16,
  fetch: 8,
  eachRows: each[0],
  eachColumns: each[1],
  stages,
  workgroupsMin,
});

/** All tiles, the first that fits a shape being the default. */
export const TILES: readonly NamedTile[] = [
  sized(128, 64, { each: [8, 4], workgroupsMin: 96 }),
  sized(64, 64, { each: [4, 4], workgroupsMin: 32 }),
  sized(128, 32, { each: [8, 4] }),
  sized(256, 8, { each: [8, 4] }),
  sized(128, 16, { each: [8, 4] }),
  sized(64, 16, { each: [4, 4] }),
  sized(32, 64, { each: [4, 4] }),
  sized(32, 32, { each: [4, 4] }),
  sized(128, 128, { each: [8, 8], workgroupsMin: 64 }),
  sized(128, 64, { each: [8, 8], workgroupsMin: 96, label: "8x8 each" }),
  sized(128, 64, { each: [8, 4], workgroupsMin: 96, stages: 2, label: "two panels" }),
  sized(64, 64, { each: [4, 4], workgroupsMin: 32, stages: 2, label: "two panels" }),
];

/** The program of a plan's problem and what follows it. */
export function tileProgram<Role extends string>(
  { problem, after, workspaceBytes }: GemmPlan<Role>,
  tile: Tile,
  options: TextOptions,
): Program<Role> {
  return {
    launches: [
      { kernel: tileKernel(problem, tile, options), buffers: problem.buffers.map(({ role }) => role) },
      ...after,
    ],
    workspaceBytes,
    partialBytes: partialBytesOf(problem, tile),
  };
}

/** Tiles as narrow as that bear idle columns. */
const COLUMNS_MIN = 16;
/** Above that many workgroups of the smallest tile, larger ones keep a device busy just as well. */
const WORKGROUPS_MANY = 1024;
const GRID_MAX = 65_535;

/**
 * Why a tile would waste most of its work on a result of that size; `undefined` where it would not. Every size is left to
 * some tile: to 32×32 whatever is small in a direction, to 64×64 the rest.
 */
function wasteful({ m, n, slices }: GemmProblem<string>, tile: NamedTile): string | undefined {
  const { rows, columns, workgroupsMin } = tile;
  const { rowTiles, columnTiles } = tilesOf({ m, n }, tile);
  const workgroups = rowTiles * columnTiles * slices;
  const wider = `the result has ${n} columns, for which wider tiles load less`;
  if (rows === 32 && columns === 32) {
    return m > 64 && n > 64 && workgroups > WORKGROUPS_MANY ? wider : undefined;
  }
  if (n <= columns / 2 && columns > COLUMNS_MIN) return `the result has ${n} columns, which leaves half of a tile idle`;
  if (m <= rows / 2) return `the result has ${m} rows, which leaves half of a tile idle`;
  if (workgroups < workgroupsMin) return `the result has only ${workgroups} tiles of that size`;
  if (columns < 64 && n >= 2 * columns) return wider;
}

/** One tile as a variant of an operation. */
export function tileVariant<Shape extends { readonly storage?: Storage }, Role extends string>(
  tile: NamedTile,
  planner: GemmPlanner<Shape, Role>,
): Variant<Shape, Role> {
  const plan = memoized((shape: Shape) => planner(shape, tile));
  const programs = [false, true].map((unrolls) =>
    memoized((shape: Shape) => tileProgram(plan(shape), tile, { unrolls }))
  );
  return {
    name: tile.name,
    family: "tile",
    refuses(shape, device) {
      if (device.kind === "cpu") return "workgroup memory and barriers only cost time on a software adapter";
      if (shape.storage === "f16" && !device.features.includes("f16")) return "the device has no f16";
      return unfit(plan(shape), tile, device);
    },
    program: (shape, { kind }) => programs[kind === "gpu" ? 1 : 0](shape),
  };
}

function unfit<Role extends string>(
  { problem }: GemmPlan<Role>,
  tile: NamedTile,
  device: Capabilities,
): string | undefined {
  const invocations = invocationsOf(tile);
  if (invocations > device.workgroupInvocationsMax) {
    return `takes workgroups of ${invocations} invocations, the device has ${device.workgroupInvocationsMax}`;
  }
  const bytes = workgroupBytesOf(problem, tile);
  if (bytes > device.workgroupBytesMax) {
    return `takes ${bytes} bytes of workgroup memory, the device has ${device.workgroupBytesMax}`;
  }
  if (problem.slices > GRID_MAX) return `the operation has ${problem.slices} slices, a grid ${GRID_MAX}`;
  return wasteful(problem, tile);
}

/** Every tile as a variant. */
const variantsOf = <Shape extends { readonly storage?: Storage }, Role extends string>(
  planner: GemmPlanner<Shape, Role>,
): readonly Variant<Shape, Role>[] => TILES.map((tile) => tileVariant(tile, planner));

/** Matrix multiply in tiles. */
export const tileMatmulVariants: readonly Variant<MatmulShape & { readonly storage?: Storage }, MatmulRole>[] =
  variantsOf(matmulPlan);

/** Convolution forward in tiles. */
export const tileConv2dForwardVariants: readonly Variant<Conv2dShape, Conv2dForwardRole>[] = variantsOf(
  conv2dForwardPlan,
);

/** Convolution's gradient towards its input in tiles. */
export const tileConv2dInputGradientVariants: readonly Variant<Conv2dShape, Conv2dInputGradientRole>[] = variantsOf(
  conv2dInputGradientPlan,
);

/** Convolution's gradient towards its weights in tiles. */
export const tileConv2dWeightGradientVariants: readonly Variant<Conv2dShape, Conv2dWeightGradientRole>[] = variantsOf(
  conv2dWeightGradientPlan,
);
