/** From `model` in a configuration to the stages of a network. It builds none. */
import { type RegnetName, type RegnetSpec, regnetStages, regnetTable } from "../nn/regnet_spec.ts";
import type { TrainConfig } from "./schema.ts";

/** Names of the published RegNetY networks, smallest first. */
export const modelNames: readonly string[] = Object.keys(regnetTable);

function isKnown(name: string): name is RegnetName {
  return Object.hasOwn(regnetTable, name);
}

/** The name, if it is that of a published network. */
export function findModel(name: string): RegnetName | undefined {
  return isKnown(name) ? name : undefined;
}

/**
 * The stages that a checked configuration asks for.
 *
 * @throws RangeError when the configuration was not checked by `parseConfig`
 */
export function modelSpec({ model }: Pick<TrainConfig, "model">): Required<RegnetSpec> {
  const { name, rule, stemWidth, widths, depths, groupWidth, seRatio } = model;
  if (name !== undefined) {
    if (!isKnown(name)) throw new RangeError(`Cannot lay out the model: its name must be known, found "${name}"`);
    return { stemWidth: 32, seRatio, ...regnetStages(regnetTable[name], rule) };
  }
  if (stemWidth === undefined || widths === undefined || depths === undefined || groupWidth === undefined) {
    throw new RangeError(
      "Cannot lay out the model: stemWidth, widths, depths and groupWidth must be given, found a part",
    );
  }
  return { stemWidth, widths, depths, groupWidth, seRatio };
}
