/**
 * Operations on equally shaped arrays, element by element: activations and their gradients, sums, products with a
 * constant. Gradients take the upstream gradient first and what the forward pass kept second. Nothing here knows what
 * the elements mean.
 */
import type { Kernel } from "./kernel.ts";
import { cellsOf, storageFeatures } from "./tiles.ts";
import type { Storage } from "./variant.ts";
import { once, pointwise, vectorOf } from "./wgsl.ts";

/** Rows of numbers. */
interface Matrix {
  readonly rows: number;
  readonly columns: number;
  /** @default "f32" */
  readonly storage?: Storage;
}

/** Elements, and how all the arrays are stored. */
interface Stored {
  readonly count: number;
  readonly storage?: Storage;
}

function map(name: string, { count, storage = "f32" }: Stored, inputs: readonly string[], expression: string): Kernel {
  const label = storage === "f32" ? `${name} ${count}` : `${name} ${count} ${storage}`;
  return once(label, () => {
    const { element, width } = vectorOf(count);
    const { type, load, store } = cellsOf(storage, width);
    return pointwise({
      label,
      storage: [...inputs.map((input) => [input, "read", type] as const), ["result", "write", type]],
      invocations: count / width,
      count: "arrayLength(&result)",
      body: inputs.map((input) => `let ${input}_i = ${load(`${input}[i]`)};`).join(" ") +
        ` result[i] = ${store(expression.replaceAll("ZERO", `${element}(0)`))};`,
    });
  });
}

/** `max(x, 0)`. Buffers: x, result. */
export function relu(count: number, storage?: Storage): Kernel {
  return map("relu", { count, storage }, ["x"], "max(x_i, ZERO)");
}

/** Gradient of {@linkcode relu} from its result. Buffers: upstream gradient, result of relu, gradient. */
export function reluGradient(count: number, storage?: Storage): Kernel {
  return map("relu gradient", { count, storage }, ["g", "y"], "select(ZERO, g_i, y_i > ZERO)");
}

/** `1 / (1 + exp(-x))`. Buffers: x, result. */
export function sigmoid(count: number): Kernel {
  return map("sigmoid", { count }, ["x"], "1 / (1 + exp(-x_i))");
}

/** Gradient of {@linkcode sigmoid} from its result. Buffers: upstream gradient, result of sigmoid, gradient. */
export function sigmoidGradient(count: number): Kernel {
  return map("sigmoid gradient", { count }, ["g", "y"], "g_i * y_i * (1 - y_i)");
}

/** `a + b`. Buffers: a, b, result, all stored alike. */
export function add(count: number, storage?: Storage): Kernel {
  return map("add", { count, storage }, ["a", "b"], "a_i + b_i");
}

/** The same numbers in another storage. Buffers: x, result. */
export function cast(count: number, { from, to }: { from: Storage; to: Storage }): Kernel {
  return once(`cast ${count} ${from} ${to}`, () => {
    const { width } = vectorOf(count);
    const given = cellsOf(from, width), wanted = cellsOf(to, width);
    return {
      ...pointwise({
        label: `cast ${count} ${from} to ${to}`,
        storage: [["x", "read", given.type], ["result", "write", wanted.type]],
        invocations: count / width,
        count: "arrayLength(&result)",
        body: `result[i] = ${wanted.store(given.load("x[i]"))};`,
      }),
      requires: storageFeatures(from === "f16" ? from : to),
    };
  });
}

/** `a * b`. Buffers: a, b, result. */
export function multiply(count: number): Kernel {
  return map("multiply", { count }, ["a", "b"], "a_i * b_i");
}

/** `total += x`, in place. Buffers: total, x, stored alike. */
export function accumulate(count: number, storage: Storage = "f32"): Kernel {
  return once(`accumulate ${count} ${storage}`, () => {
    const { width } = vectorOf(count);
    const cells = cellsOf(storage, width);
    return {
      ...pointwise({
        label: `accumulate ${count}`,
        storage: [["total", "write", cells.type], ["x", "read", cells.type]],
        invocations: count / width,
        count: "arrayLength(&total)",
        body: storage === "f32"
          ? "total[i] += x[i];"
          : `total[i] = ${cells.store(`${cells.load("total[i]")} + ${cells.load("x[i]")}`)};`,
      }),
      requires: storageFeatures(storage),
    };
  });
}

