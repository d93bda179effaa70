/**
 * Matrix multiply C[m, n] = A·B over row-major matrices, either operand transposed on request. Lanes lie along rows of
 * C, each computes a register tile of rows × columns, and what B gives, which all lanes need, is loaded once for all. A
 * sum runs over k in order.
 */
import type { Kernel } from "./kernel.ts";
import {
  chosen,
  floats,
  gather,
  LANES,
  memoized,
  OPAQUE_ZERO,
  range,
  registerTile,
  sharedValues,
  sharing,
  tileGrid,
  unroll,
  vectorWidth,
} from "./tiles.ts";

/** Sizes and forms of a matrix multiply. */
export interface MatmulShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** A is stored [k, m] instead of [m, k]. @default false */
  readonly transposeA?: boolean;
  /** B is stored [n, k] instead of [k, n]. @default false */
  readonly transposeB?: boolean;
  /** Adds to what C holds instead of overwriting it. @default false */
  readonly accumulate?: boolean;
}

/** C[m, n] = A·B (+ C); binds (A, B, C). */
export const matmul: (shape: MatmulShape) => Kernel = memoized((shape) =>
  sharing((how) => {
    const { m, n, k, transposeA = false, transposeB = false, accumulate = false } = shape;
    for (const [name, value] of Object.entries({ m, n, k })) {
      if (!(Number.isInteger(value) && value >= 1)) {
        throw new RangeError(`Cannot multiply matrices: ${name} must be a positive integer, got ${value}`);
      }
    }
    const { rows, columns } = registerTile(m, n);
    const columnTiles = Math.ceil(n / columns);
    const grid = tileGrid(Math.ceil(m / (rows * LANES)) * columnTiles);
    const width = vectorWidth(n, columns);
    const ragged = n % columns !== 0;
    const column = (j: number) => range(rows).map((i) => `sum${i}_${j}`);
    const shared = sharedValues("b", {
      count: columns,
      sharing: how,
      at: (j) => {
        const column = `min(firstColumn + ${j}, ${n - 1}u)`;
        return transposeB ? `right[${column} * ${k}u + index]` : `right[index * ${n}u + ${column}]`;
      },
    });

    const wgsl = `// Each invocation computes ${rows} rows, ${LANES} apart, × ${columns} columns.
@group(0) @binding(0) var<storage, read> left: array<f32, ${m * k}>;
@group(0) @binding(1) var<storage, read> right: array<f32, ${k * n}>;
@group(0) @binding(2) var<storage, read_write> product: array<${floats(width)}, ${m * n / width}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let tile = ${grid.tile};
let firstColumn = (tile % ${columnTiles}u) * ${columns}u;
let firstRow = (tile / ${columnTiles}u) * ${rows * LANES}u + lane;
${
      unroll(rows, (i) =>
        `let row${i} = min(firstRow + ${i * LANES}u, ${m - 1}u);
${unroll(columns, (j) => `var sum${i}_${j} = 0.0;`)}`)
    }
for (var index = 0u; index < ${k}u + opaque; index++) {
${shared.load}
${
      unroll(rows, (i) =>
        `let a${i} = left[${transposeA ? `index * ${m}u + row${i}` : `row${i} * ${k}u + index`}];
${unroll(columns, (j) => `sum${i}_${j} = fma(a${i}, ${shared.values[j]}, sum${i}_${j});`)}`)
    }
}
for (var row = 0u; row < ${rows}u + opaque; row++) {
let rowOfProduct = firstRow + row * ${LANES}u;
if (rowOfProduct < ${m}u) {
let at = (rowOfProduct * ${n}u + firstColumn) / ${width}u;
${
      unroll(columns / width, (j) => {
        const value = gather(range(width).map((u) => chosen(column(j * width + u), "row")));
        const store = `product[at + ${j}u] = ${value}${accumulate ? ` + product[at + ${j}u]` : ""};`;
        return ragged ? `if (firstColumn + ${j * width}u < ${n}u) { ${store} }` : store;
      })
    }
}
}
}
`;
    const forms = `${transposeA ? "ᵀ" : ""}·${transposeB ? "ᵀ" : ""}${accumulate ? " +=" : ""}`;
    return {
      label: `matmul ${m}×${k} ${forms} ${k}×${n}`,
      wgsl,
      bindings: ["read", "read", "write"],
      workgroups: grid.workgroups,
    };
  })
);

/** The plain product behind {@linkcode matmul}, in double precision; `c` is what C holds before, for `accumulate`. */
export function matmulReference(
  shape: MatmulShape,
  { a, b, c }: { a: Float32Array; b: Float32Array; c?: Float32Array },
): Float32Array<ArrayBuffer> {
  const { m, n, k, transposeA = false, transposeB = false, accumulate = false } = shape;
  const result = new Float32Array(m * n);
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let sum = accumulate && c ? c[row * n + column] : 0;
      for (let index = 0; index < k; index++) {
        const left = transposeA ? a[index * m + row] : a[row * k + index];
        const right = transposeB ? b[column * k + index] : b[index * n + column];
        sum += left * right;
      }
      result[row * n + column] = sum;
    }
  }
  return result;
}
