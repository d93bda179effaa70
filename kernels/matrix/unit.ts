/**
 * How a kernel speaks to matrix units: f16 operands from workgroup memory, f32 sums, results to workgroup memory. One unit
 * is Dawn's `chromium_experimental_subgroup_matrix`; another can stand in for it where hardware has none. Knows no tile.
 */
import type { KernelFeature } from "../kernel.ts";

/** A matrix in `leftTile` or `rightTile`, counted in vec4<f16>: its first, and from one row (`along` k) or step on. */
export interface StagedMatrix {
  readonly offset: string;
  readonly pitch: number;
  readonly along: "k" | "position";
}

/** WGSL of matrix operations. All are reached by every invocation of the workgroup. */
export interface MatrixUnit {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly subgroupSize: number;
  readonly requires: readonly KernelFeature[];
  readonly diagnostic: string;
  /** Beside the entry point, and one more of its parameters. */
  readonly attribute: string;
  readonly builtin: string;
  /** The subgroup's number in its workgroup. */
  readonly subgroup: string;
  /** Module scope, told how the left and the right operand are staged. */
  prelude(sides: readonly Omit<StagedMatrix, "offset">[]): string;
  zero(name: string): string;
  left(name: string, from: StagedMatrix): string;
  right(name: string, from: StagedMatrix): string;
  /** Adds left · right to the sum `name`. */
  multiply(name: string, left: string, right: string): string;
  /** Stores a sum to `results`, counted in vec4f. */
  store(name: string, offset: string, pitch: number): string;
}

/** Dawn's subgroup matrices of that shape, f16 · f16 into f32. */
export function subgroupMatrices(
  { m, n, k, subgroupSize }: Pick<MatrixUnit, "m" | "n" | "k" | "subgroupSize">,
): MatrixUnit {
  const load = (name: string, { side, type, from, major }: {
    side: string;
    type: string;
    from: StagedMatrix;
    major: string;
  }) => `let ${name} = subgroupMatrixLoad<${type}, ${major}>(&${side}Tile, ${from.offset}, ${from.pitch}u);`;
  return {
    m,
    n,
    k,
    subgroupSize,
    requires: ["f16", "subgroups", "subgroup-size-control", "subgroup-matrix"],
    diagnostic: "chromium.subgroup_matrix_uniformity",
    attribute: `@subgroup_size(${subgroupSize})`,
    builtin: "\n@builtin(subgroup_id) subgroup: u32,",
    subgroup: "subgroup",
    prelude: () => "",
    zero: (name) => `var ${name} = subgroup_matrix_result<f32, ${n}, ${m}>();`,
    left: (name, from) =>
      load(name, {
        side: "left",
        type: `subgroup_matrix_left<f16, ${k}, ${m}>`,
        from,
        major: from.along === "k" ? "row_major" : "col_major",
      }),
    right: (name, from) =>
      load(name, {
        side: "right",
        type: `subgroup_matrix_right<f16, ${n}, ${k}>`,
        from,
        major: from.along === "k" ? "col_major" : "row_major",
      }),
    multiply: (name, left, right) => `${name} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${name});`,
    store: (name, offset, pitch) => `subgroupMatrixStore<row_major>(&results, ${offset}, ${name}, ${pitch}u);`,
  };
}
