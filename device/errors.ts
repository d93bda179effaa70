/**
 * The errors a device throws, and how a shader compiler's complaint becomes a message that shows the lines it is about.
 * Callers' mistakes (a freed buffer, a size over the limit) are TypeErrors and RangeErrors instead. Knows no GPU object.
 */
import type { Provider } from "./device.ts";

/** A device could not do what it was told: a rejected kernel or command, or memory that ran out. */
export class DeviceError extends Error {
  override readonly name: string = "DeviceError";
}

/** A kernel that the device's compiler or validator refused. */
export class KernelError extends DeviceError {
  override readonly name = "KernelError";
  /** The label of the refused kernel. */
  readonly label: string;
  /** The whole WGSL text of the refused kernel. */
  readonly wgsl: string;

  constructor(label: string, wgsl: string, reason: string) {
    super(`Cannot compile the kernel "${label}": ${reason}\n${numbered(wgsl, reason)}`);
    this.label = label;
    this.wgsl = wgsl;
  }
}

/** The device is gone (driver reset, out of memory, unplugged); its buffers are lost, and only a new process may retry. */
export class DeviceLostError extends DeviceError {
  override readonly name = "DeviceLostError";
}

/** What was tried, per provider, and why it gave no adapter. */
export interface AdapterRefusal {
  readonly provider: Provider;
  readonly reason: string;
}

/** No adapter fits the options; the message ends in the remedy. */
export class NoAdapterError extends DeviceError {
  override readonly name = "NoAdapterError";
  /** What each provider answered. */
  readonly refusals: readonly AdapterRefusal[];

  constructor(requirement: string, refusals: readonly AdapterRefusal[]) {
    const answers = refusals.map(({ provider, reason }) => `  ${provider}: ${reason}`).join("\n");
    super(
      `Cannot open a GPU: no adapter ${requirement}\n${answers}\n` +
        "Run `deno task doctor` to see what is missing; on Debian or Ubuntu without a GPU, " +
        "`apt install mesa-vulkan-drivers` adds a software adapter",
    );
    this.refusals = refusals;
  }
}

/** The WGSL text with line numbers; only the surroundings of the line that `reason` points at, when it points at one. */
function numbered(wgsl: string, reason: string): string {
  const lines = wgsl.split("\n");
  const found = /(?:wgsl|line|^|\s):?(\d+):\d+/.exec(reason);
  const centre = found ? Number(found[1]) : undefined;
  return lines
    .map((text, index) => ({ text, line: index + 1 }))
    .filter(({ line }) => centre === undefined || Math.abs(line - centre) <= 5)
    .map(({ text, line }) => `${String(line).padStart(5)} | ${text}`)
    .join("\n");
}
