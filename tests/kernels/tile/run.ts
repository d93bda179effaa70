/** Runs tile programs on plain arrays, with f16 buffers where the operation stores so. */
import type { Device, DeviceBuffer } from "../../../device/device.ts";
import type { Program, Storage } from "../../../kernels/variant.ts";

/** A buffer of a program: numbers to upload, or how many come out (filled with NaN before). */
export interface Bound {
  readonly data: Float32Array<ArrayBuffer> | number;
  readonly storage?: Storage;
}

/** The numbers as that storage keeps them. */
export function stored(data: Float32Array<ArrayBuffer>, storage: Storage): Float32Array<ArrayBuffer> {
  return storage === "f32" ? data : Float32Array.from(new Float16Array(data));
}

/** Runs a program; resolves to the contents of all its buffers by role, `partials` (any unnamed role) included. */
export async function runProgram<Role extends string>(
  device: Device,
  { launches, workspaceBytes, partialBytes = 0 }: Program<Role>,
  bound: Readonly<Partial<Record<Role, Bound>>>,
): Promise<Map<Role, Float32Array<ArrayBuffer>>> {
  const NaNs = (count: number) => new Float32Array(count).fill(NaN);
  const buffers = new Map<Role | "workspace", { buffer: DeviceBuffer; storage: Storage; length: number }>();
  const roles = new Set(launches.flatMap(({ buffers }) => buffers));
  for (const role of roles) {
    const given: Bound | undefined = role === "workspace" ? { data: workspaceBytes / 4 } : bound[role];
    const { data, storage = "f32" } = given ?? { data: partialBytes / 4 };
    const values = typeof data === "number" ? NaNs(data) : data;
    const bytes = storage === "f32" ? values : new Uint16Array(new Float16Array(values).buffer);
    buffers.set(role, { buffer: device.upload(bytes), storage, length: values.length });
  }
  const bufferOf = (role: Role | "workspace"): DeviceBuffer => {
    const found = buffers.get(role);
    if (found === undefined) throw new TypeError(`Cannot run the program: it binds "${role}", which is not given`);
    return found.buffer;
  };
  for (const { kernel, buffers: named } of launches) device.run(kernel, named.map(bufferOf));
  const kept = [...buffers].flatMap(([role, made]) => role === "workspace" ? [] : [{ role, ...made }]);
  const read = await device.read(kept.map(({ buffer, storage, length }) => ({
    buffer,
    byteLength: Math.ceil(length * (storage === "f32" ? 4 : 2) / 4) * 4,
  })));
  for (const { buffer } of buffers.values()) device.free(buffer);
  return new Map(kept.map(({ role, storage, length }, i) => [
    role,
    (storage === "f32" ? new Float32Array(read[i].buffer) : Float32Array.from(new Float16Array(read[i].buffer)))
      .slice(0, length),
  ]));
}
