/**
 * What a compute kernel is: whole WGSL text with every shape baked in as a constant, the buffers it binds in order, and
 * the grid it is dispatched with. A file in this room holds one family of operations: functions from static shapes to
 * {@linkcode Kernel} records, and beside each a plain CPU reference over typed arrays. This room knows no GPU object, no
 * tensor and no promise.
 */

/** How a kernel uses one of its storage buffers: `read` binds `read`, `write` binds `read_write`. */
export type Access = "read" | "write";

/**
 * A WGSL feature that a kernel cannot do without; the device writes the `enable` directive. `subgroups` promises that 8
 * lanes fit a subgroup; `subgroup-size-control` allows `@subgroup_size(…)`.
 */
export type KernelFeature = "f16" | "subgroups" | "subgroup-size-control" | "subgroup-matrix";

/** One compute kernel, ready to be dispatched on any device that has its features. */
export interface Kernel {
  /** Short name with the shapes that matter, shown in errors and profiles: `"conv2d forward 3x3/2 32→64"`. */
  readonly label: string;
  /** The whole WGSL module; entry point `main`; bindings `@group(0) @binding(0…)` in the order of `bindings`. */
  readonly wgsl: string;
  /** Access of each storage buffer, in binding order. */
  readonly bindings: readonly Access[];
  /** Workgroups dispatched in x, y and z; each at most 65,535. */
  readonly workgroups: readonly [number, number, number];
  /** Features the device must have; none when absent. */
  readonly requires?: readonly KernelFeature[];
  /** What runs instead, over the same buffers, on a device that lacks them; no such device when absent. */
  readonly otherwise?: Kernel;
}
