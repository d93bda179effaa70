/**
 * Binary cross-entropy of logits z against marks t `[rows, columns]`, for images that show several classes: row i loses
 * `scale · Σ_k max(z, 0) − z t + log(1 + exp(−|z|))`, its gradient is `(sigmoid(z) − t) · scale`. A mark below 0 leaves
 * its place out of both. It knows no class and no image.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, once, pointwise } from "./wgsl.ts";

/** Static shape and constants of the loss. */
export interface SigmoidCrossEntropyShape {
  readonly rows: number;
  readonly columns: number;
  /** Factor of every row's loss. */
  readonly scale: number;
}

const nameOf = ({ rows, columns, scale }: SigmoidCrossEntropyShape) => `${rows}x${columns} scale ${scale}`;

/** Loss of each row. Buffers: logits, marks, losses `[rows]`. */
export function sigmoidCrossEntropy(shape: SigmoidCrossEntropyShape): Kernel {
  return once(`sigmoid cross-entropy ${nameOf(shape)}`, () => {
    const { rows, columns, scale } = shape;
    return pointwise({
      label: `sigmoid cross-entropy ${rows}x${columns}`,
      storage: [["logits", "read"], ["marks", "read"], ["losses", "write"]],
      invocations: rows,
      count: "arrayLength(&losses)",
      body: `${
        blockSums({
          element: "f32",
          first: `i * ${columns}u`,
          end: `(i + 1u) * ${columns}u`,
          setup: "let z = logits[at]; let t = marks[at];",
          sums: { total: "select(max(z, 0.0) - z * t + log(1.0 + exp(-abs(z))), 0.0, t < 0.0)" },
        })
      }
  losses[i] = total * ${scale};`,
    });
  });
}

/** Gradient towards the logits of the rows' sum. Buffers: logits, marks, result. */
export function sigmoidCrossEntropyGradient(shape: SigmoidCrossEntropyShape): Kernel {
  return once(`sigmoid cross-entropy gradient ${nameOf(shape)}`, () => {
    const { rows, columns, scale } = shape;
    return pointwise({
      label: `sigmoid cross-entropy gradient ${rows}x${columns}`,
      storage: [["logits", "read"], ["marks", "read"], ["result", "write"]],
      invocations: rows * columns,
      count: "arrayLength(&result)",
      body: `
  let t = marks[i];
  result[i] = select((1.0 / (1.0 + exp(-logits[i])) - t) * ${scale}, 0.0, t < 0.0);`,
    });
  });
}

/** Both kernels on the CPU, in double precision. */
export function sigmoidCrossEntropyReference(
  { logits, marks }: { logits: Float32Array; marks: Float32Array },
  { rows, columns, scale }: SigmoidCrossEntropyShape,
): { losses: Float32Array<ArrayBuffer>; gradient: Float32Array<ArrayBuffer> } {
  const losses = new Float64Array(rows), gradient = new Float32Array(rows * columns);
  logits.forEach((z, at) => {
    if (marks[at] < 0) return;
    losses[Math.floor(at / columns)] += scale * (Math.max(z, 0) - z * marks[at] + Math.log1p(Math.exp(-Math.abs(z))));
    gradient[at] = scale * (1 / (1 + Math.exp(-z)) - marks[at]);
  });
  return { losses: Float32Array.from(losses), gradient };
}
