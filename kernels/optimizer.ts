/**
 * One parameter tensor's update by SGD, LARC and AdamW, in place. What changes from step to step (learning rate, bias
 * corrections) comes in a small buffer, so that a kernel serves the whole run. It knows no schedule and no model.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, chunkRowsWgsl, chunksOf, once, pointwise, vectorOf } from "./wgsl.ts";

/** Constants of {@linkcode sgdUpdate}. */
export interface SgdConstants {
  readonly momentum: number;
  readonly weightDecay: number;
  readonly nesterov: boolean;
}

/** SGD as PyTorch's, no dampening. Buffers: gradient, scalars (learning rate), velocity, parameter. */
export function sgdUpdate(count: number, constants: SgdConstants): Kernel {
  const { momentum, weightDecay, nesterov } = constants;
  return once(`sgd ${count} ${momentum} ${weightDecay} ${nesterov}`, () => {
    const { element, width } = vectorOf(count);
    return pointwise({
      label: `sgd ${count}`,
      storage: [["gradient", "read", element], ["scalars", "read"], ["velocity", "write", element], [
        "parameter",
        "write",
        element,
      ]],
      invocations: count / width,
      count: "arrayLength(&parameter)",
      body: `
  let p = parameter[i];
  let g = gradient[i] + ${weightDecay} * p;
  let v = ${momentum} * velocity[i] + g;
  velocity[i] = v;
  parameter[i] = p - scalars[0] * ${nesterov ? `(g + ${momentum} * v)` : "v"};`,
    });
  });
}

/** Norms are summed as if over 8 lanes: up to 256 chunks. */
const LARC_LANES = 8;

/** Floats of the buffer of partial sums of {@linkcode larcNorms}. */
export function larcPartials(count: number): number {
  return 2 * larcChunks(count).chunks;
}

function larcChunks(count: number) {
  return chunksOf(count, LARC_LANES);
}

/** First pass of the two norms. Buffers: parameter, gradient, partials `[chunks]` of (Σ p², Σ g²). */
export function larcNorms(count: number): Kernel {
  return once(`larc norms ${count}`, () => {
    const { chunks } = larcChunks(count);
    return pointwise({
      label: `larc norms ${count}`,
      storage: [["parameter", "read"], ["gradient", "read"], ["partials", "write", "vec2f"]],
      invocations: chunks,
      count: "arrayLength(&partials)",
      body: `
  let rows = arrayLength(&parameter);
  ${chunkRowsWgsl(LARC_LANES)}
  let first = i * chunkRows;
  let end = min(first + chunkRows, rows);${
        blockSums({
          element: "vec2f",
          first: "first",
          end: "end",
          setup: "let pair = vec2f(parameter[at], gradient[at]);",
          sums: { total: "pair * pair" },
        })
      }
  partials[i] = total;`,
    });
  });
}

/** Constants of LARC around SGD (apex, clip off). */
export interface LarcConstants {
  readonly momentum: number;
  readonly weightDecay: number;
  readonly trustCoefficient: number;
  readonly epsilon: number;
}

/**
 * Second pass of the norms and the trust ratio of apex's LARC. Buffers: partials, ratio (factor of the gradient, factor
 * of the decayed weight): `(a, a·wd)` with `a = trust·‖p‖ / (‖g‖ + wd·‖p‖ + ε)`, or `(1, 0)` when a norm is zero.
 */
export function larcRatio(count: number, constants: LarcConstants): Kernel {
  const { weightDecay, trustCoefficient, epsilon } = constants;
  const { chunks } = larcChunks(count);
  return once(`larc ratio ${chunks} ${weightDecay} ${trustCoefficient} ${epsilon}`, () =>
    pointwise({
      label: `larc ratio of ${chunks} chunks`,
      storage: [["partials", "read", "vec2f"], ["ratio", "write", "vec2f"]],
      invocations: 1,
      count: "1u",
      body: `${
        blockSums({ element: "vec2f", first: "i", end: "i + arrayLength(&partials)", sums: { total: "partials[at]" } })
      }
  let norms = sqrt(total);
  let trust = ${trustCoefficient} * norms.x / (norms.y + ${weightDecay} * norms.x + ${epsilon});
  ratio[0] = select(vec2f(1, 0), vec2f(trust, trust * ${weightDecay}), norms.x > 0 && norms.y > 0);`,
    }));
}

