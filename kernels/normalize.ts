/**
 * L2 normalisation of the rows of `x [rows, columns]` as PyTorch's `F.normalize`: a row is divided by its norm, or by
 * `epsilon` when the norm is smaller. One invocation handles one row. It does not know what a row stands for.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, once, pointwise, vectorOf } from "./wgsl.ts";

/** PyTorch's default floor of the norm. */
export const NORM_FLOOR = 1e-12;

const lanesOf = (columns: number) => {
  const { element, width } = vectorOf(columns);
  return { element, lanes: columns / width, dot: width === 4 ? "dot(a, b)" : "a * b" };
};

/** WGSL: `total` = the sum over the row of the product of `a` and `b`; `base` and `end` bound the row. */
const rowDot = (lanes: number, { a, b, dot }: { a: string; b: string; dot: string }) => `
  let base = i * ${lanes}u;
  let end = base + ${lanes}u;${
  blockSums({
    element: "f32",
    first: "base",
    end: "end",
    setup: `let a = ${a}[at]; let b = ${b}[at];`,
    sums: { total: dot },
  })
}`;

/** Rows over their norms. Buffers: x, result, divisors `[rows]` (the norm, at least `NORM_FLOOR`). */
export function normalizeRows(rows: number, columns: number): Kernel {
  return once(`normalize rows ${rows}x${columns}`, () => {
    const { element, lanes, dot } = lanesOf(columns);
    return pointwise({
      label: `normalize rows ${rows}x${columns}`,
      storage: [["x", "read", element], ["result", "write", element], ["divisors", "write"]],
      invocations: rows,
      count: "arrayLength(&divisors)",
      body: `${rowDot(lanes, { a: "x", b: "x", dot })}
  let divisor = max(sqrt(total), ${NORM_FLOOR});
  divisors[i] = divisor;
  for (var at = base; at < end; at++) { result[at] = x[at] / divisor; }`,
    });
  });
}

/** Gradient of {@linkcode normalizeRows}. Buffers: upstream gradient, normalised rows, divisors, result. */
export function normalizeRowsGradient(rows: number, columns: number): Kernel {
  return once(`normalize rows gradient ${rows}x${columns}`, () => {
    const { element, lanes, dot } = lanesOf(columns);
    return pointwise({
      label: `normalize rows gradient ${rows}x${columns}`,
      storage: [["g", "read", element], ["y", "read", element], ["divisors", "read"], ["result", "write", element]],
      invocations: rows,
      count: "arrayLength(&divisors)",
      body: `${rowDot(lanes, { a: "g", b: "y", dot })}
  let divisor = divisors[i];
  let along = select(total, 0.0, divisor <= ${NORM_FLOOR});
  for (var at = base; at < end; at++) {
    result[at] = (g[at] - y[at] * along) / divisor;
  }`,
    });
  });
}

/** CPU reference, double precision: normalised rows, and the gradient towards x for upstream gradient `g`. */
export function normalizeRowsReference(
  inputs: { x: Float32Array; g: Float32Array },
  columns: number,
): { output: Float32Array<ArrayBuffer>; gradient: Float32Array<ArrayBuffer> } {
  const { x, g } = inputs;
  const output = new Float32Array(x.length), gradient = new Float32Array(x.length);
  for (let base = 0; base < x.length; base += columns) {
    let squares = 0, along = 0;
    for (let c = 0; c < columns; c++) squares += x[base + c] ** 2;
    const divisor = Math.max(Math.sqrt(squares), NORM_FLOOR);
    for (let c = 0; c < columns; c++) along += g[base + c] * x[base + c] / divisor;
    if (divisor <= NORM_FLOOR) along = 0;
    for (let c = 0; c < columns; c++) {
      output[base + c] = x[base + c] / divisor;
      gradient[base + c] = (g[base + c] - x[base + c] / divisor * along) / divisor;
    }
  }
  return { output, gradient };
}
