/**
 * Which heavy operations a computation asks for, and with which shapes: a device that computes nothing and writes down
 * what is asked of its choices. Whatever runs on a device can so be asked what it needs, without being described twice. It
 * knows no network.
 */
import type { HeavyOperation, Variant } from "../kernels/variant.ts";
import { choiceKey, type ChoiceRecord, KernelChoices, withMoments } from "./choices.ts";
import type { AdapterDescription, Device, DeviceBuffer, HostArray, MemoryUse } from "./device.ts";

/** A heavy operation with a shape, of whatever kinds. */
export interface HeavyUse {
  /** {@linkcode choiceKey} of the two. */
  readonly key: string;
  readonly operation: HeavyOperation<unknown, string>;
  readonly shape: unknown;
}

/** The uses that need a choice of their own: a forward pass that is also asked for with moments goes with that one. */
export function independentUses(uses: readonly HeavyUse[]): HeavyUse[] {
  const keys = new Set(uses.map(({ key }) => key));
  return uses.filter(({ operation, shape }) => {
    const first = withMoments(operation, shape);
    return first === undefined || !keys.has(choiceKey(operation, first));
  });
}

/** A recorded variant that cannot run. */
export interface UnfitChoice {
  readonly key: string;
  readonly variant: string;
  readonly reason: string;
}

/** Choices that write down what they are asked for; a recorded variant that does not fit is written down too. */
class RecordingChoices extends KernelChoices {
  readonly uses = new Map<string, HeavyUse>();
  readonly unfit = new Map<string, UnfitChoice>();

  override variant<Shape, Role extends string>(
    operation: HeavyOperation<Shape, Role>,
    shape: Shape,
  ): Variant<Shape, Role> {
    const key = choiceKey(operation, shape);
    this.uses.set(key, { key, operation, shape });
    const name = this.recorded(operation, shape);
    if (name === undefined) return operation.usual(shape, this.capabilities);
    const variant = operation.variants(shape).find((candidate) => candidate.name === name);
    const reason = variant === undefined
      ? "this version has no such variant"
      : variant.refuses(shape, this.capabilities);
    if (variant !== undefined && reason === undefined) return variant;
    this.unfit.set(key, { key, variant: name, reason: reason ?? "" });
    return operation.usual(shape, this.capabilities);
  }
}

/** A device that computes nothing: reads give zeros. Its buffers have sizes and no contents. */
export class RecordingDevice implements Device {
  readonly adapter: AdapterDescription;
  readonly choices: RecordingChoices;
  #liveBytes = 0;
  #peakBytes = 0;
  #nextId = 0;

  /** @param recorded choices that the computation would have */
  constructor(adapter: AdapterDescription, recorded?: ChoiceRecord) {
    this.adapter = adapter;
    this.choices = new RecordingChoices({ ...adapter, ...adapter.limits }, recorded);
  }

  /** Every (operation, shape) asked for so far, each once, in order of first use. */
  get uses(): readonly HeavyUse[] {
    return [...this.choices.uses.values()];
  }

  /** Recorded variants that were asked for and cannot run on the adapter. */
  get unfit(): readonly UnfitChoice[] {
    return [...this.choices.unfit.values()];
  }

  get memory(): MemoryUse {
    return { liveBytes: this.#liveBytes, peakBytes: this.#peakBytes, reservedBytes: this.#liveBytes };
  }

  allocate(byteLength: number): DeviceBuffer {
    const rounded = Math.max(4, Math.ceil(byteLength / 4) * 4);
    this.#liveBytes += rounded;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return { id: this.#nextId++, byteLength: rounded };
  }

  upload(data: HostArray): DeviceBuffer {
    return this.allocate(data.byteLength);
  }

  free({ byteLength }: DeviceBuffer): void {
    this.#liveBytes -= byteLength;
  }

  read(parts: readonly { buffer: DeviceBuffer; byteLength?: number }[]): Promise<Uint8Array<ArrayBuffer>[]> {
    return Promise.resolve(parts.map(({ buffer, byteLength = buffer.byteLength }) => new Uint8Array(byteLength)));
  }

  write(): void {}
  clear(): void {}
  run(): void {}
  copy(): void {}
  flush(): void {}
  destroy(): void {}
}
