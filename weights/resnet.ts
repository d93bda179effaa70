/**
 * ResNets and ResNeXts among weights: their shape as found in the tensors, the tensors they must have, and what libraries
 * call them. Tensors' names are torchvision's and timm's alike, below `trunk.`.
 */
import { resnetBlocks, type ResnetName, type ResnetSpec, resnetTable } from "../nn/resnet_spec.ts";
import { WeightsError } from "./error.ts";
import type { ExpectedTensor, Shaped } from "./network.ts";

/** The stem's convolution, by which a ResNet is told from a RegNet. */
export const RESNET_STEM = "conv1.weight";

const layerPattern = /^(conv1|bn1|layer[1-9]\d{0,2}\.(0|[1-9]\d{0,4})\.(conv[123]|bn[123]|downsample\.[01]))\.[a-z_]+$/;

/** Whether it is torchvision's name of a tensor of a ResNet. */
export function isResnetTensor(name: string): boolean {
  return layerPattern.test(name);
}

const hfPrefix = "resnet.";
/** Torchvision's and transformers' layers of a block, in order. */
const hfLayers: Readonly<Record<string, string>> = {
  "conv1": "layer.0.convolution",
  "bn1": "layer.0.normalization",
  "conv2": "layer.1.convolution",
  "bn2": "layer.1.normalization",
  "conv3": "layer.2.convolution",
  "bn3": "layer.2.normalization",
  "downsample.0": "shortcut.convolution",
  "downsample.1": "shortcut.normalization",
};
const hfStem: Readonly<Record<string, string>> = {
  "conv1": "embedder.embedder.convolution",
  "bn1": "embedder.embedder.normalization",
};

/** The stem's convolution in transformers, whose RegNets have the same names but for the prefix. */
export const HF_RESNET_STEM = `${hfPrefix}${hfStem.conv1}.weight`;

const keyOf = (table: Readonly<Record<string, string>>, value: string) =>
  Object.keys(table).find((key) => table[key] === value);

/** Torchvision's name of a tensor that transformers' `ResNetForImageClassification` names so; none for any other. */
export function resnetFromHf(name: string): string | undefined {
  if (!name.startsWith(hfPrefix)) return undefined;
  const plain = name.slice(hfPrefix.length);
  const [, layer, tensor] = /^(.+)\.([a-z_]+)$/.exec(plain) ?? [];
  const stem = layer && keyOf(hfStem, layer);
  if (stem) return `${stem}.${tensor}`;
  const [, stage, block, part] = /^encoder\.stages\.(0|[1-9]\d?)\.layers\.(0|[1-9]\d{0,3})\.(.+)$/.exec(layer ?? "") ??
    [];
  const ours = part && keyOf(hfLayers, part);
  return ours ? `layer${Number(stage) + 1}.${block}.${ours}.${tensor}` : undefined;
}

/** Transformers' name of a tensor of torchvision's name. */
export function resnetToHf(name: string): string | undefined {
  const [, layer, tensor] = /^(.+)\.([a-z_]+)$/.exec(name) ?? [];
  if (layer !== undefined && Object.hasOwn(hfStem, layer)) return `${hfPrefix}${hfStem[layer]}.${tensor}`;
  const [, stage, block, part] = /^layer(\d+)\.(\d+)\.(.+)$/.exec(layer ?? "") ?? [];
  if (part === undefined || !Object.hasOwn(hfLayers, part)) return undefined;
  return `${hfPrefix}encoder.stages.${Number(stage) - 1}.layers.${block}.${hfLayers[part]}.${tensor}`;
}

/**
 * The shape of the trunk whose tensors are given under SEER's names; it fits their shapes as far as they fit together.
 *
 * @throws {WeightsError} when stages are missing.
 */
