/**
 * Sums over the rows of a matrix and of squares over an array, each in two ordered passes: every invocation sums a chunk
 * of consecutive rows in blocks of 32, then the chunks' sums are added in order. The split depends on the shape alone, so
 * equal inputs give equal bits.
 */
import type { Kernel } from "./kernel.ts";
import { cellsOf } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { blockSums, chunkRowsWgsl, chunksOf, once, pointwise, vectorOf } from "./wgsl.ts";

/** Two kernels run one after the other through a buffer of partial sums. */
export interface TwoPass {
  /** Floats in the partial buffer between the passes. */
  readonly partialCount: number;
  readonly partial: Kernel;
  readonly combine: Kernel;
}

const twoPasses = new Map<string, TwoPass>();

/** Sum over the rows of `x [rows, columns]`. Passes: partial (x, partials), combine (partials, result `[columns]` f32). */
export function columnSums(
  { rows, columns, storage = "f32" }: { rows: number; columns: number; storage?: Storage },
): TwoPass {
  const key = `column sums ${rows}x${columns} ${storage}`;
  const known = twoPasses.get(key);
  if (known) return known;
  const { element, width } = vectorOf(columns);
  const cells = cellsOf(storage, width);
  const lanes = columns / width;
  const { chunks } = chunksOf(rows, lanes);
  const made: TwoPass = {
    partialCount: chunks * columns,
    partial: pointwise({
      label: key,
      storage: [["x", "read", cells.type], ["partials", "write", element]],
      invocations: chunks * lanes,
      count: "arrayLength(&partials)",
      body: `
  let rows = arrayLength(&x) / ${lanes}u;
  ${chunkRowsWgsl(lanes)}
  let first = i / ${lanes}u * chunkRows;
  let end = min(first + chunkRows, rows);
  let column = i % ${lanes}u;${
        blockSums({
          element,
          first: `first * ${lanes}u + column`,
          end: `end * ${lanes}u`,
          stride: lanes,
          sums: { total: cells.load("x[at]") },
        })
      }
  partials[i] = total;`,
    }),
    combine: sumChunks(chunks, lanes, element),
  };
  twoPasses.set(key, made);
  return made;
}

/** Adds `partials [chunks, lanes]` over the chunks, in order. */
function sumChunks(chunks: number, lanes: number, element: string): Kernel {
  return once(`sum chunks ${chunks} ${lanes} ${element}`, () =>
    pointwise({
      label: `sum of ${chunks} chunks x ${lanes}`,
      storage: [["partials", "read", element], ["result", "write", element]],
      invocations: lanes,
      count: `${lanes}u`,
      body: `${
        blockSums({
          element,
          first: "i",
          end: "arrayLength(&partials)",
          stride: lanes,
          sums: { total: "partials[at]" },
        })
      }
  result[i] = total;`,
    }));
}

/** CPU reference of {@linkcode columnSums}, in double precision. */
export function columnSumsReference(x: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const sums = new Float64Array(columns);
  for (let i = 0; i < rows * columns; i++) sums[i % columns] += x[i];
  return Float32Array.from(sums);
}
