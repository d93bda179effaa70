/**
 * A tensor: a device buffer with a shape. Moving numbers in and out of the device happens here; arithmetic and gradients
 * do not.
 */
import type { Device, DeviceBuffer } from "../device/device.ts";
import type { Storage } from "../kernels/variant.ts";

export type { Storage };

/** Dense row-major numbers on a device. Whoever created it frees it; a {@linkcode Tape} frees what its ops created. */
export interface Tensor {
  readonly device: Device;
  readonly buffer: DeviceBuffer;
  readonly shape: readonly number[];
  readonly dtype: Storage;
  /** Number of elements. */
  readonly size: number;
  /** Whether a tape that reads this tensor as a leaf (a parameter) computes its gradient. */
  readonly requiresGradient: boolean;
}

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const extent of shape) size *= extent;
  return size;
}

/** Bytes of one number. */
export function bytesOf(dtype: Storage): 2 | 4 {
  return dtype === "f16" ? 2 : 4;
}

/** Wraps a buffer. */
export function tensorOver(
  device: Device,
  buffer: DeviceBuffer,
  options: { shape: readonly number[]; requiresGradient?: boolean; dtype?: Storage },
): Tensor {
  const { shape, requiresGradient = false, dtype = "f32" } = options;
  return { device, buffer, shape, dtype, size: sizeOf(shape), requiresGradient };
}

/**
 * Uploads `data`, row-major, as a tensor of `shape`.
 *
 * @throws {RangeError} When the shape does not hold exactly `data.length` elements.
 */
export function tensorFrom(
  device: Device,
  data: Float32Array<ArrayBuffer>,
  shape: readonly number[],
  options: { requiresGradient?: boolean } = {},
): Tensor {
  if (sizeOf(shape) !== data.length) {
    throw new RangeError(
      `Cannot make a tensor: shape [${shape.join(", ")}] must hold the ${data.length} numbers given, it holds ${
        sizeOf(shape)
      }`,
    );
  }
  return tensorOver(device, device.upload(data), { shape, ...options });
}

/** A tensor of zeros. */
export function zeros(device: Device, shape: readonly number[], options: { requiresGradient?: boolean } = {}): Tensor {
  const buffer = device.allocate(4 * sizeOf(shape));
  device.clear(buffer);
  return tensorOver(device, buffer, { shape, ...options });
}

/** Fetches all the tensors, which lie on one device, in a single readback. */
export async function readTensors(tensors: readonly Tensor[]): Promise<Float32Array<ArrayBuffer>[]> {
  if (tensors.length === 0) return [];
  const parts = await tensors[0].device.read(
    tensors.map(({ buffer, size, dtype }) => ({ buffer, byteLength: bytesOf(dtype) * size })),
  );
  return parts.map((bytes, i) => {
    const { size, dtype } = tensors[i];
    return dtype === "f16"
      ? Float32Array.from(new Float16Array(bytes.buffer, bytes.byteOffset, size))
      : new Float32Array(bytes.buffer, bytes.byteOffset, size);
  });
}

/** Gives the tensors' buffers back to their device. */
export function freeTensors(tensors: Iterable<Tensor>): void {
  for (const { device, buffer } of tensors) device.free(buffer);
}
