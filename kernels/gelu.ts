/**
 * GELU in its exact form, `x · Φ(x)` with the normal distribution Φ through erf, as PyTorch's default, and its gradient.
 * It knows only elements.
 */
import type { Kernel } from "./kernel.ts";
import { once, pointwise } from "./wgsl.ts";

/**
 * WGSL: Φ(x) = erfc(−x/√2)/2 by the Chebyshev fit of erfc in Numerical Recipes (2nd ed., 6.2, `erfcc`), whose
 * fractional error is below 1.2e-7 everywhere.
 */
const PHI = `
fn phi(x: f32) -> f32 {
  let z = abs(x) * 0.70710678;
  let t = 1 / (1 + 0.5 * z);
  var p = t * 0.17087277 - 0.82215223;
  p = p * t + 1.48851587; p = p * t - 1.13520398; p = p * t + 0.27886807; p = p * t - 0.18628806;
  p = p * t + 0.09678418; p = p * t + 0.37409196; p = p * t + 1.00002368;
  let tail = 0.5 * t * exp(p * t - z * z - 1.26551223);
  return select(tail, 1 - tail, x > 0);
}`;

/** `x · Φ(x)`. Buffers: x, result. */
export function gelu(count: number): Kernel {
  return once(`gelu ${count}`, () =>
    pointwise({
      label: `gelu ${count}`,
      storage: [["x", "read"], ["result", "write"]],
      invocations: count,
      count: "arrayLength(&result)",
      prelude: PHI,
      body: "result[i] = x[i] * phi(x[i]);",
    }));
}

/** Gradient of {@linkcode gelu} from its input: `g · (Φ(x) + x φ(x))`. Buffers: upstream gradient, x, gradient. */
export function geluGradient(count: number): Kernel {
  return once(`gelu gradient ${count}`, () =>
    pointwise({
      label: `gelu gradient ${count}`,
      storage: [["g", "read"], ["x", "read"], ["result", "write"]],
      invocations: count,
      count: "arrayLength(&result)",
      prelude: PHI,
      body: "let v = x[i]; result[i] = g[i] * (phi(v) + v * 0.39894228 * exp(-0.5 * v * v));",
    }));
}

/** Φ(x) in double precision, by the all-positive series of erf (Abramowitz and Stegun 7.1.6). */
function normal(x: number): number {
  if (Math.abs(x) > 8) return x > 0 ? 1 : 0;
  let term = x, sum = x;
  for (let n = 3; Math.abs(term) > 1e-18 * Math.abs(sum); n += 2) sum += term *= x * x / n;
  return 0.5 + sum * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
}

/** CPU reference in double precision. */
export const geluReference = {
  gelu: (x: number): number => x * normal(x),
  geluGradient: (g: number, x: number): number => g * (normal(x) + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI)),
} as const;
