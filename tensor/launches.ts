/**
 * Launches of kernels over many tensors (kernels/grouped.ts): as many tensors in each as the device can bind, and the
 * small numbers that tell a launch where it starts. It knows no operation.
 */
import type { Device, DeviceBuffer } from "../device/device.ts";

/** Tensors in a launch at most: enough to make launches few, few enough to compile quickly. */
const TENSORS_MAX = 10;

/** Hands the items over in as few launches as the device's bindings allow, each with the index of its first item. */
export function inLaunches<Item>(
  items: readonly Item[],
  { device, shared, each }: { device: Device; shared: number; each: number },
  run: (some: readonly Item[], first: number) => void,
): void {
  const most = Math.max(1, Math.min(TENSORS_MAX, Math.floor((device.adapter.limits.bindingsMax - shared) / each)));
  for (let first = 0; first < items.length; first += most) run(items.slice(first, first + most), first);
}

/** Buffers that hold their own key, for launches that start at that tensor; kept for the device's life. */
const numbersOf = new WeakMap<Device, Map<number, DeviceBuffer>>();

/** A buffer of the device that holds `value` as u32, the caller's to read only. */
export function numberOn(device: Device, value: number): DeviceBuffer {
  const known = numbersOf.get(device) ?? new Map<number, DeviceBuffer>();
  numbersOf.set(device, known);
  const buffer = known.get(value) ?? device.upload(Uint32Array.of(value));
  known.set(value, buffer);
  return buffer;
}
