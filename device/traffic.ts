/**
 * How many bytes a computation moves between memory and kernels, and how few would do: counted on a device that computes
 * nothing, so that any network on any adapter can be asked. What a cache keeps is not known here.
 */
import type { Kernel } from "../kernels/kernel.ts";
import type { HeavyOperation } from "../kernels/variant.ts";
import type { ChoiceRecord } from "./choices.ts";
import type { AdapterDescription, DeviceBuffer } from "./device.ts";
import { RecordingDevice } from "./tune_shapes.ts";

/** Bytes that a computation moves. */
export interface Traffic {
  /**
   * Bytes of all buffers bound by all launches, each buffer once a launch. What a kernel reads and overwrites in place
   * counts once too, so this is a little less than what moves.
   */
  readonly boundBytes: number;
  /**
   * Bytes of the inputs, weights and results of the heavy operations alone (`bufferBytes`): what would be left were all
   * other passes fused into them.
   */
  readonly idealBytes: number;
  /** Kernels launched. */
  readonly launches: number;
  /** Most bytes allocated at once; a device's pool rounds each size up, by a fifth at most. */
  readonly peakBytes: number;
  /** `boundBytes` by kernel, the numbers taken out of its label; the largest first. */
  readonly byKernel: ReadonlyMap<string, number>;
}

/** What {@linkcode trafficOf} counts for. */
export interface TrafficOptions {
  /** The adapter whose variants would run; it need not be here. */
  readonly adapter: AdapterDescription;
  /** Recorded choices of variants. @default the stated defaults */
  readonly choices?: ChoiceRecord;
}

class TrafficDevice extends RecordingDevice {
  boundBytes = 0;
  idealBytes = 0;
  launches = 0;
  readonly byKernel = new Map<string, number>();

  constructor({ adapter, choices }: TrafficOptions) {
    super(adapter, choices);
    const program = this.choices.program.bind(this.choices);
    this.choices.program = <Shape, Role extends string>(operation: HeavyOperation<Shape, Role>, shape: Shape) => {
      for (const bytes of Object.values<number | undefined>(operation.bufferBytes(shape))) {
        this.idealBytes += bytes ?? 0;
      }
      return program(operation, shape);
    };
  }

  override run(kernel?: Kernel, buffers: readonly DeviceBuffer[] = []): void {
    if (kernel === undefined) return;
    const bytes = buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const name = familyOf(kernel.label);
    this.boundBytes += bytes;
    this.launches += 1;
    this.byKernel.set(name, (this.byKernel.get(name) ?? 0) + bytes);
  }
}

/** A kernel's label without shapes: `"conv2d forward 3x3/2 32→64"` is of the family `"conv2d forward"`. */
export function familyOf(label: string): string {
  return label.replace(/\s*\b\d.*$/, "").replace(/:$/, "").trim();
}

/** Counts what `compute` moves; it is run once, and what it reads back is zeros. */
export async function trafficOf(
  options: TrafficOptions,
  compute: (device: RecordingDevice) => Promise<void>,
): Promise<Traffic> {
  const device = new TrafficDevice(options);
  await compute(device);
  const { boundBytes, idealBytes, launches, byKernel } = device;
  const { peakBytes } = device.memory;
  return { boundBytes, idealBytes, launches, peakBytes, byKernel: new Map([...byKernel].sort((a, b) => b[1] - a[1])) };
}