export function resnetSpecOf(tensors: ReadonlyMap<string, Shaped>): ResnetSpec {
  const [stemWidth] = tensors.get(`trunk.${RESNET_STEM}`)?.shape ?? [0];
  const depths: number[] = [], widths: number[] = [];
  let inner = 1, groups = 1, bottleneck = 1;
  for (const [name, { shape }] of tensors) {
    const match = /^trunk\.layer(\d+)\.(\d+)\.(.+)$/.exec(name);
    if (match === null) continue;
    const stage = Number(match[1]) - 1, block = Number(match[2]), layer = match[3];
    // A file of few tensors must not name a network of many blocks.
    if (stage < 0 || stage >= tensors.size || block >= tensors.size) throw notResnet(`${name} has no place in one`);
    depths[stage] = Math.max(depths[stage] ?? 0, block + 1);
    if (layer === "conv2.weight") [inner, groups] = [shape[0], shape[0] / shape[1]];
    if (layer === "conv3.weight") [widths[stage], bottleneck] = [shape[0], shape[0] / shape[1]];
  }
  let blocks = 0;
  for (let stage = 0; stage < Math.max(1, depths.length); stage++) {
    if (depths[stage] === undefined || widths[stage] === undefined) throw notResnet(`stage ${stage + 1} is missing`);
    blocks += depths[stage];
  }
  if (blocks > tensors.size) throw notResnet(`${tensors.size} tensors cannot make ${blocks} blocks`);
  if (![inner, groups, bottleneck].every((count) => Number.isInteger(count) && count > 0)) {
    throw notResnet("its convolutions do not fit together");
  }
  return { kind: "resnet", stemWidth, widths, depths, groups, bottleneck };
}

/**
 * Every tensor of a trunk in torch's order, under SEER's names.
 *
 * @throws {WeightsError} when the numbers do not make a ResNet.
 */
export function resnetTensors(spec: ResnetSpec): ExpectedTensor[] {
  const convolution = ([name, norm]: readonly [string, string], shape: readonly number[]): ExpectedTensor[] => [
    { name: `trunk.${name}.weight`, shape },
    ...["weight", "bias", "running_mean", "running_var"].map((part) => ({
      name: `trunk.${norm}.${part}`,
      shape: [shape[0]],
    })),
    { name: `trunk.${norm}.num_batches_tracked`, shape: [], counter: true },
  ];
  return [
    ...convolution(["conv1", "bn1"], [spec.stemWidth, 3, 7, 7]),
    ...blocksOf(spec).flatMap(({ name, inWidth, innerWidth, width, groups, projected }) => [
      ...convolution([`${name}.conv1`, `${name}.bn1`], [innerWidth, inWidth, 1, 1]),
      ...convolution([`${name}.conv2`, `${name}.bn2`], [innerWidth, innerWidth / groups, 3, 3]),
      ...convolution([`${name}.conv3`, `${name}.bn3`], [width, innerWidth, 1, 1]),
      ...projected ? convolution([`${name}.downsample.0`, `${name}.downsample.1`], [width, inWidth, 1, 1]) : [],
    ]),
  ];
}

/** Torchvision's names, which are timm's too. */
const libraryNames: Readonly<Record<ResnetName, string>> = {
  "resnet_50": "resnet50",
  "resnet_101": "resnet101",
  "resnet_152": "resnet152",
  "resnext_101_32x8d": "resnext101_32x8d",
};

/** The published network of these shapes. */
export function publishedResnet(spec: ResnetSpec): { name: ResnetName; library: string } | undefined {
  const text = shapesText(spec);
  const isKnown = (name: string): name is ResnetName => Object.hasOwn(resnetTable, name);
  const name = Object.keys(resnetTable).filter(isKnown).find((name) => shapesText(resnetTable[name]) === text);
  return name && { name, library: libraryNames[name] };
}

function shapesText(spec: ResnetSpec): string {
  return JSON.stringify([spec.stemWidth, blocksOf(spec).map((b) => [b.width, b.innerWidth, b.groups])]);
}

function blocksOf(spec: ResnetSpec): ReturnType<typeof resnetBlocks> {
  try {
    return resnetBlocks(spec);
  } catch (error) {
    throw notResnet(error instanceof Error ? error.message : String(error));
  }
}

function notResnet(what: string): WeightsError {
  return new WeightsError(`Cannot use the weights: they must be a ResNet's, and ${what}`);
}
