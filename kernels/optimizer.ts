/**
 * Updates of parameter tensors by SGD, LARC and AdamW, in place, and what they need of gradients: their sum over replicas
 * and whether they are finite. A launch takes several tensors. What changes from step to step (learning rate, bias
 * corrections, loss scale) comes in a small buffer, so that a kernel serves the whole run. It knows no schedule and no
 * model.
 *
 * A scaled update takes gradients that carry a loss scale: the last of `scalars` is its inverse, and nothing is written
 * where `overflow` is not zero.
 */
import { grouped } from "./grouped.ts";
import type { Kernel } from "./kernel.ts";
import { blockSums, chunkRowsWgsl, once, pointwise, type Storage } from "./wgsl.ts";

/** What tells one launch of an update from another. */
export interface UpdateLaunch {
  /** Elements of each tensor in the launch. */
  readonly sizes: readonly number[];
  /** Whether gradients carry a loss scale. */
  readonly scaled: boolean;
}

/** WGSL of a scaled or plain update; `scalars` numbers come before the inverse scale. */
function scaling(scaled: boolean, scalars: number): { gradient: string; shared: Storage[]; before: string } {
  if (!scaled) return { gradient: "gradient@[i]", shared: [], before: "" };
  return {
    gradient: `(gradient@[i] * scalars[${scalars}])`,
    shared: [["overflow", "read", "u32"]],
    before: "if (overflow[0] != 0u) { return; }",
  };
}

/** Constants of {@linkcode sgdUpdate}. */
export interface SgdConstants {
  readonly momentum: number;
  readonly weightDecay: number;
  readonly nesterov: boolean;
}

/**
 * SGD as PyTorch's, no dampening. Buffers: scalars (learning rate), [overflow]; of each tensor: gradient, velocity,
 * parameter.
 */
export function sgdUpdate({ sizes, scaled }: UpdateLaunch, constants: SgdConstants): Kernel {
  const { momentum, weightDecay, nesterov } = constants;
  const { gradient, shared, before } = scaling(scaled, 1);
  return grouped({
    label: `sgd ${momentum} ${weightDecay} ${nesterov} scaled ${scaled}`,
    shared: [["scalars", "read"], ...shared],
    each: [["gradient", "read"], ["velocity", "write"], ["parameter", "write"]],
    invocations: sizes,
    count: "arrayLength(&parameter@)",
    before,
    body: `
        let p = parameter@[i];
        let g = ${gradient} + ${weightDecay} * p;
        let v = ${momentum} * velocity@[i] + g;
        velocity@[i] = v;
        parameter@[i] = p - scalars[0] * ${nesterov ? `(g + ${momentum} * v)` : "v"};`,
  });
}

/** Norms are summed as if over 8 lanes: up to 256 chunks. */
const LARC_LANES = 8;
const LARC_CHUNKS_MAX = 256;

/** Floats that {@linkcode larcNorms} writes for each tensor. */
export const LARC_PARTIALS = 2 * LARC_CHUNKS_MAX;

/**
 * First pass of the two norms. Buffers: scalars, first (number of the launch's first tensor), partials
 * `[tensors, 256]` of (Σ p², Σ g²); of each tensor: parameter, gradient.
 */
