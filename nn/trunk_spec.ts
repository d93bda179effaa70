/**
 * The shapes of every trunk that can be trained, by family and by name. Pure arithmetic: it builds nothing, which is
 * `trunks.ts`'s part, and counts nothing, which is `trunk_shape.ts`'s.
 */
import { type RegnetName, type RegnetRule, type RegnetSpec, regnetStages, regnetTable } from "./regnet_spec.ts";
import { type ResnetName, type ResnetSpec, resnetTable } from "./resnet_spec.ts";
import { type VitName, type VitSpec, vitTable } from "./vit_spec.ts";

/** The shape of a trunk of any family; RegNets have no `kind`. */
export type TrunkSpec = RegnetSpec | ResnetSpec | VitSpec;

/** The same with nothing left to defaults. */
export type FullTrunkSpec = Required<RegnetSpec> | ResnetSpec | VitSpec;

/** A published network. */
export type TrunkName = RegnetName | ResnetName | VitName;

const has = <Name extends string>(table: Readonly<Record<Name, unknown>>, name: string): name is Name =>
  Object.hasOwn(table, name);

/** Names of all published networks, RegNetY first. */
export const trunkNames: readonly TrunkName[] = [
  ...Object.keys(regnetTable).filter((name) => has(regnetTable, name)),
  ...Object.keys(resnetTable).filter((name) => has(resnetTable, name)),
  ...Object.keys(vitTable).filter((name) => has(vitTable, name)),
];

/** Whether it is a published network's name. */
export function isTrunkName(name: string): name is TrunkName {
  return has(regnetTable, name) || has(resnetTable, name) || has(vitTable, name);
}

/** Whether it is a ResNet's or ResNeXt's shape. */
export function isResnet(spec: TrunkSpec): spec is ResnetSpec {
  return "kind" in spec && spec.kind === "resnet";
}

/** Whether it is a vision transformer's shape. */
export function isVit(spec: TrunkSpec): spec is VitSpec {
  return "kind" in spec && spec.kind === "vit";
}

/** Fills in what the shape leaves to defaults. */
export function completeSpec(spec: TrunkSpec): FullTrunkSpec {
  return isResnet(spec) || isVit(spec) ? spec : { stemWidth: 32, seRatio: 0.25, ...spec };
}

/**
 * The shape of a published network.
 *
 * @param options `rule` and `seRatio` (for RegNetY only) where they differ from SEER's
 */
export function trunkSpec(name: TrunkName, options: { rule?: RegnetRule; seRatio?: number } = {}): FullTrunkSpec {
  const { rule = "seer", seRatio = 0.25 } = options;
  if (has(resnetTable, name)) return resnetTable[name];
  if (has(vitTable, name)) return vitTable[name];
  return { stemWidth: 32, seRatio, ...regnetStages(regnetTable[name], rule) };
}