/** `v ← momentum·v + a·g + a·wd·p; p ← p − lr·v`. Buffers: gradient, ratio, scalars (lr), velocity, parameter. */
export function larcUpdate(count: number, constants: LarcConstants): Kernel {
  return once(`larc update ${count} ${constants.momentum}`, () => {
    const { element, width } = vectorOf(count);
    return pointwise({
      label: `larc update ${count}`,
      storage: [
        ["gradient", "read", element],
        ["ratio", "read", "vec2f"],
        ["scalars", "read"],
        ["velocity", "write", element],
        ["parameter", "write", element],
      ],
      invocations: count / width,
      count: "arrayLength(&parameter)",
      body: `
  let p = parameter[i];
  let v = ${constants.momentum} * velocity[i] + (ratio[0].x * gradient[i] + ratio[0].y * p);
  velocity[i] = v;
  parameter[i] = p - scalars[0] * v;`,
    });
  });
}

/** Constants of {@linkcode adamwUpdate}. */
export interface AdamwConstants {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/**
 * AdamW as PyTorch's. Buffers: gradient, scalars (learning rate, 1 − β₁ᵗ, √(1 − β₂ᵗ)), first moment, second moment,
 * parameter.
 */
export function adamwUpdate(count: number, constants: AdamwConstants): Kernel {
  const { beta1, beta2, epsilon, weightDecay } = constants;
  return once(`adamw ${count} ${beta1} ${beta2} ${epsilon} ${weightDecay}`, () => {
    const { element, width } = vectorOf(count);
    return pointwise({
      label: `adamw ${count}`,
      storage: [
        ["gradient", "read", element],
        ["scalars", "read"],
        ["first", "write", element],
        ["second", "write", element],
        ["parameter", "write", element],
      ],
      invocations: count / width,
      count: "arrayLength(&parameter)",
      body: `
  let g = gradient[i];
  let rate = scalars[0];
  let m = ${beta1} * first[i] + ${1 - beta1} * g;
  let v = ${beta2} * second[i] + ${1 - beta2} * g * g;
  first[i] = m;
  second[i] = v;
  let kept = parameter[i] * (1 - rate * ${weightDecay});
  parameter[i] = kept - rate / scalars[1] * m / (sqrt(v) / scalars[2] + ${epsilon});`,
    });
  });
}

/** CPU reference of one LARC step in double precision; updates `parameter` and `velocity` in place. */
export function larcReference(
  state: { parameter: Float32Array; velocity: Float32Array; gradient: Float32Array },
  options: LarcConstants & { learningRate: number },
): void {
  const { parameter, velocity, gradient } = state;
  const { momentum, weightDecay, trustCoefficient, epsilon, learningRate } = options;
  const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
  const p = norm(parameter), g = norm(gradient);
  const trust = p > 0 && g > 0 ? trustCoefficient * p / (g + weightDecay * p + epsilon) : undefined;
  for (let i = 0; i < parameter.length; i++) {
    const step = trust === undefined ? gradient[i] : trust * (gradient[i] + weightDecay * parameter[i]);
    velocity[i] = momentum * velocity[i] + step;
    parameter[i] -= learningRate * velocity[i];
  }
}

/** CPU reference of one SGD step; updates `parameter` and `velocity` in place. */
export function sgdReference(
  state: { parameter: Float32Array; velocity: Float32Array; gradient: Float32Array },
  options: SgdConstants & { learningRate: number },
): void {
  const { parameter, velocity, gradient } = state;
  const { momentum, weightDecay, nesterov, learningRate } = options;
  for (let i = 0; i < parameter.length; i++) {
    const g = gradient[i] + weightDecay * parameter[i];
    const v = momentum * velocity[i] + g;
    velocity[i] = v;
    parameter[i] -= learningRate * (nesterov ? g + momentum * v : v);
  }
}

/** CPU reference of AdamW's step number `step` (from 1); updates all but the gradient in place. */
export function adamwReference(
  state: { parameter: Float32Array; first: Float32Array; second: Float32Array; gradient: Float32Array },
  options: AdamwConstants & { learningRate: number; step: number },
): void {
  const { parameter, first, second, gradient } = state;
  const { beta1, beta2, epsilon, weightDecay, learningRate, step } = options;
  for (let i = 0; i < parameter.length; i++) {
    first[i] = beta1 * first[i] + (1 - beta1) * gradient[i];
    second[i] = beta2 * second[i] + (1 - beta2) * gradient[i] ** 2;
    const divisor = Math.sqrt(second[i]) / Math.sqrt(1 - beta2 ** step) + epsilon;
    parameter[i] = parameter[i] * (1 - learningRate * weightDecay) -
      learningRate / (1 - beta1 ** step) * first[i] / divisor;
  }
}