export function larcNorms({ sizes, scaled }: UpdateLaunch): Kernel {
  const term = scaled ? "gradient@[at] * scalars[1]" : "gradient@[at]";
  const sums = blockSums({
    element: "vec2f",
    first: "begin",
    end: "min(begin + chunkRows, rows)",
    setup: `let pair = vec2f(parameter@[at], ${term});`,
    sums: { total: "pair * pair" },
  });
  return grouped({
    label: `larc norms scaled ${scaled}`,
    shared: [["scalars", "read"], ["first", "read", "u32"], ["partials", "write", "vec2f"]],
    each: [["parameter", "read"], ["gradient", "read"]],
    invocations: sizes.map(() => LARC_CHUNKS_MAX),
    count: `${LARC_CHUNKS_MAX}u`,
    body: `
        let rows = arrayLength(&parameter@);
        ${chunkRowsWgsl(LARC_LANES)}
        let begin = i * chunkRows;
        ${sums}
        partials[(first[0] + tensor) * ${LARC_CHUNKS_MAX}u + i] = total;`,
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
 * Second pass of the norms and the trust ratio of apex's LARC, for `tensors` tensors at once. Buffers: partials, ratios
 * (factor of the gradient, factor of the decayed weight): `(a, a·wd)` with `a = trust·‖p‖ / (‖g‖ + wd·‖p‖ + ε)`, or
 * `(1, 0)` when a norm is zero.
 */
export function larcRatio(tensors: number, constants: LarcConstants): Kernel {
  const { weightDecay, trustCoefficient, epsilon } = constants;
  return once(`larc ratio ${tensors} ${weightDecay} ${trustCoefficient} ${epsilon}`, () =>
    pointwise({
      label: `larc ratio of ${tensors} tensors`,
      storage: [["partials", "read", "vec2f"], ["ratios", "write", "vec2f"]],
      invocations: tensors,
      count: "arrayLength(&ratios)",
      body: `${
        blockSums({
          element: "vec2f",
          first: `i * ${LARC_CHUNKS_MAX}u`,
          end: `(i + 1u) * ${LARC_CHUNKS_MAX}u`,
          sums: { total: "partials[at]" },
        })
      }
  let norms = sqrt(total);
  let trust = ${trustCoefficient} * norms.x / (norms.y + ${weightDecay} * norms.x + ${epsilon});
  ratios[i] = select(vec2f(1, 0), vec2f(trust, trust * ${weightDecay}), norms.x > 0 && norms.y > 0);`,
    }));
}

/**
 * `v ← momentum·v + a·g + a·wd·p; p ← p − lr·v`. Buffers: scalars (learning rate), first, ratios, [overflow]; of each
 * tensor: gradient, velocity, parameter.
 */
export function larcUpdate({ sizes, scaled }: UpdateLaunch, { momentum }: LarcConstants): Kernel {
  const { gradient, shared, before } = scaling(scaled, 1);
  return grouped({
    label: `larc update ${momentum} scaled ${scaled}`,
    shared: [["scalars", "read"], ["first", "read", "u32"], ["ratios", "read", "vec2f"], ...shared],
    each: [["gradient", "read"], ["velocity", "write"], ["parameter", "write"]],
    invocations: sizes,
    count: "arrayLength(&parameter@)",
    before: `${before} let ratio = ratios[first[0] + tensor];`,
    body: `
        let p = parameter@[i];
        let v = ${momentum} * velocity@[i] + (ratio.x * ${gradient} + ratio.y * p);
        velocity@[i] = v;
        parameter@[i] = p - scalars[0] * v;`,
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
 * AdamW as PyTorch's. Buffers: scalars (learning rate, 1 − β₁ᵗ, √(1 − β₂ᵗ)), [overflow]; of each tensor: gradient, first
 * moment, second moment, parameter.
 */
export function adamwUpdate({ sizes, scaled }: UpdateLaunch, constants: AdamwConstants): Kernel {
  const { beta1, beta2, epsilon, weightDecay } = constants;
  const { gradient, shared, before } = scaling(scaled, 3);
  return grouped({
    label: `adamw ${beta1} ${beta2} ${epsilon} ${weightDecay} scaled ${scaled}`,
    shared: [["scalars", "read"], ...shared],
    each: [["gradient", "read"], ["first", "write"], ["second", "write"], ["parameter", "write"]],
    invocations: sizes,
    count: "arrayLength(&parameter@)",
    before,
    body: `
        let g = ${gradient};
        let rate = scalars[0];
        let m = ${beta1} * first@[i] + ${1 - beta1} * g;
        let v = ${beta2} * second@[i] + ${1 - beta2} * g * g;
        first@[i] = m;
        second@[i] = v;
        let kept = parameter@[i] * (1 - rate * ${weightDecay});
        parameter@[i] = kept - rate / scalars[1] * m / (sqrt(v) / scalars[2] + ${epsilon});`,
  });
}

/** Sets `overflow` to 1 where a number of any tensor is infinite or none. Buffers: overflow; of each tensor: values. */
export function findOverflow(sizes: readonly number[]): Kernel {
  return grouped({
    label: "find overflow",
    shared: [["overflow", "write", "atomic<u32>"]],
    each: [["values", "read", "u32"]],
    invocations: sizes,
    count: "arrayLength(&values@)",
    // The exponent bits alone, because a compiler may take it that no number is infinite.
    body: "if ((values@[i] & 0x7f800000u) == 0x7f800000u) { atomicOr(&overflow[0], 1u); }",
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
