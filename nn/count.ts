/** Parameters and multiply-adds of a trunk from its shape alone, for plans and model summaries; needs no device. */
import { type CountedLayer, trunkShape } from "./trunk_shape.ts";
import type { TrunkSpec } from "./trunk_spec.ts";

function total(spec: TrunkSpec, count: (layer: CountedLayer) => number): number {
  return trunkShape(spec).parts.flatMap(({ layers }) => layers).reduce((sum, layer) => sum + count(layer), 0);
}

/** Trainable numbers of the trunk, plus those of a classifier when `classes` is given. */
export function countParameters(spec: TrunkSpec, { classes = 0 }: { classes?: number } = {}): number {
  return total(spec, ({ parameters }) => parameters) + (trunkShape(spec).width + 1) * classes;
}

/** Multiply-adds of one forward pass over one `size` × `size` image: convolutions, squeeze-and-excitation, classifier. */
export function countMacs(spec: TrunkSpec, size: number, { classes = 0 }: { classes?: number } = {}): number {
  return total(spec, (layer) => layer.macs(size)) + trunkShape(spec).width * classes;
}

/** Numbers that one forward pass over one image keeps as outputs of convolutions ("activations" in the RegNet paper). */
export function countActivations(spec: TrunkSpec, size: number): number {
  return total(spec, (layer) => layer.outputs(size));
}
