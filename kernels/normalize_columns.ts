/**
 * L2 normalisation of the columns of a matrix in place: prototypes lie as columns `[dim, count]` on the device. PyTorch's
 * floor of 1e-12 on the norm.
 */
import type { Kernel } from "./kernel.ts";
import { NORM_FLOOR } from "./normalize.ts";

const threads = 64;

/** Divides each column of `[rows, columns]` by its L2 norm. Binding: the matrix. One invocation per column, in order. */
export function normalizeColumnsInPlace(rows: number, columns: number): Kernel {
  return {
    label: `normalize columns ${rows}×${columns}`,
    wgsl: `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(${threads})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let column = id.x;
  if (column >= ${columns}u) { return; }
  var squares = 0.0;
  for (var row = 0u; row < ${rows}u; row++) {
    let value = x[row * ${columns}u + column];
    squares = fma(value, value, squares);
  }
  let divisor = max(sqrt(squares), ${NORM_FLOOR});
  for (var row = 0u; row < ${rows}u; row++) { x[row * ${columns}u + column] /= divisor; }
}
`,
    bindings: ["write"],
    workgroups: [Math.ceil(columns / threads), 1, 1],
  };
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
