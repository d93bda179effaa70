/** Elements of weights as f32, which is what a model takes. */
import { f32Of, type SafeTensor } from "../checkpoint/safetensors.ts";
import type { StateDict } from "../nn/state_dict.ts";
import { WeightsError } from "./error.ts";

/**
 * The elements of a float tensor as f32; halves exactly, doubles rounded.
 *
 * @throws {WeightsError} for integers.
 */
export function floatsOf(tensor: SafeTensor): Float32Array<ArrayBuffer> {
  const { dtype } = tensor;
  if (dtype === "F32") return f32Of(tensor);
  // A copy starts where every element type may.
  const { buffer } = tensor.bytes.slice();
  if (dtype === "F16") return new Float32Array(new Float16Array(buffer));
  if (dtype === "F64") return new Float32Array(new Float64Array(buffer));
  if (dtype === "BF16") {
    const halves = new Uint16Array(buffer);
    return new Float32Array(Uint32Array.from(halves, (half) => half << 16 >>> 0).buffer);
  }
  throw new WeightsError(`Cannot use a tensor of ${dtype} as weights: it must be F32, F16, BF16 or F64`);
}

/** Weights as a model loads them, without counters of batches. `prefix` is left off, e.g. `trunk.`, and chooses by it. */
export function stateDictOf(tensors: ReadonlyMap<string, SafeTensor>, prefix = ""): StateDict {
  const chosen = [...tensors].filter(([name]) => name.startsWith(prefix) && !name.endsWith(".num_batches_tracked"));
  return new Map(chosen.map(([name, tensor]) => [
    name.slice(prefix.length),
    { shape: tensor.shape, data: floatsOf(tensor) },
  ]));
}
