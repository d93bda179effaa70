/**
 * Runs heavy operations on a device: asks its choices for the program, gives it a workspace, launches its kernels. Which
 * variant that is, the op that calls need not know.
 */
import type { Device, DeviceBuffer } from "../../device/device.ts";
import type { HeavyOperation } from "../../kernels/variant.ts";

/**
 * Runs `operation` over buffers by role. A role that holds partial sums (`moments`, `sums`) is given as a function, which
 * gets a buffer of the variant's size while it lives, after the launches.
 */
export function runHeavy<Shape, Role extends string>(
  device: Device,
  { operation, shape }: { operation: HeavyOperation<Shape, Role>; shape: Shape },
  buffers: Readonly<Partial<Record<Role, DeviceBuffer | ((partials: DeviceBuffer) => void)>>>,
): void {
  const { launches, workspaceBytes, partialBytes = 0 } = device.choices.program(operation, shape);
  const workspace = workspaceBytes === 0 ? undefined : device.allocate(workspaceBytes);
  const partials = partialBytes === 0 ? undefined : device.allocate(partialBytes);
  const bound = (role: Role | "workspace"): DeviceBuffer => {
    const given: DeviceBuffer | ((partials: DeviceBuffer) => void) | undefined = role === "workspace"
      ? workspace
      : buffers[role];
    const buffer = typeof given === "function" ? partials : given;
    if (buffer === undefined) {
      throw new TypeError(`Cannot run ${operation.name}: it binds "${role}", which is not given`);
    }
    return buffer;
  };
  for (const { kernel, buffers: roles } of launches) device.run(kernel, roles.map(bound));
  if (workspace !== undefined) device.free(workspace);
  if (partials === undefined) return;
  for (const given of Object.values(buffers)) if (typeof given === "function") given(partials);
  device.free(partials);
}
