/**
 * What a peer library offers the benchmarks: arms for the same operations over the same data. Peers are loaded by name at
 * run time, so that neither type checks nor tests fetch them.
 */
import type { Conv2dShape } from "../../kernels/conv2d_shape.ts";
import type { MatmulShape } from "../../kernels/matmul.ts";
import type { Arm } from "../measure.ts";
import type { Operands, Pass, Sampled } from "../sampled.ts";

/** What is multiplied, and some values of the product. */
export interface PeerMatmul {
  readonly shape: MatmulShape;
  readonly left: Float32Array<ArrayBuffer>;
  readonly right: Float32Array<ArrayBuffer>;
  readonly expected: Sampled;
}

/** A convolution's pass over operands in our layouts, and some values of its result in our layout. */
export interface PeerConv2d {
  readonly shape: Conv2dShape;
  readonly pass: Pass;
  readonly operands: Operands;
  readonly expected: Sampled;
}

/** A peer library on one backend. */
export interface Peer {
  /** `"tfjs webgpu"`. */
  readonly name: string;
  readonly version: string;
  matmul(work: PeerMatmul): Promise<Arm> | Arm;
  conv2d(work: PeerConv2d): Promise<Arm> | Arm;
}

/** Peers' sums run in another order and some in blocks: an error above this is another result. */
export const PEER_ERROR_MAX = 1e-4;

/** The module of that name in the import map. */
export async function load<Module>(name: string): Promise<Module> {
  return await import(name) as Module;
}

/** `data` of `shape` with its axes in the order of `axes`. */
export function permute(
  data: Float32Array,
  shape: readonly number[],
  axes: readonly number[],
): Float32Array<ArrayBuffer> {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const result = new Float32Array(data.length);
  const sizes = axes.map((axis) => shape[axis]);
  const steps = axes.map((axis) => strides[axis]);
  const index = sizes.map(() => 0);
  let from = 0;
  for (let to = 0; to < result.length; to++) {
    result[to] = data[from];
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      from += steps[axis];
      if (++index[axis] < sizes[axis]) break;
      from -= steps[axis] * sizes[axis];
      index[axis] = 0;
    }
  }
  return result;
}
