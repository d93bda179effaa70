/**
 * The frame around one-invocation-per-item kernels: storage declarations, the flat index over a 2-D grid, the guard at
 * its end, and a cache so that a shape's kernel is built once. What can be told from a buffer's length at run time stays
 * out of the WGSL text, so that many shapes share one compiled pipeline: compiling takes a software adapter tens of
 * milliseconds. It knows no operation.
 */
import type { Access, Kernel } from "./kernel.ts";

/** Invocations in a workgroup of every kernel built here. */
const WORKGROUP = 64;
/** Workgroups in a row of the grid before it folds into the second dimension; WebGPU allows 65,535. */
const GRID_ROW = 32_768;

/** One storage buffer of a kernel: its WGSL name, access and element type. */
export type Storage = readonly [name: string, access: Access, element?: string];

/** What {@linkcode pointwise} needs to build a kernel. */
export interface PointwiseOptions {
  readonly label: string;
  readonly storage: readonly Storage[];
  /** Number of invocations; the body sees its own number as `i`. Not part of the WGSL text. */
  readonly invocations: number;
  /** WGSL expression of the number of invocations, from the buffers' lengths. */
  readonly count: string;
  /** Constants and functions before `main`. */
  readonly prelude?: string;
  /** Statements of `main`. */
  readonly body: string;
}

/** A kernel whose invocations are independent of each other: no workgroup memory and no barrier. */
export function pointwise(options: PointwiseOptions): Kernel {
  const { label, storage, invocations, count, prelude = "", body } = options;
  const groups = Math.max(1, Math.ceil(invocations / WORKGROUP));
  const rows = Math.ceil(groups / GRID_ROW);
  const wgsl = `${declare(storage)}
${prelude}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x + id.y * ${GRID_ROW * WORKGROUP}u;
  if (i >= ${count}) { return; }
  ${body.trim()}
}
`;
  return {
    label,
    wgsl,
    bindings: storage.map(([, access]) => access),
    workgroups: [rows === 1 ? groups : GRID_ROW, rows, 1],
    ...featuresOf(storage),
  };
}

/** What {@linkcode blockSums} adds up. */
export interface BlockSumsOptions {
  /** Element type of the sums. */
  readonly element: string;
  /** First index, one past the last, and the step between indices, as WGSL. `first` must depend on `i`, see below. */
  readonly first: string;
  readonly end: string;
  readonly stride?: number;
  /** Statements before the terms, which see the index as `at`. */
  readonly setup?: string;
  /** The sums by name, each with its term. */
  readonly sums: Readonly<Record<string, string>>;
}

/**
 * WGSL that declares and fills sums over indices, in order, in blocks of 32 so that rounding errors grow slowly. Where
 * the bounds were constants, Mesa would unroll both loops and LLVM would take minutes over the result.
 */
export function blockSums(options: BlockSumsOptions): string {
  const { element, first, end, stride = 1, setup = "", sums } = options;
  const names = Object.keys(sums);
  const each = (line: (name: string) => string) => names.map(line).join(" ");
  return `
  ${each((name) => `var ${name} = ${element}(0);`)}
  let sums_end = ${end};
  for (var block = ${first}; block < sums_end; block += ${32 * stride}u) {
    ${each((name) => `var block_${name} = ${element}(0);`)}
    let block_end = min(block + ${32 * stride}u, sums_end);
    for (var at = block; at < block_end; at += ${stride}u) {
      ${setup} ${each((name) => `block_${name} += ${sums[name]};`)}
    }
    ${each((name) => `${name} += block_${name};`)}
  }`;
}

const kernels = new Map<string, Kernel>();

/** The kernel built earlier under `key`, or the one that `build` gives now. Kernels are values: sharing one is safe. */
export function once(key: string, build: () => Kernel): Kernel {
  let kernel = kernels.get(key);
  if (kernel === undefined) {
    kernel = build();
    kernels.set(key, kernel);
  }
  return kernel;
}

/** The element type that covers `count` consecutive numbers without a remainder, and how many of them it holds. */
export function vectorOf(count: number): { element: "f32" | "vec4f"; width: 1 | 4 } {
  return count % 4 === 0 ? { element: "vec4f", width: 4 } : { element: "f32", width: 1 };
}

/** Rows of a chunk have at least this number. */
const CHUNK_ROWS_MIN = 32;

/** Chunks wanted of a sum over rows with `lanes` invocations side by side: enough for a GPU, few enough to combine. */
const chunksWanted = (lanes: number) => Math.min(256, Math.max(1, Math.ceil(8192 / lanes)));

/** Splits `rows` into chunks that one invocation sums. */
export function chunksOf(rows: number, lanes: number): { chunks: number; chunkRows: number } {
  const chunkRows = Math.max(CHUNK_ROWS_MIN, Math.ceil(rows / chunksWanted(lanes)));
  return { chunks: Math.ceil(rows / chunkRows), chunkRows };
}

/** The same split as WGSL: `chunkRows` from `rows`. */
export function chunkRowsWgsl(lanes: number): string {
  const wanted = chunksWanted(lanes);
  return `let chunkRows = max(${CHUNK_ROWS_MIN}u, (rows + ${wanted - 1}u) / ${wanted}u);`;
}

/**
 * A kernel over `[images, pixels, lanes]` where each invocation handles one element: the grid's y is the image, so that
 * no invocation divides by a number that is not constant. The body sees `image`, `inside` (index within the image) and
 * `i`; `pixels` must be defined by `setup`.
 */
export function perPixel(
  options: Omit<PointwiseOptions, "invocations" | "count"> & {
    readonly shape: { readonly images: number; readonly pixels: number };
    readonly lanes: number;
    readonly setup: string;
  },
): Kernel {
  const { label, storage, body, setup, lanes, shape } = options;
  const groups = Math.ceil(shape.pixels * lanes / WORKGROUP);
  const folds = Math.ceil(groups / GRID_ROW);
  return {
    label,
    wgsl: `${declare(storage)}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  ${setup}
  let image = id.y;
  let inside = id.x + id.z * ${GRID_ROW * WORKGROUP}u;
  if (inside >= pixels * ${lanes}u) { return; }
  let i = image * pixels * ${lanes}u + inside;
  ${body.trim()}
}
`,
    bindings: storage.map(([, access]) => access),
    workgroups: [folds === 1 ? groups : GRID_ROW, shape.images, folds],
    ...featuresOf(storage),
  };
}

/** The features that the element types need. */
function featuresOf(storage: readonly Storage[]): Pick<Kernel, "requires"> {
  return storage.some(([, , element]) => element?.includes("f16")) ? { requires: ["f16"] } : {};
}

function declare(storage: readonly Storage[]): string {
  return storage.map(([name, access, element = "f32"], binding) =>
    `@group(0) @binding(${binding}) var<storage, ${
      access === "read" ? "read" : "read_write"
    }> ${name}: array<${element}>;`
  ).join("\n");
}
