/**
 * Heavy operations (matrix multiply, the three passes of a convolution) and the several ways, variants, to run each: one
 * text does not suit a CPU, a GPU and a GPU with matrix units. A variant says for which shapes and devices it exists and
 * gives the kernels to run. Who chooses, and how fast a variant is, is not known here.
 */
import type { Kernel, KernelFeature } from "./kernel.ts";

/** How activations are stored; sums are f32 always. */
export type Storage = "f32" | "f16";

/** What a variant may ask of a device. */
export interface Capabilities {
  readonly kind: "cpu" | "gpu";
  readonly features: readonly KernelFeature[];
  readonly workgroupBytesMax: number;
  readonly workgroupInvocationsMax: number;
  /** Lanes of a subgroup, least and most; 0 where the device has no subgroups. */
  readonly subgroupSizes: readonly [min: number, max: number];
  /** Shapes that the device's matrix units multiply; none where it has none. */
  readonly matrices: readonly MatrixConfiguration[];
}

/** One shape that matrix units multiply: result[M, N] += left[M, K] · right[K, N]. */
export interface MatrixConfiguration {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly component: "f16" | "f32";
  readonly result: "f16" | "f32";
}

/** One kernel of a program, and which buffers it binds, in order. */
export interface Launch<Role extends string> {
  readonly kernel: Kernel;
  readonly buffers: readonly (Role | "workspace")[];
}

/** Kernels run one after the other. */
export interface Program<Role extends string> {
  readonly launches: readonly Launch<Role>[];
  /** Bytes of the scratch buffer between the launches, which need not be cleared; 0 for none. */
  readonly workspaceBytes: number;
  /** Bytes of the operation's partial sums (`moments`, `sums`), whose number of chunks differs from variant to variant. */
  readonly partialBytes?: number;
}

/** Which kind of device a variant is written for. */
export type VariantFamily =
  /** Tiles in registers, no workgroup memory, no barriers: software adapters. */
  | "registers"
  /** Tiles staged in workgroup memory: GPUs. */
  | "tile"
  /** Matrix units (Dawn's subgroup matrices): f16 in, f32 sums. */
  | "matrix";

/** One way to run an operation. */
export interface Variant<Shape, Role extends string> {
  /** Unique within the operation, and stable, because runs record it: `"registers 4x32"`. */
  readonly name: string;
  readonly family: VariantFamily;
  /** Why this variant cannot run `shape` on such a device; `undefined` where it can. */
  refuses(shape: Shape, device: Capabilities): string | undefined;
  /** The kernels. Called only where nothing is refused. Equal shapes give the same kernel objects. */
  program(shape: Shape, device: Capabilities): Program<Role>;
}

/** An operation and its variants. */
export interface HeavyOperation<Shape, Role extends string> {
  /** `"conv2d forward"`. */
  readonly name: string;
  /** The shape in a line, everything that tells two shapes apart included; part of the key of a recorded choice. */
  describe(shape: Shape): string;
  /** Every variant worth timing, none left out for a device: {@linkcode Variant.refuses} says which. */
  variants(shape: Shape): readonly Variant<Shape, Role>[];
  /** The variant taken untimed: the stated default of the device's kind. */
  usual(shape: Shape, device: Capabilities): Variant<Shape, Role>;
  /** Floating-point operations, for rates. */
  flops(shape: Shape): number;
  /** Bytes of every buffer by role, partial sums excepted. */
  bufferBytes(shape: Shape): Readonly<Partial<Record<Role, number>>>;
}

/**
 * Families in the order in which a device's kind prefers them untimed. Matrix units come after tiles until a device with
 * some has run them: a tuner takes them only where they give the default's results.
 */
const PREFERENCE: Readonly<Record<Capabilities["kind"], readonly VariantFamily[]>> = {
  cpu: ["registers", "tile", "matrix"],
  gpu: ["tile", "matrix", "registers"],
};

/**
 * The stated default: the first variant, in the order given, of the family that the device's kind prefers and that runs
 * the shape.
 *
 * @throws RangeError when no variant runs it, with every refusal.
 */
export function usualVariant<Shape, Role extends string>(
  variants: readonly Variant<Shape, Role>[],
  { shape, device, operation }: { shape: Shape; device: Capabilities; operation: string },
): Variant<Shape, Role> {
  const refusals: string[] = [];
  for (const family of PREFERENCE[device.kind]) {
    for (const variant of variants.filter((candidate) => candidate.family === family)) {
      const refusal = variant.refuses(shape, device);
      if (refusal === undefined) return variant;
      refusals.push(`${variant.name}: ${refusal}`);
    }
  }
  throw new RangeError(`Cannot run ${operation}: no variant fits this device (${refusals.join("; ")})`);
}
