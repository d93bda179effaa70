/**
 * Matrix multiply as a {@linkcode GemmProblem}: what is contiguous in memory decides along which axis each operand is
 * fetched. Knows no skeleton.
 */
import type { MatmulRole } from "../operations.ts";
import type { MatmulShape } from "../matmul.ts";
import type { Storage } from "../variant.ts";
import type { GemmOperand, GemmPlanner } from "./problem.ts";
import {
  below,
  binding,
  clamped,
  type Elements,
  elementsOf,
  fetchLength,
  fetchOf,
  foursOf,
  gathering,
  rawType,
  storeOf,
  widthOf,
} from "./quads.ts";

/** An operand stored row by row in either direction. */
function matrix(
  elements: Elements,
  { along, positions, k, masked }: { along: GemmOperand["along"]; positions: number; k: number; masked: boolean },
): GemmOperand {
  const { width } = elements;
  const inK = along === "k";
  const length = fetchLength(elements);
  return {
    along,
    length,
    raw: rawType(elements),
    place: (name, position) =>
      inK
        ? `let ${name}_at = min(${position}, ${positions - 1}u) * ${k}u;`
        : `let ${name}_at = ${clamped(position, positions, width)};`,
    step: (name, { start, offset }) =>
      `let ${name}_k = ${start} + ${offset};
let ${name}_at = ${inK ? clamped(`${name}_k`, k, width) : `min(${name}_k, ${k - 1}u) * ${positions}u`};`,
    fetch: (place, step) => fetchOf(elements, `(${place}_at + ${step}_at)`),
    finish: (name, { raw, step }, as) =>
      foursOf(elements, { raw, as }).map((four, i) => {
        const inside = inK ? below(`${step}_k${i === 0 ? "" : " + 4u"}`, `${k}u`, k % 4 === 0) : `${step}_k < ${k}u`;
        return `let ${name}${i} = ${
          masked ? `select(${as === "f16" ? "vec4<f16>" : "vec4f"}(), ${four}, ${inside})` : four
        };`;
      }).join("\n"),
  };
}

/** product[m, n] = left · right (+ product). */
export const matmulPlan: GemmPlanner<MatmulShape & { readonly storage?: Storage }, MatmulRole> = (shape, tile) => {
  const { m, n, k, transposeA = false, transposeB = false, accumulate = false, storage = "f32" } = shape;
  const { fetch, panel } = tile;
  const left = elementsOf("left", [transposeA ? m : k], { storage, fetch });
  const right = elementsOf("right", [transposeB ? k : n], { storage, fetch });
  const product: Elements = { name: "product", storage, width: widthOf([n], { storage }) };
  const forms = `${transposeA ? "ᵀ" : ""}·${transposeB ? "ᵀ" : ""}${accumulate ? " +=" : ""}`;
  const loaded = foursOf(product, { raw: fetchOf(product, "at"), as: "f32" })[0];
  return {
    workspaceBytes: 0,
    after: [],
    problem: {
      label: `matmul ${m}×${k} ${forms} ${k}×${n}${storage === "f32" ? "" : `, ${storage}`}`,
      m,
      n,
      k,
      slices: 1,
      buffers: [
        binding(left, { role: "left", access: "read", length: m * k }),
        binding(right, { role: "right", access: "read", length: k * n }),
        binding(product, { role: "product", access: "write", length: m * n }),
      ],
      requires: storage === "f16" ? ["f16"] : [],
      prelude: [left, right].map(gathering).join("\n"),
      slice: `let firstK = 0u;\nlet endK = ${k}u;`,
      left: matrix(left, { along: transposeA ? "position" : "k", positions: m, k, masked: k % panel !== 0 }),
      right: matrix(right, { along: transposeB ? "k" : "position", positions: n, k, masked: false }),
      result: {
        row: (name, row) => `let ${name}_inside = ${row} < ${m}u;\nlet ${name}_at = ${row} * ${n}u;`,
        column: (name, column) => `let ${name}_inside = ${column} < ${n}u;\nlet ${name}_at = ${column};`,
        store: (value, row, column) =>
          `if (${row}_inside && ${column}_inside) {
let at = ${row}_at + ${column}_at;
${accumulate ? `${value} += ${loaded};` : ""}
${storeOf(product, { at: "at", value, count: n % 4 === 0 ? undefined : `${n}u - ${column}_at` })}
}`,
      },
    },
  };
};
