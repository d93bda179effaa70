/** Matrix units in plain WGSL over workgroup memory: the same kernels on adapters that have none. */
import type { MatrixUnit } from "../../../kernels/matrix/unit.ts";

/** A unit of that shape; a lane holds every `subgroupSize`-th number of a sum. */
export function emulatedMatrices(
  { m, n, k, subgroupSize }: Pick<MatrixUnit, "m" | "n" | "k" | "subgroupSize">,
): MatrixUnit {
  const each = m * n / subgroupSize;
  return {
    m,
    n,
    k,
    subgroupSize,
    requires: ["f16"],
    diagnostic: "derivative_uniformity",
    attribute: "",
    builtin: "",
    subgroup: `(lane / ${subgroupSize}u)`,
    prelude([left, right]) {
      const at = (side: string, { along, pitch }: { along: "k" | "position"; pitch: number }, position: string) => {
        const [row, element] = along === "k" ? [position, "k"] : ["k", position];
        return `f32(${side}Tile[${side}At + ${row} * ${pitch}u + ${element} / 4u][${element} % 4u])`;
      };
      return `fn multiply(sum: ptr<function, array<f32, ${each}>>, lane: u32, leftAt: u32, rightAt: u32, opaque: u32) {
for (var e = 0u; e < ${each}u + opaque; e++) {
let row = (lane + e * ${subgroupSize}u) / ${n}u;
let column = (lane + e * ${subgroupSize}u) % ${n}u;
for (var k = 0u; k < ${k}u + opaque; k++) {
(*sum)[e] += ${at("left", left, "row")} * ${at("right", right, "column")};
}
}
}
fn put(sum: ptr<function, array<f32, ${each}>>, lane: u32, at: u32, pitch: u32, opaque: u32) {
for (var e = 0u; e < ${each}u + opaque; e++) {
let number = lane + e * ${subgroupSize}u;
let column = number % ${n}u;
results[at + number / ${n}u * pitch + column / 4u][column % 4u] = (*sum)[e];
}
}`;
    },
    zero: (name) => `var ${name} = array<f32, ${each}>();`,
    left: (name, { offset }) => `let ${name} = ${offset};`,
    right: (name, { offset }) => `let ${name} = ${offset};`,
    multiply: (name, left, right) => `multiply(&${name}, lane % ${subgroupSize}u, ${left}, ${right}, opaque);`,
    store: (name, offset, pitch) => `put(&${name}, lane % ${subgroupSize}u, ${offset}, ${pitch}u, opaque);`,
  };
}
