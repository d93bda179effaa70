/**
 * A small linear layer with bias and activation in one pass, and its gradient in two: `y = f(x · W + b)` for x
 * `[rows, inputs]`, W `[inputs, outputs]`. All sizes but one come from the buffers' lengths, so that every small layer of
 * a network shares a pipeline. Large products belong to the tiled kernels; where the border lies is not known here.
 */
import type { Kernel } from "./kernel.ts";
import { once, pointwise, type Storage } from "./wgsl.ts";

/** What follows the sum. */
export type Activation = "none" | "relu" | "sigmoid";

/** Static description of a layer. */
export interface DenseShape {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly bias: boolean;
  readonly activation: Activation;
}

const nameOf = (shape: DenseShape) =>
  `${shape.rows}x${shape.inputs}→${shape.outputs} ${shape.bias ? "bias" : "no bias"} ${shape.activation}`;

/** Rows that one invocation handles, so that it loads a weight once for all of them. */
const ROWS_EACH = 4;

const activate: Record<Activation, string> = {
  none: "sum",
  relu: "max(sum, vec4f(0))",
  sigmoid: "1 / (1 + exp(-sum))",
};

/** WGSL: the gradient in front of the activation, at index `at`. */
const behind: Record<Activation, string> = {
  none: "g[at]",
  relu: "select(0.0, g[at], y[at] > 0.0)",
  sigmoid: "g[at] * y[at] * (1 - y[at])",
};

const sizes = (shape: DenseShape, { weight, bias }: { weight: string; bias: string }) => `
  let outputs = ${shape.bias ? `arrayLength(&${bias})` : `${shape.outputs}u`};
  let inputs = arrayLength(&${weight}) / outputs;`;

/** WGSL: offsets of four rows of `width` numbers from `first` on, none beyond the last. */
const fourRows = (width: string) =>
  `let row = min(vec4u(first, first + 1u, first + 2u, first + 3u), vec4u(rows - 1u)) * ${width};`;

const storeRows = (name: string, { width, column }: { width: string; column: string }) => `
  for (var k = 0u; k < min(${ROWS_EACH}u, rows - first); k++) { ${name}[(first + k) * ${width} + ${column}] = value[k]; }`;

/** Forward. Buffers: x, W, b (if any), y. */
export function dense(shape: DenseShape): Kernel {
  return once(`dense ${nameOf(shape)}`, () => {
    const { rows, outputs, bias, activation } = shape;
    const optional: Storage[] = bias ? [["b", "read"]] : [];
    return pointwise({
      label: `dense ${nameOf(shape)}`,
      storage: [["x", "read"], ["w", "read"], ...optional, ["y", "write"]],
      invocations: Math.ceil(rows / ROWS_EACH) * outputs,
      count: "0xffffffffu", // the body stops by itself
      body: `${sizes(shape, { weight: "w", bias: "b" })}
  let rows = arrayLength(&x) / inputs;
  let output = i % outputs;
  let first = i / outputs * ${ROWS_EACH}u;
  if (first >= rows) { return; }
  ${fourRows("inputs")}
  var sum = vec4f(${bias ? "b[output]" : "0"});
  for (var c = 0u; c < inputs; c++) {
    sum += vec4f(x[row.x + c], x[row.y + c], x[row.z + c], x[row.w + c]) * w[c * outputs + output];
  }
  let value = ${activate[activation]};${storeRows("y", { width: "outputs", column: "output" })}`,
    });
  });
}

