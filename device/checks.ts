/**
 * What is checked and converted before anything reaches the GPU; plain functions that know no GPU object.
 */
import type { Kernel } from "../kernels/kernel.ts";
import type { AdapterDescription, DeviceBuffer, HostArray } from "./device.ts";
import { DeviceError } from "./errors.ts";

/** WebGPU's bound on workgroups per dimension. */
const WORKGROUPS_MAX = 65_535;

/** The kernel, or what it names for devices without its features. */
export function variantFor(kernel: Kernel, adapter: AdapterDescription): Kernel {
  const missing = (kernel.requires ?? []).filter((feature) => !adapter.features.includes(feature));
  if (missing.length === 0) return kernel;
  if (kernel.otherwise) return variantFor(kernel.otherwise, adapter);
  throw new DeviceError(
    `Cannot run "${kernel.label}" on "${adapter.name}": it lacks the feature ${
      missing.join(", ")
    }; use another provider`,
  );
}

/** The kernel's text with the directives that its features need; on the first line, so that line numbers stay. */
export function enabling(
  { wgsl, requires = [] }: Kernel,
  { provider }: Pick<AdapterDescription, "provider">,
): string {
  const names = {
    "f16": "f16",
    "subgroups": "subgroups",
    "subgroup-size-control": "subgroup_size_control",
    "subgroup-matrix": "chromium_experimental_subgroup_matrix",
  };
  // wgpu has subgroups without the directive, and refuses it (gfx-rs/wgpu#5555).
  const wanted = requires.filter((feature) => !(provider === "deno" && feature === "subgroups"));
  return wanted.map((feature) => `enable ${names[feature]}; `).join("") + wgsl;
}

/** Throws when a dimension of the kernel's grid is outside WebGPU's bounds. */
export function checkGrid({ label, workgroups }: Kernel): void {
  if (workgroups.some((count) => !(Number.isInteger(count) && count >= 1 && count <= WORKGROUPS_MAX))) {
    throw new RangeError(
      `Cannot run "${label}" on ${workgroups.join("×")} workgroups: each dimension must be 1 to ${WORKGROUPS_MAX}`,
    );
  }
}

/** Throws when `buffers` cannot be bound to the kernel: their number, their sizes, or one both read and written. */
export function checkBindings(
  { label, bindings }: Kernel,
  { buffers, bindingBytesMax }: { buffers: readonly DeviceBuffer[]; bindingBytesMax: number },
): void {
  if (buffers.length !== bindings.length) {
    throw new TypeError(`Cannot run "${label}": it binds ${bindings.length} buffers, and got ${buffers.length}`);
  }
  for (const [index, buffer] of buffers.entries()) {
    if (buffer.byteLength > bindingBytesMax) {
      throw new RangeError(
        `Cannot run "${label}": buffer ${index} has ${buffer.byteLength} bytes, the adapter binds at most ` +
          `${bindingBytesMax}; use a smaller batch`,
      );
    }
    const other = buffers.indexOf(buffer);
    if (other < index && (bindings[other] === "write" || bindings[index] === "write")) {
      throw new TypeError(`Cannot run "${label}": buffers ${other} and ${index} are the same one, and one is written`);
    }
  }
}

/** The data with zeros up to a multiple of 4 bytes, which is what a queue writes. */
export function paddedToWords(data: HostArray): HostArray {
  if (data.byteLength % 4 === 0) return data;
  const padded = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
  padded.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return padded;
}

/** The text of whatever was thrown. */
export function messageOf(cause: unknown): string {
  const carriesMessage = typeof cause === "object" && cause !== null && "message" in cause;
  return String(carriesMessage ? cause.message : cause);
}

/** The message of an uncaptured error's event, whose class differs between the providers. */
export function errorOf(event: Event): string {
  return "error" in event ? messageOf(event.error) : event.type;
}
