/**
 * Layer normalisation of the rows of `x [rows, columns]` as PyTorch's `F.layer_norm`: (x − mean) / √(variance + ε), the
 * variance biased, times weight plus bias `[columns]`. One invocation handles one row; the gradients of weight and bias
 * are summed over rows in chunks of a fixed order. It does not know what a row stands for.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, chunkRowsWgsl, chunksOf, once, pointwise } from "./wgsl.ts";

/** Rows to normalise. */
export interface LayerNormShape {
  readonly rows: number;
  readonly columns: number;
  readonly epsilon: number;
}

/** Normalised rows. Buffers: x, weight, bias, result, statistics `[rows, 2]` of (mean, 1 / √(variance + ε)). */
export function layerNorm({ rows, columns, epsilon }: LayerNormShape): Kernel {
  return once(`layer norm ${rows}x${columns} ${epsilon}`, () =>
    pointwise({
      label: `layer norm ${rows}x${columns}`,
      storage: [["x", "read"], ["weight", "read"], ["bias", "read"], ["result", "write"], [
        "statistics",
        "write",
        "vec2f",
      ]],
      invocations: rows,
      count: "arrayLength(&statistics)",
      body: `
  let columns = arrayLength(&weight);
  let base = i * columns;
  let end = base + columns;${blockSums({ element: "f32", first: "base", end: "end", sums: { total: "x[at]" } })}
  let mean = total / f32(columns);
  var squares = 0.0;
  for (var block = base; block < end; block += 32u) {
    var block_squares = 0.0;
    let block_end = min(block + 32u, end);
    for (var at = block; at < block_end; at++) { let d = x[at] - mean; block_squares += d * d; }
    squares += block_squares;
  }
  let inverse = 1 / sqrt(squares / f32(columns) + ${epsilon});
  statistics[i] = vec2f(mean, inverse);
  for (var c = 0u; c < columns; c++) { result[base + c] = (x[base + c] - mean) * inverse * weight[c] + bias[c]; }`,
    }));
}

/** Gradient towards x. Buffers: upstream gradient, x, weight, statistics, result. */
export function layerNormInputGradient({ rows, columns }: LayerNormShape): Kernel {
  return once(`layer norm input gradient ${rows}x${columns}`, () =>
    pointwise({
      label: `layer norm input gradient ${rows}x${columns}`,
      storage: [["g", "read"], ["x", "read"], ["weight", "read"], ["statistics", "read", "vec2f"], ["result", "write"]],
      invocations: rows,
      count: "arrayLength(&statistics)",
      body: `
  let columns = arrayLength(&weight);
  let base = i * columns;
  let end = base + columns;
  let s = statistics[i];${
        blockSums({
          element: "vec2f",
          first: "base",
          end: "end",
          setup: "let a = g[at] * weight[at - base];",
          sums: { total: "vec2f(a, a * (x[at] - s.x) * s.y)" },
        })
      }
  let means = total / f32(columns);
  for (var at = base; at < end; at++) {
    result[at] = s.y * (g[at] * weight[at - base] - means.x - (x[at] - s.x) * s.y * means.y);
  }`,
    }));
}

/** Chunks of rows of {@linkcode layerNormParameterPartial}. */
export function layerNormChunks({ rows, columns }: LayerNormShape): number {
  return chunksOf(rows, columns).chunks;
}

/**
 * Sums over chunks of rows. Buffers: upstream gradient, x, statistics, partials `[chunks, columns, 2]` of the gradients
 * of (weight, bias).
 */
export function layerNormParameterPartial(shape: LayerNormShape): Kernel {
  const { rows, columns } = shape;
  return once(`layer norm parameter partial ${rows}x${columns}`, () =>
    pointwise({
      label: `layer norm parameter partial ${rows}x${columns}`,
      storage: [["g", "read"], ["x", "read"], ["statistics", "read", "vec2f"], ["partials", "write", "vec2f"]],
      invocations: layerNormChunks(shape) * columns,
      count: "arrayLength(&partials)",
      body: `
  let rows = arrayLength(&statistics);
  ${chunkRowsWgsl(columns)}
  let first = i / ${columns}u * chunkRows;
  let end = min(first + chunkRows, rows);
  let c = i % ${columns}u;${
        blockSums({
          element: "vec2f",
          first: "first",
          end: "end",
          setup: `let s = statistics[at]; let e = at * ${columns}u + c;`,
          sums: { total: "vec2f(g[e] * (x[e] - s.x) * s.y, g[e])" },
        })
      }
  partials[i] = total;`,
    }));
}

/** Adds the chunks. Buffers: partials, gradient of weight, gradient of bias. */
export function layerNormParameterGradient({ columns }: LayerNormShape): Kernel {
  return once(`layer norm parameter gradient ${columns}`, () =>
    pointwise({
      label: `layer norm parameter gradient ${columns}`,
      storage: [["partials", "read", "vec2f"], ["weight", "write"], ["bias", "write"]],
      invocations: columns,
      count: "arrayLength(&weight)",
      body: `
  var total = vec2f(0);
  for (var at = i; at < arrayLength(&partials); at += arrayLength(&weight)) { total += partials[at]; }
  weight[i] = total.x;
  bias[i] = total.y;`,
    }));
}

/** CPU reference in double precision: output, and the gradients for upstream gradient `g`. */
export function layerNormReference(
  inputs: Readonly<Record<"x" | "g" | "weight" | "bias", Float32Array>>,
  { rows, columns, epsilon }: LayerNormShape,
): Readonly<Record<"output" | "x" | "weight" | "bias", Float32Array<ArrayBuffer>>> {
  const { x, g, weight, bias } = inputs;
  const output = new Float32Array(x.length), towards = new Float32Array(x.length);
  const weights = new Float64Array(columns), biases = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    const base = row * columns;
    const values = Float64Array.from(x.subarray(base, base + columns));
    const mean = values.reduce((a, b) => a + b, 0) / columns;
    const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / columns + epsilon);
    const y = values.map((v) => (v - mean) / deviation), a = y.map((_, c) => g[base + c] * weight[c]);
    const plain = a.reduce((sum, v) => sum + v, 0) / columns;
    const along = a.reduce((sum, v, c) => sum + v * y[c], 0) / columns;
    for (let c = 0; c < columns; c++) {
      output[base + c] = y[c] * weight[c] + bias[c];
      towards[base + c] = (a[c] - plain - y[c] * along) / deviation;
      weights[c] += g[base + c] * y[c];
      biases[c] += g[base + c];
    }
  }
  return { output, x: towards, weight: new Float32Array(weights), bias: new Float32Array(biases) };
}