/** `x * factor[0]`. Buffers: x, factor (one number), result. */
export function scale(count: number): Kernel {
  return once(`scale ${count}`, () => {
    const { element, width } = vectorOf(count);
    return pointwise({
      label: `scale ${count}`,
      storage: [["x", "read", element], ["factor", "read"], ["result", "write", element]],
      invocations: count / width,
      count: "arrayLength(&result)",
      body: "result[i] = x[i] * factor[0];",
    });
  });
}

/** Adds `bias[c]` to every row. Buffers: x `[rows, columns]`, bias `[columns]` f32, result, which is stored as x. */
export function addBias({ rows, columns, storage = "f32" }: Matrix): Kernel {
  return once(`add bias ${rows} ${columns} ${storage}`, () => {
    const { element, width } = vectorOf(columns);
    const { type, load, store } = cellsOf(storage, width);
    return pointwise({
      label: `add bias ${rows}x${columns} ${storage}`,
      storage: [["x", "read", type], ["bias", "read", element], ["result", "write", type]],
      invocations: rows * columns / width,
      count: "arrayLength(&result)",
      body: `result[i] = ${store(`${load("x[i]")} + bias[i % ${columns / width}u]`)};`,
    });
  });
}

/** Multiplies row r by `factors[r]`. Buffers: x `[rows, columns]`, factors `[rows]`, result. */
export function scaleRows(rows: number, columns: number): Kernel {
  return once(`scale rows ${rows} ${columns}`, () => {
    const { element, width } = vectorOf(columns);
    return pointwise({
      label: `scale rows ${rows}x${columns}`,
      storage: [["x", "read", element], ["factors", "read"], ["result", "write", element]],
      invocations: rows * columns / width,
      count: "arrayLength(&result)",
      body: `result[i] = x[i] * factors[i / ${columns / width}u];`,
    });
  });
}

/** Row-major copy with its dimensions reordered: `result.shape[d] = shape[order[d]]`. Buffers: x, result. */
export function permute(shape: readonly number[], order: readonly number[]): Kernel {
  return once(`permute ${shape} ${order}`, () => {
    const strides = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
    const count = shape.reduce((a, b) => a * b, 1);
    const steps = [...order].reverse().map((d) => `at += rest % ${shape[d]}u * ${strides[d]}u; rest /= ${shape[d]}u;`);
    return pointwise({
      label: `permute ${shape.join("x")} by ${order.join("")}`,
      storage: [["x", "read"], ["result", "write"]],
      invocations: count,
      count: "arrayLength(&result)",
      body: `var rest = i; var at = 0u; ${steps.join(" ")} result[i] = x[at];`,
    });
  });
}

/** Elementwise formulas on plain numbers, for tests: each matches the kernel of the same name. */
export const elementwiseReference = {
  relu: (x: number) => Math.max(x, 0),
  reluGradient: (g: number, y: number) => y > 0 ? g : 0,
  sigmoid: (x: number) => 1 / (1 + Math.exp(-x)),
  sigmoidGradient: (g: number, y: number) => g * y * (1 - y),
  add: (a: number, b: number) => a + b,
  multiply: (a: number, b: number) => a * b,
} as const;

/** CPU reference of {@linkcode permute}. */
export function permuteReference(
  x: Float32Array,
  shape: readonly number[],
  order: readonly number[],
): Float32Array<ArrayBuffer> {
  const strides = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
  const result = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) {
    let rest = i, at = 0;
    for (const d of [...order].reverse()) {
      at += rest % shape[d] * strides[d];
      rest = Math.floor(rest / shape[d]);
    }
    result[i] = x[at];
  }
  return result;
}
