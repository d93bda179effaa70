/**
 * The network that weights belong to: its shape as found in the tensors, the tensors it must have, and what libraries
 * call it. It knows SEER's names only.
 */
import {
  regnetBlocks,
  type RegnetName,
  type RegnetRule,
  type RegnetSpec,
  regnetStages,
  regnetTable,
  roundHalfEven,
} from "../nn/regnet_spec.ts";
import { type FullTrunkSpec, isResnet, isVit, type TrunkName, type TrunkSpec } from "../nn/trunk_spec.ts";
import { WeightsError } from "./error.ts";
import { publishedResnet, RESNET_STEM, resnetSpecOf, resnetTensors } from "./resnet.ts";
import { publishedVit, VIT_STEM, vitSpecOf, vitTensors } from "./vit.ts";

/** What has a shape. */
export interface Shaped {
  readonly shape: readonly number[];
}

/**
 * The shape of the trunk whose tensors are given under SEER's names; it fits their shapes as far as they fit together.
 *
 * @throws {WeightsError} when stem or stages are missing.
 */
export function specOf(tensors: ReadonlyMap<string, Shaped>): FullTrunkSpec {
  if (tensors.has(`trunk.${RESNET_STEM}`)) return resnetSpecOf(tensors);
  if (tensors.has(`trunk.${VIT_STEM}`)) return vitSpecOf(tensors);
  const [stemWidth] = tensors.get("trunk.stem.0.weight")?.shape ?? [];
  if (stemWidth === undefined) throw notRegnet("trunk.stem.0.weight is missing");
  const depths: number[] = [], widths: number[] = [], groups: number[] = [];
  const squeezes: { stage: number; block: number; squeezed: number }[] = [];
  for (const [name, { shape }] of tensors) {
    const match = /^trunk\.trunk_output\.block(\d+)\.block\d+-(\d+)\.(.+)$/.exec(name);
    if (match === null) continue;
    const stage = Number(match[1]) - 1, block = Number(match[2]), layer = match[3];
    // A file of few tensors must not name a network of many blocks.
    if (stage >= tensors.size || block >= tensors.size) throw notRegnet(`${name} has no place in one`);
    depths[stage] = Math.max(depths[stage] ?? 0, block + 1);
    if (layer === "f.a.0.weight") widths[stage] ??= shape[0];
    if (layer === "f.b.0.weight") groups.push(shape[1]);
    if (layer === "f.se.fc1.weight") squeezes.push({ stage, block, squeezed: shape[0] });
  }
  let blocks = 0;
  for (let stage = 0; stage < Math.max(1, depths.length); stage++) {
    if (depths[stage] === undefined || widths[stage] === undefined) throw notRegnet(`stage ${stage + 1} is missing`);
    blocks += depths[stage];
  }
  if (blocks > tensors.size) throw notRegnet(`${tensors.size} tensors cannot make ${blocks} blocks`);
  const inWidths = squeezes.map(({ stage, block, squeezed }) => ({
    squeezed,
    inWidth: block > 0 ? widths[stage] : stage > 0 ? widths[stage - 1] : stemWidth,
  }));
  return { stemWidth, widths, depths, groupWidth: Math.max(1, ...groups), seRatio: squeezeRatio(inWidths) };
}

/** A ratio that gives all these widths of squeeze-and-excitation when rounded; 0 for none. */
function squeezeRatio(widths: readonly { squeezed: number; inWidth: number }[]): number {
  if (widths.length === 0) return 0;
  const lowest = Math.max(...widths.map(({ squeezed, inWidth }) => (squeezed - 0.5) / inWidth));
  const highest = Math.min(...widths.map(({ squeezed, inWidth }) => (squeezed + 0.5) / inWidth));
  const usual = [1 / 4, 1 / 2, 1 / 8, 1 / 16, 1].find((ratio) =>
    widths.every(({ squeezed, inWidth }) => roundHalfEven(ratio * inWidth) === squeezed)
  );
  return usual ?? Math.max(0, (lowest + highest) / 2);
}

/** A tensor that a network must have. */
export interface ExpectedTensor extends Shaped {
  readonly name: string;
  /** Counts batches: an integer that many files lack and that nothing here reads. */
  readonly counter?: boolean;
}

/**
 * Every tensor of a trunk in torch's order, under SEER's names.
 *
 * @throws {WeightsError} when the numbers do not make a network.
 */
export function trunkTensors(spec: TrunkSpec): ExpectedTensor[] {
  if (isResnet(spec)) return resnetTensors(spec);
  if (isVit(spec)) return vitTensors(spec);
  const { stemWidth = 32 } = spec;
  const tensors = normalised("trunk.stem", [stemWidth, 3, 3, 3]);
  for (const block of blocksOf(spec)) {
    const { inWidth, width, groups, squeezeWidth, projected } = block;
    const name = `trunk.${block.name}`;
    if (projected) tensors.push(...normalised(`${name}.proj`, [width, inWidth, 1, 1]));
    tensors.push(...normalised(`${name}.f.a`, [width, inWidth, 1, 1]));
    tensors.push(...normalised(`${name}.f.b`, [width, width / groups, 3, 3]));
    if (squeezeWidth > 0) {
      tensors.push({ name: `${name}.f.se.fc1.weight`, shape: [squeezeWidth, width, 1, 1] });
      tensors.push({ name: `${name}.f.se.fc1.bias`, shape: [squeezeWidth] });
      tensors.push({ name: `${name}.f.se.fc2.weight`, shape: [width, squeezeWidth, 1, 1] });
      tensors.push({ name: `${name}.f.se.fc2.bias`, shape: [width] });
    }
    tensors.push(...normalised(`${name}.f.c`, [width, width, 1, 1]));
  }
  return tensors;
}

