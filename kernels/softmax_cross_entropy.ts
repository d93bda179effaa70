/**
 * Softmax cross-entropy with soft targets: for scores s and targets T `[rows, columns]`, temperature τ and a constant
 * scale, row i loses `scale · Σ_k T[i,k] · −log softmax(s[i]/τ)[k]`; its gradient is
 * `(Σ_k T[i,k] · softmax − T) · scale / τ`. Rows of T need not sum to 1. Columns are cut into chunks, each with its own
 * maximum, so that wide rows (16,000 prototypes) are shared by many invocations. It knows no label and no crop.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, once, pointwise } from "./wgsl.ts";

/** Static shape and constants of the loss. */
export interface SoftmaxCrossEntropyShape {
  readonly rows: number;
  readonly columns: number;
  readonly temperature: number;
  /** Factor of every row's loss: 1 / rows for the mean over rows. */
  readonly scale: number;
}

const CHUNK = 128;
const nameOf = (shape: SoftmaxCrossEntropyShape) =>
  `${shape.rows}x${shape.columns} temperature ${shape.temperature} scale ${shape.scale}`;
const chunksOf = (shape: SoftmaxCrossEntropyShape) => Math.ceil(shape.columns / CHUNK);

/** Floats of the buffer of partial results. */
export function softmaxCrossEntropyPartials(shape: SoftmaxCrossEntropyShape): number {
  return shape.rows * chunksOf(shape) * 4;
}

/**
 * First pass. Buffers: scores, targets, partials `[rows, chunks]` of (maximum m of s/τ, Σ exp(s/τ − m), Σ T (s/τ − m),
 * Σ T).
 */
export function softmaxCrossEntropyPartial(shape: SoftmaxCrossEntropyShape): Kernel {
  return once(`cross-entropy partial ${nameOf(shape)}`, () => {
    const { rows, columns, temperature } = shape;
    const chunks = chunksOf(shape);
    return pointwise({
      label: `cross-entropy partial ${rows}x${columns}`,
      storage: [["scores", "read"], ["targets", "read"], ["partials", "write", "vec4f"]],
      invocations: rows * chunks,
      count: "arrayLength(&partials)",
      body: `
  let row = i / ${chunks}u;
  let start = i % ${chunks}u * ${CHUNK}u;
  let first = row * ${columns}u + start;
  let end = first + min(${CHUNK}u, ${columns}u - start);
  var maximum = scores[first];
  for (var at = first + 1u; at < end; at++) { maximum = max(maximum, scores[at]); }${
        blockSums({
          element: "vec3f",
          first: "first",
          end: "end",
          setup: `let a = (scores[at] - maximum) * ${1 / temperature}; let t = targets[at];`,
          sums: { total: "vec3f(exp(a), t * a, t)" },
        })
      }
  partials[i] = vec4f(maximum * ${1 / temperature}, total);`,
    });
  });
}

/** Second pass. Buffers: partials, losses `[rows]`, summaries `[rows]` of (maximum, 1 / Σ exp, Σ T, 0). */
export function softmaxCrossEntropyCombine(shape: SoftmaxCrossEntropyShape): Kernel {
  return once(`cross-entropy combine ${nameOf(shape)}`, () => {
    const chunks = chunksOf(shape);
    return pointwise({
      label: `cross-entropy combine ${shape.rows}x${shape.columns}`,
      storage: [["partials", "read", "vec4f"], ["losses", "write"], ["summaries", "write", "vec4f"]],
      invocations: shape.rows,
      count: "arrayLength(&losses)",
      body: `
  let first = i * ${chunks}u;
  var maximum = partials[first].x;
  let end = first + ${chunks}u;
  for (var at = first + 1u; at < end; at++) { maximum = max(maximum, partials[at].x); }
  var total = vec3f(0);
  for (var at = first; at < end; at++) {
    let part = partials[at];
    let below = part.x - maximum;
    total += vec3f(part.y * exp(below), part.z + part.w * below, part.w);
  }
  losses[i] = ${shape.scale} * (total.z * log(total.x) - total.y);
  summaries[i] = vec4f(maximum, 1 / total.x, total.z, 0);`,
    });
  });
}

/** Third pass. Buffers: scores, targets, summaries, gradient towards the scores. */
export function softmaxCrossEntropyGradient(shape: SoftmaxCrossEntropyShape): Kernel {
  return once(`cross-entropy gradient ${nameOf(shape)}`, () => {
    const { rows, columns, temperature, scale } = shape;
    return pointwise({
      label: `cross-entropy gradient ${rows}x${columns}`,
      storage: [["scores", "read"], ["targets", "read"], ["summaries", "read", "vec4f"], ["result", "write"]],
      invocations: rows * columns,
      count: "arrayLength(&result)",
      body: `
  let summary = summaries[i / ${columns}u];
  let probability = exp(scores[i] * ${1 / temperature} - summary.x) * summary.y;
  result[i] = (summary.z * probability - targets[i]) * ${scale / temperature};`,
    });
  });
}

/** CPU reference in double precision: loss of each row, and the gradient towards the scores. */
export function softmaxCrossEntropyReference(
  inputs: { scores: Float32Array; targets: Float32Array },
  shape: SoftmaxCrossEntropyShape,
): { losses: Float32Array<ArrayBuffer>; gradient: Float32Array<ArrayBuffer> } {
  const { rows, columns, temperature, scale } = shape;
  const losses = new Float32Array(rows), gradient = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const a = Float64Array.from(inputs.scores.subarray(row * columns, (row + 1) * columns), (s) => s / temperature);
    const t = inputs.targets.subarray(row * columns, (row + 1) * columns);
    const maximum = a.reduce((x, y) => Math.max(x, y), -Infinity);
    const logSum = maximum + Math.log(a.reduce((sum, v) => sum + Math.exp(v - maximum), 0));
    const weight = t.reduce((sum, v) => sum + v, 0);
    let loss = 0;
    for (let k = 0; k < columns; k++) {
      loss -= t[k] * (a[k] - logSum);
      gradient[row * columns + k] = (weight * Math.exp(a[k] - logSum) - t[k]) * scale / temperature;
    }
    losses[row] = loss * scale;
  }
  return { losses, gradient };
}