/** Gradient towards x. Buffers: upstream gradient, y (unless there is no activation), W, b (if any), result. */
export function denseInputGradient(shape: DenseShape): Kernel {
  return once(`dense input gradient ${nameOf(shape)}`, () => {
    const { rows, inputs, bias, activation } = shape;
    const gradient = (component: string) => behind[activation].replaceAll("[at]", `[row.${component} + o]`);
    return pointwise({
      label: `dense input gradient ${nameOf(shape)}`,
      storage: [
        ["g", "read"],
        ...(activation === "none" ? [] : [["y", "read"] as const]),
        ["w", "read"],
        ...(bias ? [["b", "read"] as const] : []),
        ["result", "write"],
      ],
      invocations: Math.ceil(rows / ROWS_EACH) * inputs,
      count: "0xffffffffu", // the body stops by itself
      body: `${sizes(shape, { weight: "w", bias: "b" })}
  let rows = arrayLength(&g) / outputs;
  let input = i % inputs;
  let first = i / inputs * ${ROWS_EACH}u;
  if (first >= rows) { return; }
  ${fourRows("outputs")}
  var value = vec4f(0);
  for (var o = 0u; o < outputs; o++) {
    value += vec4f(${["x", "y", "z", "w"].map(gradient).join(", ")}) * w[input * outputs + o];
  }${storeRows("result", { width: "inputs", column: "input" })}`,
    });
  });
}

/**
 * Gradients towards W and b, summed over the rows in order. Buffers: upstream gradient, y (unless there is no
 * activation), x, gradient of W, gradient of b (if any).
 */
export function denseWeightGradient(shape: DenseShape): Kernel {
  return once(`dense weight gradient ${nameOf(shape)}`, () => {
    const { inputs, outputs, bias, activation } = shape;
    return pointwise({
      label: `dense weight gradient ${nameOf(shape)}`,
      storage: [
        ["g", "read"],
        ...(activation === "none" ? [] : [["y", "read"] as const]),
        ["x", "read"],
        ["weightGradient", "write"],
        ...(bias ? [["biasGradient", "write"] as const] : []),
      ],
      invocations: (inputs + (bias ? 1 : 0)) * outputs,
      count: `arrayLength(&weightGradient)${bias ? " + arrayLength(&biasGradient)" : ""}`,
      body: `${sizes(shape, { weight: "weightGradient", bias: "biasGradient" })}
  let output = i % outputs;
  let input = i / outputs;
  let ofBias = input == inputs;
  var total = 0.0;
  var at = output;
  var source = select(input, 0u, ofBias);
  let end = arrayLength(&g);
  while (at < end) {
    var sum = 0.0;
    let blockEnd = min(at + 32u * outputs, end);
    for (; at < blockEnd; at += outputs) {
      sum += (${behind[activation]}) * select(x[source], 1.0, ofBias);
      source += inputs;
    }
    total += sum;
  }
  ${bias ? "if (ofBias) { biasGradient[output] = total; return; }" : ""}
  weightGradient[i] = total;`,
    });
  });
}

/** CPU reference in double precision: y, and for upstream gradient `g` the gradients towards x, W and b. */
export function denseReference(
  inputs: { x: Float32Array; w: Float32Array; b: Float32Array; g: Float32Array },
  shape: DenseShape,
): Record<"y" | "x" | "w" | "b", Float32Array<ArrayBuffer>> {
  const { rows, inputs: width, outputs, bias, activation } = shape;
  const { x, w, b, g } = inputs;
  const y = new Float32Array(rows * outputs), xGradient = new Float32Array(rows * width);
  const wGradient = new Float64Array(width * outputs), bGradient = new Float64Array(outputs);
  for (let n = 0; n < rows; n++) {
    const row = new Float64Array(width);
    for (let o = 0; o < outputs; o++) {
      let sum = bias ? b[o] : 0;
      for (let c = 0; c < width; c++) sum += x[n * width + c] * w[c * outputs + o];
      const value = activation === "relu"
        ? Math.max(sum, 0)
        : activation === "sigmoid"
        ? 1 / (1 + Math.exp(-sum))
        : sum;
      const slope = activation === "relu" ? Number(value > 0) : activation === "sigmoid" ? value * (1 - value) : 1;
      y[n * outputs + o] = value;
      const d = g[n * outputs + o] * slope;
      bGradient[o] += d;
      for (let c = 0; c < width; c++) {
        wGradient[c * outputs + o] += d * x[n * width + c];
        row[c] += d * w[c * outputs + o];
      }
    }
    xGradient.set(row, n * width);
  }
  return { y, x: xGradient, w: Float32Array.from(wGradient), b: Float32Array.from(bGradient) };
}
