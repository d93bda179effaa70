/**
 * Matrix multiply C[m, n] = A·B over row-major matrices, either operand transposed on request. Lanes lie along rows of
 * C, each computes a register tile of rows × columns, and what B gives is loaded once for all lanes. A sum runs over k in
 * order.
 */
import type { Kernel } from "./kernel.ts";
import {
  component,
  floats,
  gather,
  LANES,
  memoized,
  OPAQUE_ZERO,
  range,
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
export const matmul: (shape: MatmulShape) => Kernel = memoized((shape) => {
  const { m, n, k, transposeA = false, transposeB = false, accumulate = false } = shape;
  for (const [name, value] of Object.entries({ m, n, k })) {
    if (!(Number.isInteger(value) && value >= 1)) {
      throw new RangeError(`Cannot multiply matrices: ${name} must be a positive integer, got ${value}`);
    }
  }
  const step = vectorWidth(k);
  const widthA = transposeA ? 1 : step;
  const widthB = transposeB ? step : vectorWidth(n);
  const widthC = vectorWidth(n);
  const rows = Math.min(4, Math.ceil(m / LANES));
  const columns = Math.min(widthC === 4 ? 8 : 4, n);
  const columnTiles = Math.ceil(n / columns);
  const grid = tileGrid(Math.ceil(m / (rows * LANES)) * columnTiles);
  const ragged = n % columns !== 0;
  const column = (j: number) => ragged ? `min(firstColumn + ${j}u, ${n - 1}u)` : `firstColumn + ${j}u`;

  const loadA = (i: number) =>
    transposeA
      ? unroll(step, (u) => `let a${i}_${u} = a[(k * ${step}u + ${u}u) * ${m}u + row${i}];`)
      : `let a${i} = a[row${i} * ${k / step}u + k];`;
  const loadB = transposeB
    ? unroll(columns, (j) => `let b${j} = b[(${column(j)}) * ${k / step}u + k];`)
    : unroll(step, (u) =>
      unroll(columns / widthB, (j) => {
        const unit = widthB === 1
          ? column(j)
          : ragged
          ? `min(firstColumn / 4u + ${j}u, ${n / 4 - 1}u)`
          : `firstColumn / 4u + ${j}u`;
        return `let b${u}_${j} = b[(k * ${step}u + ${u}u) * ${n / widthB}u + ${unit}];`;
      }));
  const valueA = (i: number, u: number) => transposeA ? `a${i}_${u}` : component(`a${i}`, u, step);
  const valueB = (j: number, u: number) =>
    transposeB ? component(`b${j}`, u, step) : component(`b${u}_${Math.floor(j / widthB)}`, j % widthB, widthB);

  const wgsl = `// Each invocation computes ${rows} rows, ${LANES} apart, × ${columns} columns.
@group(0) @binding(0) var<storage, read> a: array<${floats(widthA)}, ${m * k / widthA}>;
@group(0) @binding(1) var<storage, read> b: array<${floats(widthB)}, ${k * n / widthB}>;
@group(0) @binding(2) var<storage, read_write> c: array<${floats(widthC)}, ${m * n / widthC}>;

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
for (var k = 0u; k < ${k / step}u + opaque; k++) {
${unroll(rows, loadA)}
${loadB}
${
    unroll(step, (u) =>
      unroll(rows, (i) =>
        unroll(columns, (j) =>
          `sum${i}_${j} = fma(${valueA(i, u)}, ${valueB(j, u)}, sum${i}_${j});`)))
  }
}
${
    unroll(rows, (i) =>
      `if (firstRow + ${i * LANES}u < ${m}u) {
let at${i} = (row${i} * ${n}u + firstColumn) / ${widthC}u;
${
        unroll(columns / widthC, (j) => {
          const value = gather(range(widthC).map((u) => `sum${i}_${j * widthC + u}`));
          const store = `c[at${i} + ${j}u] = ${value}${accumulate ? ` + c[at${i} + ${j}u]` : ""};`;
          return ragged ? `if (firstColumn + ${j * widthC}u < ${n}u) { ${store} }` : store;
        })
      }
}`)
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
});

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
