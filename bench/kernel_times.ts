/**
 * How long each kernel of a computation takes: what it launches is written down, and every kernel run by itself several
 * times between two readbacks, whose fixed cost is subtracted. It knows no operation.
 */
import type { Device } from "../device/device.ts";
import type { Kernel } from "../kernels/kernel.ts";

/** All launches of the kernels with one label. */
export interface KernelTime {
  readonly label: string;
  readonly calls: number;
  /** Of all calls together. */
  readonly ms: number;
}

/** Computes once, then times each kernel that ran. Contents of buffers are zeros, whatever they were. */
export async function kernelTimes(
  device: Device,
  compute: () => Promise<unknown>,
  { repeats = 10 }: { repeats?: number } = {},
): Promise<KernelTime[]> {
  // Kernels over several tensors are launched with buffers of other sizes each time.
  const uses = new Map<string, { kernel: Kernel; calls: number; bytes: readonly number[] }>();
  const ids = new Map<Kernel, number>();
  const run = device.run.bind(device);
  device.run = (kernel, buffers) => {
    const id = ids.get(kernel) ?? ids.size;
    ids.set(kernel, id);
    const bytes = buffers.map(({ byteLength }) => byteLength);
    const key = [id, ...bytes].join();
    const { calls } = uses.get(key) ?? { calls: 0 };
    uses.set(key, { kernel, calls: calls + 1, bytes });
    run(kernel, buffers);
  };
  try {
    await compute();
  } finally {
    Reflect.deleteProperty(device, "run");
  }
  const probe = device.allocate(4);
  const wait = () => device.read([{ buffer: probe }]);
  await wait();
  const fixed = Math.min(await elapsed(wait), await elapsed(wait), await elapsed(wait));
  const times = new Map<string, KernelTime>();
  for (const { kernel, calls, bytes } of uses.values()) {
    const buffers = bytes.map((size) => device.allocate(size));
    for (const buffer of buffers) device.clear(buffer);
    await wait();
    const ms = await elapsed(async () => {
      for (let i = 0; i < repeats; i++) run(kernel, buffers);
      await wait();
    });
    for (const buffer of buffers) device.free(buffer);
    const { label } = kernel;
    const known = times.get(label) ?? { label, calls: 0, ms: 0 };
    times.set(label, { label, calls: known.calls + calls, ms: known.ms + calls * Math.max(0, ms - fixed) / repeats });
  }
  device.free(probe);
  return [...times.values()].sort((a, b) => b.ms - a.ms);
}

async function elapsed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