function blocksOf(spec: RegnetSpec): ReturnType<typeof regnetBlocks> {
  try {
    return regnetBlocks(spec);
  } catch (error) {
    throw notRegnet(error instanceof Error ? error.message : String(error));
  }
}

/** A convolution without bias and the batch normalisation behind it. */
function normalised(name: string, shape: readonly number[]): ExpectedTensor[] {
  const [width] = shape;
  return [
    { name: `${name}.0.weight`, shape },
    ...["weight", "bias", "running_mean", "running_var"].map((part) => ({ name: `${name}.1.${part}`, shape: [width] })),
    { name: `${name}.1.num_batches_tracked`, shape: [], counter: true },
  ];
}

/** What libraries call a network, where they have it. */
export interface NetworkNames {
  /** The name in a configuration's `model`, with the rule of its widths. */
  readonly seer?: { readonly name: TrunkName; readonly rule: RegnetRule };
  /** E.g. `regnety_080`. */
  readonly timm?: string;
  /** E.g. `regnet_y_8gf`. */
  readonly torchvision?: string;
}

/** timm's and torchvision's names. Where their widths differ, timm's `_tv` is torchvision's (RegNetY-800MF, -8GF, RegNetX-400MF). */
const libraryNames: Readonly<Partial<Record<RegnetName, readonly [timm: string, torchvision?: string]>>> = {
  "regnety_200mf": ["regnety_002"],
  "regnety_400mf": ["regnety_004", "regnet_y_400mf"],
  "regnety_800mf": ["regnety_008", "regnet_y_800mf"],
  "regnety_1.6gf": ["regnety_016", "regnet_y_1_6gf"],
  "regnety_3.2gf": ["regnety_032", "regnet_y_3_2gf"],
  "regnety_8gf": ["regnety_080", "regnet_y_8gf"],
  "regnety_16gf": ["regnety_160", "regnet_y_16gf"],
  "regnety_32gf": ["regnety_320", "regnet_y_32gf"],
  "regnety_64gf": ["regnety_640"],
  "regnety_128gf": ["regnety_1280", "regnet_y_128gf"],
  "regnety_256gf": ["regnety_2560"],
  "regnetx_400mf": ["regnetx_004", "regnet_x_400mf"],
  "regnetx_800mf": ["regnetx_008", "regnet_x_800mf"],
  "regnetx_1.6gf": ["regnetx_016", "regnet_x_1_6gf"],
  "regnetx_3.2gf": ["regnetx_032", "regnet_x_3_2gf"],
  "regnetx_8gf": ["regnetx_080", "regnet_x_8gf"],
  "regnetx_16gf": ["regnetx_160", "regnet_x_16gf"],
  "regnetx_32gf": ["regnetx_320", "regnet_x_32gf"],
};

/** What libraries call the network of these shapes; empty for one that none of them names. */
export function networkNames(spec: TrunkSpec): NetworkNames {
  if (isResnet(spec)) {
    const published = publishedResnet(spec);
    if (published === undefined) return {};
    const { name, library } = published;
    return { seer: { name, rule: "seer" }, timm: library, torchvision: library };
  }
  if (isVit(spec)) {
    const published = publishedVit(spec);
    if (published === undefined) return {};
    const { name, ...libraries } = published;
    return { seer: { name, rule: "seer" }, ...libraries };
  }
  const text = shapesText(spec);
  for (const name of Object.keys(regnetTable).filter((name): name is RegnetName => Object.hasOwn(regnetTable, name))) {
    const [ours, theirs] = (["seer", "torchvision"] as const).map((rule) =>
      shapesText(regnetStages(regnetTable[name], rule))
    );
    if (text !== ours && text !== theirs) continue;
    const [timm, torchvision] = libraryNames[name] ?? [];
    if (text !== theirs) return { seer: { name, rule: "seer" }, timm };
    if (text !== ours) return { seer: { name, rule: "torchvision" }, timm: timm && `${timm}_tv`, torchvision };
    return { seer: { name, rule: "seer" }, timm, torchvision };
  }
  return {};
}

/** All shapes of a trunk as one text. */
function shapesText(spec: RegnetSpec): string {
  const { stemWidth = 32 } = spec;
  return JSON.stringify([stemWidth, blocksOf(spec).map((b) => [b.width, b.groups, b.squeezeWidth])]);
}

function notRegnet(what: string): WeightsError {
  return new WeightsError(`Cannot use the weights: they must be a RegNet's, and ${what}`);
}
