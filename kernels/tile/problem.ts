/**
 * What a heavy operation is as a matrix multiply whose operands are computed while they are loaded (implicit GEMM):
 * result[row, column] = Σ over k of left[row, k] · right[k, column], once per slice (a group of channels, a class of
 * pixels, a run of k). A problem says how four or eight neighbours of an operand are fetched and what is done with a
 * finished sum; a skeleton says how tiles are staged in workgroup memory and multiplied: in registers or
 * by matrix units. Neither knows the other, nor any device.
 *
 * WGSL that a problem gives is put into `main`, whose scope holds `slice: u32` (workgroup z), `firstRow: u32` and
 * `firstColumn: u32` (of the workgroup's tile) and `rowTile: u32`, all uniform.
 */
import type { KernelFeature } from "../kernel.ts";
import type { Launch, Storage } from "../variant.ts";

/** What a problem must know of the skeleton: its tile, and how it fetches. */
export interface TileSizes {
  readonly rows: number;
  readonly columns: number;
  /** Steps of k that are staged at a time; a multiple of 8. */
  readonly panel: number;
  /** Most elements that the skeleton takes from one fetch; an operand gives 8 only where it is f16 and 8 divides. */
  readonly fetch: 4 | 8;
}

/** One storage buffer, in the order of the bindings. */
export interface GemmBuffer<Role extends string> {
  readonly role: Role | "workspace";
  readonly name: string;
  readonly access: "read" | "write";
  /** WGSL type of the whole: `array<vec4f, 1024>`. */
  readonly type: string;
}

/**
 * How an operand is loaded. A position is a row of the result (left) or a column (right); positions past the end and k
 * past the end are clamped, so that every fetch is allowed anywhere. Where k is outside, or a convolution's padding is
 * hit, the left operand is zero; the right one is then any finite number.
 */
export interface GemmOperand {
  /** The axis along which neighbours of a fetch lie: steps of k at one position, or positions at one step of k. */
  readonly along: "k" | "position";
  /** Elements of a fetch, which starts at a multiple of 4 (of 8) of that axis. */
  readonly length: 4 | 8;
  /** WGSL type of a fetch before {@linkcode GemmOperand.finish}. */
  readonly raw: string;
  /** Statements for what depends on the (first) position alone, to be computed once; they declare names that start with `name`. */
  place(name: string, position: string): string;
  /**
   * Statements for what depends on the (first) step of k alone: `start` (a panel's, uniform) + `offset` (this invocation's).
   * They declare names that start with `name`.
   */
  step(name: string, k: { readonly start: string; readonly offset: string }): string;
  /** Expression of type `raw`: the loads, and nothing that waits for them. */
  fetch(place: string, step: string): string;
  /** Statement(s) that turn what was fetched, a name, into `length / 4` values `name0`(, `name1`) of 4 × f32 or f16. */
  finish(
    name: string,
    from: { readonly raw: string; readonly place: string; readonly step: string },
    as: Storage,
  ): string;
}

/** Sums over the rows of a tile that a result also gives, per column: a chunk per tile of rows and slice. */
export interface GemmPartials {
  /**
   * `moments`: `[chunks, 3, channels]`, sum, centred squares, rows of each chunk. `sums`: `[chunks, 2, channels]`, Σ value
   * and Σ value · {@linkcode GemmPartials.factor}.
   */
  readonly kind: "moments" | "sums";
  /** WGSL name of the buffer, `array<f32>`. */
  readonly buffer: string;
  readonly channels: number;
  /** Columns of a slice that have a channel. */
  readonly columns: number;
  /** Chunks for that many tiles of rows per slice. */
  chunks(rowTiles: number): number;
  /** Chunks that the plan's later kernels leave; as many as tiles give where it has none. */
  readonly merged?: number;
  /** WGSL: this workgroup's chunk. */
  readonly chunk: string;
  /** WGSL: the channel of a column. */
  channel(column: string): string;
  /**
   * WGSL vec4f, which may name what {@linkcode GemmResult.store} declares at its top level: what four values are multiplied
   * with in the second of the `sums`.
   */
  readonly factor?: (value: string) => string;
}

/** What becomes of sums. Columns come in fours that start at a multiple of 4. */
export interface GemmResult {
  /** Statements that declare names starting with `name` for a row, `<name>_inside: bool` among them. */
  row(name: string, row: string): string;
  /** The same for four columns; `<name>_inside` where the first of them is. */
  column(name: string, column: string): string;
  /**
   * Statements that store `value`, the name of a `var` of type vec4f, where row and columns are inside. With partials
   * `value` then holds the numbers as they were stored, and zeros where nothing was.
   */
  store(value: string, row: string, column: string): string;
  readonly partials?: GemmPartials;
}

/** One implicit matrix multiply for tiles of stated sizes. */
export interface GemmProblem<Role extends string> {
  readonly label: string;
  /** Rows and columns of the result in one slice, at most. */
  readonly m: number;
  readonly n: number;
  /** Steps of k of the longest slice, for rates and defaults; may include padding. */
  readonly k: number;
  /** Slices: the grid's z. */
  readonly slices: number;
  readonly buffers: readonly GemmBuffer<Role>[];
  readonly requires: readonly KernelFeature[];
  /** Functions at module scope. */
  readonly prelude: string;
  /** Statements that declare the uniform `firstK: u32` and `endK: u32` of the slice, and what else depends on it alone. */
  readonly slice: string;
  readonly left: GemmOperand;
  readonly right: GemmOperand;
  readonly result: GemmResult;
}

/** A problem, and what runs after it. */
export interface GemmPlan<Role extends string> {
  readonly problem: GemmProblem<Role>;
  readonly after: readonly Launch<Role>[];
  readonly workspaceBytes: number;
}

/** Makes the plan of one operation for a skeleton's tiles. */
export type GemmPlanner<Shape, Role extends string> = (shape: Shape, tile: TileSizes) => GemmPlan<Role>;

/** Tiles of a problem: how often rows and columns need one. */
export function tilesOf(
  { m, n }: { m: number; n: number },
  tile: TileSizes,
): { rowTiles: number; columnTiles: number } {
  return { rowTiles: Math.ceil(m / tile.rows), columnTiles: Math.ceil(n / tile.columns) };
}

/** Bytes of a plan's partial sums in the end; `undefined` where it has none. */
export function partialBytesOf<Role extends string>(
  { m, n, result }: GemmProblem<Role>,
  tile: TileSizes,
): number | undefined {
  const { partials } = result;
  if (partials === undefined) return undefined;
  const { rowTiles } = tilesOf({ m, n }, tile);
  return 4 * (partials.merged ?? partials.chunks(rowTiles)) * (partials.kind === "moments" ? 3 : 2) * partials.channels;
}
