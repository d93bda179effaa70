/**
 * Kernels that do the same to several tensors of any sizes in one launch, because launching one for each of a network's
 * small tensors costs more than its work. The text depends on the number of tensors and not on their sizes. It knows no
 * operation.
 */
import type { Kernel } from "./kernel.ts";
import { once, type Storage } from "./wgsl.ts";

/** Invocations in a workgroup. */
const WORKGROUP = 64;
/** Workgroups that share one tensor at most; larger tensors take several rounds. */
const WORKGROUPS_MAX = 4096;

/** What {@linkcode grouped} needs. */
export interface GroupedOptions {
  /** Operation with its constants; unique, because kernels are kept by it. */
  readonly label: string;
  /** Buffers bound once, before those of the tensors. */
  readonly shared: readonly Storage[];
  /** Buffers bound for each tensor, all of them for the first, then for the second, and so on. */
  readonly each: readonly Storage[];
  /** Invocations wanted for each tensor; they only decide the grid. */
  readonly invocations: readonly number[];
  /** WGSL of a tensor's number of invocations, from its buffers' lengths. */
  readonly count: string;
  /** Statements of `main` before the tensors'. */
  readonly before?: string;
  /**
   * Statements for one item, whose number is `i`, of the tensor whose number within the launch is `tensor`. Names of
   * `each` are written with `@` behind them, here and in `count`.
   */
  readonly body: string;
}

/** One kernel for all the tensors. Buffers: shared, then each tensor's. */
export function grouped(options: GroupedOptions): Kernel {
  const { label, shared, each, invocations, count, before = "", body } = options;
  const tensors = Array.from(invocations.keys());
  const groups = Math.ceil(Math.max(...invocations) / WORKGROUP);
  const across = Math.min(WORKGROUPS_MAX, Math.max(1, groups));
  return once(`${label} of ${tensors.length} tensors in ${across}`, () => {
    const storage = [...shared, ...tensors.flatMap((k) => each.map((entry) => ofTensor(entry, k)))];
    const cases = tensors.map((k) => `
    case ${k}u: {
      for (var i = id.x; i < ${count.replaceAll("@", String(k))}; i += stride) {
        ${body.trim().replaceAll("@", String(k))}
      }
    }`);
    return {
      label: `${label} of ${tensors.length} tensors`,
      wgsl: `${storage.map(declaration).join("\n")}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) grid: vec3u) {
  let stride = grid.x * ${WORKGROUP}u;
  let tensor = id.y;
  ${before.trim()}
  switch (tensor) {${cases.join("")}
    default: {}
  }
}
`,
      bindings: storage.map(([, access]) => access),
      workgroups: [across, tensors.length, 1],
    };
  });
}

function ofTensor([name, access, element]: Storage, tensor: number): Storage {
  return [`${name}${tensor}`, access, element];
}

function declaration([name, access, element = "f32"]: Storage, binding: number): string {
  const mode = access === "read" ? "read" : "read_write";
  return `@group(0) @binding(${binding}) var<storage, ${mode}> ${name}: array<${element}>;`;
}
