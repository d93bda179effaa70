/** Our kernels as an arm: one variant of a heavy operation over buffers of its own. */
import type { Device, DeviceBuffer } from "../device/device.ts";
import type { HeavyOperation, Variant } from "../kernels/variant.ts";
import type { Arm } from "./measure.ts";
import { type Sampled, sampledError } from "./sampled.ts";

/** An operation over given data. */
export interface Subject<Shape, Role extends string> {
  readonly operation: HeavyOperation<Shape, Role>;
  readonly shape: Shape;
  /** What each operand holds. */
  readonly operands: Readonly<Partial<Record<Role, Float32Array<ArrayBuffer>>>>;
  readonly result: Role;
  /** How operands and result are stored. */
  readonly half: boolean;
  /** Whether the result is f32 even where the operands are not. */
  readonly wideResult: boolean;
  readonly expected: Sampled;
  readonly errorMax: number;
}

/** The variants worth an arm: the one that a run here would use, and with `families` the first of every other family. */
export function ownVariants<Shape, Role extends string>(
  device: Device,
  { operation, shape }: Subject<Shape, Role>,
  families: boolean,
): { name: string; variant: Variant<Shape, Role> }[] {
  const capabilities = device.choices.capabilities;
  const usual = device.choices.variant(operation, shape);
  const chosen = [{ name: "ours", variant: usual }];
  if (!families) return chosen;
  for (const family of ["registers", "tile", "matrix"] as const) {
    const variant = operation.variants(shape).find((candidate) =>
      candidate.family === family && candidate.refuses(shape, capabilities) === undefined
    );
    if (family !== usual.family && variant !== undefined) chosen.push({ name: `ours ${family}`, variant });
  }
  return chosen;
}

/** Allocates what the variant binds and uploads the operands. */
export function openOwnArm<Shape, Role extends string>(
  device: Device,
  subject: Subject<Shape, Role>,
  { name, variant }: { name: string; variant: Variant<Shape, Role> },
): Arm {
  const { operation, shape, operands, result, half, wideResult, expected, errorMax } = subject;
  const { launches, workspaceBytes, partialBytes = 0 } = variant.program(shape, device.choices.capabilities);
  const bytes = operation.bufferBytes(shape);
  const largest = Math.max(workspaceBytes, ...Object.values<number | undefined>(bytes).map((size) => size ?? 0));
  const limit = device.adapter.limits.bindingBytesMax;
  if (largest > limit) throw new RangeError(`needs a binding of ${mib(largest)}, this adapter has ${mib(limit)}`);
  const buffers = new Map<string, DeviceBuffer>();
  const bufferOf = (role: Role | "workspace"): DeviceBuffer => {
    const known = buffers.get(role);
    if (known) return known;
    const data = role === "workspace" ? undefined : operands[role];
    const size = role === "workspace" ? workspaceBytes : bytes[role] ?? partialBytes;
    const buffer = data ? device.upload(half ? halves(data) : data) : device.allocate(size);
    buffers.set(role, buffer);
    return buffer;
  };
  const bound = launches.map(({ kernel, buffers: roles }) => ({ kernel, buffers: roles.map(bufferOf) }));
  const output = bufferOf(result);
  return {
    name,
    note: variant.name,
    errorMax,
    async run(repeats) {
      for (let i = 0; i < repeats; i++) for (const { kernel, buffers } of bound) device.run(kernel, buffers);
      await device.read([{ buffer: output, byteLength: 4 }]);
    },
    async check() {
      const [read] = await device.read([{ buffer: output }]);
      const found = half && !wideResult ? new Float16Array(read.buffer) : new Float32Array(read.buffer);
      return sampledError(found, expected);
    },
    dispose() {
      for (const buffer of buffers.values()) device.free(buffer);
    },
  };
}

/** `data` as f16, padded to whole words. */
function halves(data: Float32Array): Uint16Array<ArrayBuffer> {
  const padded = new Float16Array(data.length + data.length % 2);
  padded.set(data);
  return new Uint16Array(padded.buffer);
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
