/**
 * The interface of a device that runs kernels: buffers, dispatch in order, readback. The two WebGPU providers (Deno's own
 * and Dawn) stand behind it and pass one exam (`tests/device/device_exam.ts`). It knows no tensor, gradient or message.
 */
import type { Kernel, KernelFeature } from "../kernels/kernel.ts";
import type { MatrixConfiguration } from "../kernels/variant.ts";
import type { ChoiceRecord, KernelChoices } from "./choices.ts";

/** Which WebGPU implementation runs the kernels. */
export type Provider = "deno" | "dawn";

/** What is known of an adapter before a device is opened on it. */
export interface AdapterDescription {
  readonly provider: Provider;
  /** The driver's name for the adapter, e.g. `"llvmpipe (LLVM 15.0.6, 256 bits)"`. */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** `cpu` for software adapters (lavapipe, SwiftShader), `gpu` otherwise; it decides which kernel variants are used. */
  readonly kind: "cpu" | "gpu";
  readonly features: readonly KernelFeature[];
  /** Lanes of a subgroup, least and most; 0 where there are no subgroups. */
  readonly subgroupSizes: readonly [min: number, max: number];
  /** What the matrix units multiply; empty where there are none or the provider hides them. */
  readonly matrices: readonly MatrixConfiguration[];
  readonly limits: {
    readonly bufferBytesMax: number;
    readonly bindingBytesMax: number;
    readonly bindingsMax: number;
    readonly workgroupBytesMax: number;
    readonly workgroupInvocationsMax: number;
  };
}

/** Bytes of device memory held by this device's buffers, pooled ones included in `reservedBytes`. */
export interface MemoryUse {
  readonly liveBytes: number;
  readonly peakBytes: number;
  readonly reservedBytes: number;
}

/** A storage buffer on the device. Its contents are undefined until written. */
export interface DeviceBuffer {
  readonly id: number;
  /** Usable size; always a multiple of 4. */
  readonly byteLength: number;
}

/** A typed array over plain (unshared) memory. */
export type HostArray =
  | Float32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

/**
 * One GPU (or software adapter). Commands take effect in the order they are given, uploads and copies included; `read`
 * sees everything given before it. Nothing here is thread-safe, and awaiting {@linkcode Device.read} may block the
 * JavaScript thread, so a device belongs in a Worker.
 */
export interface Device {
  readonly adapter: AdapterDescription;
  readonly memory: MemoryUse;
  /** Which variants of heavy operations run here. */
  readonly choices: KernelChoices;
  /** A buffer from the pool, at least `byteLength` bytes; contents undefined. */
  allocate(byteLength: number): DeviceBuffer;
  /** A new buffer holding `data`. */
  upload(data: HostArray): DeviceBuffer;
  /** Overwrites the start of `buffer`. */
  write(buffer: DeviceBuffer, data: HostArray): void;
  /** Sets `byteLength` bytes (default all) of `buffer` to zero. */
  clear(buffer: DeviceBuffer): void;
  /** Runs `kernel` over `buffers`, which match `kernel.bindings` one by one. */
  run(kernel: Kernel, buffers: readonly DeviceBuffer[]): void;
  /** Copies bytes; offsets and length are multiples of 4 and default to 0 and the shorter buffer's length. */
  copy(
    source: DeviceBuffer,
    target: DeviceBuffer,
    range?: { sourceOffset?: number; targetOffset?: number; byteLength?: number },
  ): void;
  /** The first `byteLength` bytes (default all) of each buffer, fetched in one readback. */
  read(buffers: readonly { buffer: DeviceBuffer; byteLength?: number }[]): Promise<Uint8Array<ArrayBuffer>[]>;
  /** Submits what is encoded so far, without waiting. */
  flush(): void;
  /** Gives the buffer back to the pool; commands given earlier still see it. */
  free(buffer: DeviceBuffer): void;
  /** Releases the device; every later call throws. */
  destroy(): void;
}

/** Options of {@linkcode openDevice} (device/open.ts). */
export interface OpenOptions {
  /** `auto` takes Dawn on a GPU and Deno's own on a software adapter. @default "auto" */
  provider?: Provider | "auto";
  /** Part of the adapter's name that must match. */
  adapter?: string;
  /** Recorded choices of variants. @default every operation's stated default */
  choices?: ChoiceRecord;
}
