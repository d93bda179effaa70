/**
 * L2 normalisation of the columns of a matrix in place: prototypes lie as columns `[dim, count]` on the device. PyTorch's
 * floor of 1e-12 on the norm.
 */
import type { Kernel } from "./kernel.ts";
import { NORM_FLOOR } from "./normalize.ts";
import { blockSums, once, pointwise } from "./wgsl.ts";

/** Divides each column of `[rows, columns]` by its L2 norm. Binding: the matrix. One invocation per column, in order. */
export function normalizeColumnsInPlace(rows: number, columns: number): Kernel {
  return once(`normalize columns ${rows}x${columns}`, () =>
    pointwise({
      label: `normalize columns ${rows}x${columns}`,
      storage: [["x", "write"]],
      invocations: columns,
      count: `${columns}u`,
      body: `${
        blockSums({
          element: "f32",
          first: "i",
          end: "arrayLength(&x)",
          stride: columns,
          sums: { squares: "x[at] * x[at]" },
        })
      }
  let divisor = max(sqrt(squares), ${NORM_FLOOR});
  for (var at = i; at < sums_end; at += ${columns}u) { x[at] = x[at] / divisor; }`,
    }));
}

/** {@linkcode normalizeColumnsInPlace} on the CPU; returns a new matrix. */
export function normalizeColumnsReference(
  x: Float32Array,
  { rows, columns }: { rows: number; columns: number },
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(x);
  for (let column = 0; column < columns; column++) {
    let squares = 0;
    for (let row = 0; row < rows; row++) squares += x[row * columns + column] ** 2;
    const divisor = Math.max(Math.sqrt(squares), NORM_FLOOR);
    for (let row = 0; row < rows; row++) result[row * columns + column] /= divisor;
  }
  return result;
}
