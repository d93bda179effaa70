/** From `model` in a configuration to the shape of a trunk. It builds none. */
import { type FullTrunkSpec, isTrunkName, type TrunkName, trunkNames, trunkSpec } from "../nn/trunk_spec.ts";
import type { TrainConfig } from "./schema.ts";

/** Names of the published networks, RegNetY first. */
export const modelNames: readonly string[] = trunkNames;

/** The name, if it is that of a published network. */
export function findModel(name: string): TrunkName | undefined {
  return isTrunkName(name) ? name : undefined;
}

/**
 * The shape that a checked configuration asks for.
 *
 * @throws RangeError when the configuration was not checked by `parseConfig`
 */
export function modelSpec({ model }: Pick<TrainConfig, "model">): FullTrunkSpec {
  const { name, rule, family, stemWidth, widths, depths, groupWidth, seRatio, groups = 1, bottleneck = 4 } = model;
  const { patch, heads, mlpRatio = 4, imageSize = 224 } = model;
  if (name !== undefined) {
    if (!isTrunkName(name)) throw new RangeError(`Cannot lay out the model: its name must be known, found "${name}"`);
    return trunkSpec(name, { rule, seRatio });
  }
  if (family === "vit" && widths !== undefined && depths !== undefined && patch !== undefined && heads !== undefined) {
    return { kind: "vit", patch, imageSize, widths, depths, heads, mlpRatio };
  }
  if (stemWidth !== undefined && widths !== undefined && depths !== undefined) {
    if (family === "resnet") return { kind: "resnet", stemWidth, widths, depths, groups, bottleneck };
    if (groupWidth !== undefined) return { stemWidth, widths, depths, groupWidth, seRatio };
  }
  throw new RangeError(
    "Cannot lay out the model: stemWidth, widths, depths and (for RegNets) groupWidth, or of a vision transformer widths, " +
      "depths, patch and heads must be given, found a part",
  );
}
