/**
 * Matrix multiply C[m, n] = A·B over row-major matrices, either operand transposed on request. A sum runs over k in
 * order. How a tile is computed is told in `register_product.ts`.
 */
import type { Kernel } from "./kernel.ts";
import { registerProduct, type RegisterTile } from "./register_product.ts";
import { memoized } from "./tiles.ts";
import type { Storage } from "./variant.ts";

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
  /** How all three matrices are stored. @default "f32" */
  readonly storage?: Storage;
}

/** `"256×128 ᵀ· 128×64, f16"`, for labels; everything that tells two shapes apart. */
export function describeMatmul(shape: MatmulShape): string {
  const { m, n, k, transposeA = false, transposeB = false, accumulate = false, storage = "f32" } = shape;
  const forms = `${transposeA ? "ᵀ" : ""}·${transposeB ? "ᵀ" : ""}${accumulate ? " +=" : ""}`;
  return `${m}×${k} ${forms} ${k}×${n}${storage === "f32" ? "" : `, ${storage}`}`;
}

/** C[m, n] = A·B (+ C); binds (A, B, C). */
export const matmul: (shape: MatmulShape & RegisterTile) => Kernel = memoized(({ tileRows, tileColumns, ...shape }) => {
  const { m, n, k, transposeA = false, transposeB = false, accumulate = false, storage = "f32" } = shape;
  for (const [name, value] of Object.entries({ m, n, k })) {
    if (!(Number.isInteger(value) && value >= 1)) {
      throw new RangeError(`Cannot multiply matrices: ${name} must be a positive integer, got ${value}`);
    }
  }
  return registerProduct({
    label: `matmul ${describeMatmul(shape)}`,
    storage,
    tile: { tileRows, tileColumns },
    buffers: [{ name: "left", length: m * k }, { name: "right", length: k * n }, { name: "product", length: m * n }],
    rows: m,
    columns: n,
    open: () => `for (var index = 0u; index < ${k}u + opaque; index++) {`,
    close: "}",
    left: (i, load) => load(transposeA ? `index * ${m}u + row${i}` : `row${i} * ${k}u + index`),
    right: (column) => transposeB ? `${column} * ${k}u + index` : `index * ${n}u + ${column}`,
    destination: { at: `row * ${n}u` },
    accumulate,
  });
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
