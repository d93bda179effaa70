/**
 * Comparison and made-up data for kernel tests: the relative error ‖ours − reference‖ / ‖reference‖, and values that are
 * the same in every run.
 */
import { assert } from "@std/assert";

/** `length` values in [−1, 1), the same for the same seed (splitmix32). */
export function madeUp(length: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed * 0x9e3779b9;
  return Float32Array.from({ length }, () => {
    state = (state + 0x9e3779b9) | 0;
    let bits = state ^ (state >>> 16);
    bits = Math.imul(bits, 0x21f0aaad);
    bits ^= bits >>> 15;
    bits = Math.imul(bits, 0x735a2d97);
    return ((bits ^ (bits >>> 15)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Relative error ‖ours − reference‖ / ‖reference‖. */
export function relativeError(ours: ArrayLike<number>, reference: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let index = 0; index < reference.length; index++) {
    difference += (ours[index] - reference[index]) ** 2;
    norm += reference[index] ** 2;
  }
  return Math.sqrt(difference) / Math.max(Math.sqrt(norm), Number.MIN_VALUE);
}

/** Fails when the lengths differ, or the relative error is above `bound` or not a number. */
export function assertClose(
  ours: ArrayLike<number>,
  reference: ArrayLike<number>,
  { bound = 1e-6, what = "the result" }: { bound?: number; what?: string } = {},
): void {
  assert(ours.length === reference.length, `${what} has ${ours.length} values, the reference ${reference.length}`);
  const error = relativeError(ours, reference);
  assert(error <= bound, `${what} is off by ${error.toExponential(2)} of its norm, allowed ${bound.toExponential(0)}`);
}
