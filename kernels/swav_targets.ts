/**
 * What each crop of a sample has to predict in SwAV: the sum of the codes of all assign crops but its own.
 */
import type { Kernel } from "./kernel.ts";

/** Static shape of {@linkcode swavTargets}. */
export interface SwavTargetsShape {
  /** Samples of the replica. */
  readonly batch: number;
  /** Crops of each sample, over all sizes. */
  readonly crops: number;
  readonly prototypes: number;
  /** Which crops have codes. */
  readonly assignCrops: readonly number[];
}

const threads = 64;
const rowMax = 65_535;

/**
 * Codes `[assignCrops, batch, prototypes]` → targets `[crops · batch, prototypes]`, crop-major:
 * `targets[c, i] = Σ_{a ≠ c} codes[a, i]`. Bindings: codes, targets. Source: SwAV (arXiv 2006.09882), equation 2.
 */
export function swavTargets(shape: SwavTargetsShape): Kernel {
  const { batch, crops, prototypes, assignCrops } = shape;
  const total = crops * batch * prototypes;
  const groups = Math.ceil(total / threads);
  const columns = Math.min(groups, rowMax);
  const perCrop = batch * prototypes;
  const terms = assignCrops.map((crop, index) =>
    `  if (crop != ${crop}u) { sum += codes[${index * perCrop}u + within]; }`
  );
  return {
    label: `swav targets ${crops}×${batch}×${prototypes}`,
    wgsl: `@group(0) @binding(0) var<storage, read> codes: array<f32>;
@group(0) @binding(1) var<storage, read_write> targets: array<f32>;
@compute @workgroup_size(${threads})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.y * ${columns * threads}u + id.x;
  if (i >= ${total}u) { return; }
  let crop = i / ${perCrop}u;
  let within = i % ${perCrop}u;
  var sum = 0.0;
${terms.join("\n")}
  targets[i] = sum;
}
`,
    bindings: ["read", "write"],
    workgroups: [columns, Math.ceil(groups / columns), 1],
  };
}

/** {@linkcode swavTargets} on the CPU. */
export function swavTargetsReference(codes: Float32Array, shape: SwavTargetsShape): Float32Array<ArrayBuffer> {
  const { batch, crops, prototypes, assignCrops } = shape;
  const perCrop = batch * prototypes;
  const targets = new Float32Array(crops * perCrop);
  for (let crop = 0; crop < crops; crop++) {
    assignCrops.forEach((assigned, index) => {
      if (assigned === crop) return;
      for (let i = 0; i < perCrop; i++) targets[crop * perCrop + i] += codes[index * perCrop + i];
    });
  }
  return targets;
}
