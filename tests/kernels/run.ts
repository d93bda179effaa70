/** Runs single kernels on plain arrays, and compares arrays. */
import type { Device, DeviceBuffer } from "../../device/device.ts";
import type { Kernel } from "../../kernels/kernel.ts";

/** An argument of {@linkcode runKernel}: numbers to upload, or the number of floats of a buffer filled with NaN. */
export type Argument = Float32Array<ArrayBuffer> | number;

/** Runs a kernel; resolves to the contents of all buffers afterwards, in binding order. */
export async function runKernel(
  device: Device,
  kernel: Kernel,
  given: readonly Argument[],
): Promise<Float32Array<ArrayBuffer>[]> {
  return await runKernels(device, given, [[kernel, given.map((_, i) => i)]]);
}

/** Runs kernels over shared buffers, each naming its buffers by index. Resolves to the contents of all buffers. */
export async function runKernels(
  device: Device,
  given: readonly Argument[],
  calls: readonly (readonly [Kernel, readonly number[]])[],
): Promise<Float32Array<ArrayBuffer>[]> {
  const arrays = given.map((argument) =>
    typeof argument === "number" ? new Float32Array(argument).fill(NaN) : argument
  );
  const buffers: DeviceBuffer[] = arrays.map((array) => device.upload(array));
  for (const [kernel, indices] of calls) device.run(kernel, indices.map((index) => buffers[index]));
  const bytes = await device.read(buffers.map((buffer, i) => ({ buffer, byteLength: arrays[i].byteLength })));
  for (const buffer of buffers) device.free(buffer);
  return bytes.map((part) => new Float32Array(part.buffer, part.byteOffset, part.byteLength / 4));
}

/** Numbers in [-1, 1) that look random and depend on `seed` alone. */
export function numbers(count: number, seed: number): Float32Array<ArrayBuffer> {
  let state = (seed * 2_654_435_761 + 12_345) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 31 - 1;
  });
}

/** ‖ours − reference‖ / ‖reference‖; the plain distance when the reference is zero. */
export function relativeError(ours: ArrayLike<number>, reference: ArrayLike<number>): number {
  if (ours.length !== reference.length) {
    throw new RangeError(`Cannot compare: lengths must agree, they are ${ours.length} and ${reference.length}`);
  }
  let difference = 0, size = 0;
  for (let i = 0; i < ours.length; i++) {
    difference += (ours[i] - reference[i]) ** 2;
    size += reference[i] ** 2;
  }
  return size === 0 ? Math.sqrt(difference) : Math.sqrt(difference / size);
}

/** Throws unless `ours` is within `bound` (relative error) of `reference`. */
export function assertClose(
  ours: ArrayLike<number>,
  reference: ArrayLike<number>,
  { bound, what }: { bound: number; what: string },
): void {
  const error = relativeError(ours, reference);
  if (!(error <= bound)) throw new Error(`${what}: relative error must be at most ${bound}, it is ${error}`);
}
