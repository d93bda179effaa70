/**
 * Vision transformers among weights: their shape as found in the tensors, the tensors they must have, and how libraries
 * name them. Below `trunk.` the names are torchvision's; timm's and transformers' are translated. Sources: torchvision
 * `vision_transformer.py`, timm `vision_transformer.py`.
 */
import { type VitName, vitNumbers, type VitSpec, vitTable } from "../nn/vit_spec.ts";
import { WeightsError } from "./error.ts";
import type { ExpectedTensor, Shaped } from "./network.ts";
import { hfBlock, hfInside, hfOutside } from "./vit_hf.ts";

/** The patches' convolution, by which a vision transformer is told from other trunks. */
export const VIT_STEM = "conv_proj.weight";

/** Libraries that have names for it. */
export type VitNaming = "seer" | "torchvision" | "timm" | "hf";

/** Whether a library has names for it. */
export function namesVits(naming: string): naming is VitNaming {
  return naming === "seer" || naming === "torchvision" || naming === "timm" || naming === "hf";
}

/** Torchvision's and timm's names outside of blocks. */
const outside: Readonly<Record<string, string>> = {
  "class_token": "cls_token",
  "conv_proj.weight": "patch_embed.proj.weight",
  "conv_proj.bias": "patch_embed.proj.bias",
  "encoder.pos_embedding": "pos_embed",
  "encoder.ln.weight": "norm.weight",
  "encoder.ln.bias": "norm.bias",
};

/** Torchvision's and timm's names inside of a block, in torchvision's order. */
const inside: Readonly<Record<string, string>> = {
  "ln_1.weight": "norm1.weight",
  "ln_1.bias": "norm1.bias",
  "self_attention.in_proj_weight": "attn.qkv.weight",
  "self_attention.in_proj_bias": "attn.qkv.bias",
  "self_attention.out_proj.weight": "attn.proj.weight",
  "self_attention.out_proj.bias": "attn.proj.bias",
  "ln_2.weight": "norm2.weight",
  "ln_2.bias": "norm2.bias",
  "mlp.0.weight": "mlp.fc1.weight",
  "mlp.0.bias": "mlp.fc1.bias",
  "mlp.3.weight": "mlp.fc2.weight",
  "mlp.3.bias": "mlp.fc2.bias",
};

const blockName = (index: number | string) => `encoder.layers.encoder_layer_${index}`;

const keyOf = (table: Readonly<Record<string, string>>, value: string) =>
  Object.keys(table).find((key) => table[key] === value);

/** The stem's name in a library. */
export function vitStem(naming: VitNaming): string {
  if (naming === "hf") return hfOutside[VIT_STEM];
  return naming === "timm" ? outside[VIT_STEM] : naming === "seer" ? `trunk.${VIT_STEM}` : VIT_STEM;
}

/** SEER's name of a tensor of a vision transformer; none for any other. */
export function vitToSeer(name: string, naming: VitNaming): string | undefined {
  if (naming === "hf") {
    const [, index, rest] = /^vit\.encoder\.layer\.(0|[1-9]\d{0,4})\.(.+)$/.exec(name) ?? [];
    const ours = index === undefined ? keyOf(hfOutside, name) : keyOf(hfInside, rest);
    if (ours !== undefined) return `trunk.${index === undefined ? ours : `${blockName(index)}.${ours}`}`;
    return /^classifier\.(?:weight|bias)$/.test(name) ? `fc.${name.slice("classifier.".length)}` : undefined;
  }
  if (naming === "timm") {
    const [, index, rest] = /^blocks\.(0|[1-9]\d{0,4})\.(.+)$/.exec(name) ?? [];
    const ours = index === undefined ? keyOf(outside, name) : keyOf(inside, rest);
    if (ours !== undefined) return `trunk.${index === undefined ? ours : `${blockName(index)}.${ours}`}`;
    return /^head\.(?:weight|bias)$/.test(name) ? `fc.${name.slice("head.".length)}` : undefined;
  }
  const plain = naming === "seer" ? name.replace(/^trunk\./, "") : name;
  if (naming === "seer" && plain === name) return undefined;
  // Files of torchvision before 0.14 have `linear_1` and `linear_2`.
  const current = plain.replace("mlp.linear_1.", "mlp.0.").replace("mlp.linear_2.", "mlp.3.");
  const [, rest] = /^encoder\.layers\.encoder_layer_(?:0|[1-9]\d{0,4})\.(.+)$/.exec(current) ?? [];
  if (rest === undefined ? Object.hasOwn(outside, current) : Object.hasOwn(inside, rest)) return `trunk.${current}`;
  return naming === "torchvision" && /^heads\.head\.(?:weight|bias)$/.test(name)
    ? `fc.${name.slice("heads.head.".length)}`
    : undefined;
}

/** What a library calls a tensor of SEER's name; none where it has no place for it. */
export function vitFromSeer(name: string, naming: VitNaming): string | undefined {
  if (naming === "seer") return name;
  const classifiers = { timm: "head", torchvision: "heads.head", hf: "classifier" };
  if (name.startsWith("fc.")) return `${classifiers[naming]}.${name.slice("fc.".length)}`;
  if (!name.startsWith("trunk.")) return undefined;
  const plain = name.slice("trunk.".length);
  if (naming === "torchvision") return plain;
  const [, index, rest] = /^encoder\.layers\.encoder_layer_(\d+)\.(.+)$/.exec(plain) ?? [];
  if (naming === "hf") return index === undefined ? hfOutside[plain] : `${hfBlock(index)}${hfInside[rest]}`;
  return index === undefined ? outside[plain] : `blocks.${index}.${inside[rest]}`;
}

/**
 * The shape of the trunk whose tensors are given under SEER's names; heads of 64 numbers, as in every published network,
 * which tensors do not tell.
 *
 * @throws {WeightsError} when parts are missing or do not fit together.
 */
export function vitSpecOf(tensors: ReadonlyMap<string, Shaped>): VitSpec {
  const [width = 0, , patch = 0] = tensors.get(`trunk.${VIT_STEM}`)?.shape ?? [];
  const [, places = 0] = tensors.get("trunk.encoder.pos_embedding")?.shape ?? [];
  const [hidden = 0] = tensors.get(`trunk.${blockName(0)}.mlp.0.weight`)?.shape ?? [];
  let depth = 0;
  for (const name of tensors.keys()) {
    const [, index] = /^trunk\.encoder\.layers\.encoder_layer_(\d+)\./.exec(name) ?? [];
    if (index !== undefined) depth = Math.max(depth, Number(index) + 1);
  }
  // A file of few tensors must not name a network of many blocks.
  if (depth === 0 || depth > tensors.size) throw notVit(`${tensors.size} tensors cannot make its ${depth} blocks`);
  const grid = Math.sqrt(places - 1);
  if (!Number.isInteger(grid) || grid < 1) throw notVit(`${places} positions are no square and a class token`);
  if (width < 1 || patch < 1 || hidden < 1) throw notVit("its layers do not fit together");
  const heads = width % 64 === 0 ? width / 64 : 1;
  const spec = { imageSize: grid * patch, widths: [width], depths: [depth], heads, mlpRatio: hidden / width };
  return { kind: "vit", patch, ...spec };
}

/**
 * Every tensor of a trunk in torch's order, under SEER's names.
 *
 * @throws {WeightsError} when the numbers do not make a network.
 */
export function vitTensors(spec: VitSpec): ExpectedTensor[] {
  const { width, depth, hidden, grid } = numbersOf(spec), { patch } = spec;
  const shapes: Readonly<Record<string, readonly number[]>> = {
    "self_attention.in_proj_weight": [3 * width, width],
    "self_attention.in_proj_bias": [3 * width],
    "self_attention.out_proj.weight": [width, width],
    "mlp.0.weight": [hidden, width],
    "mlp.0.bias": [hidden],
    "mlp.3.weight": [width, hidden],
  };
  return [
    { name: "trunk.class_token", shape: [1, 1, width] },
    { name: "trunk.conv_proj.weight", shape: [width, 3, patch, patch] },
    { name: "trunk.conv_proj.bias", shape: [width] },
    { name: "trunk.encoder.pos_embedding", shape: [1, grid * grid + 1, width] },
    ...Array.from(
      { length: depth },
      (_, i) =>
        Object.keys(inside).map((part) => ({ name: `trunk.${blockName(i)}.${part}`, shape: shapes[part] ?? [width] })),
    )
      .flat(),
    { name: "trunk.encoder.ln.weight", shape: [width] },
    { name: "trunk.encoder.ln.bias", shape: [width] },
  ];
}

/** torchvision's and timm's names of published networks. */
const libraryNames: Readonly<Record<VitName, readonly [torchvision: string | undefined, timm: string]>> = {
  "vit_s_16": [undefined, "vit_small_patch16_224"],
  "vit_b_16": ["vit_b_16", "vit_base_patch16_224"],
};

/** The published network of this shape. */
export function publishedVit(spec: VitSpec): { name: VitName; torchvision?: string; timm: string } | undefined {
  const text = shapeText(spec);
  const isKnown = (name: string): name is VitName => Object.hasOwn(vitTable, name);
  const name = Object.keys(vitTable).filter(isKnown).find((name) => shapeText(vitTable[name]) === text);
  if (name === undefined) return undefined;
  const [torchvision, timm] = libraryNames[name];
  return { name, timm, ...torchvision === undefined ? {} : { torchvision } };
}

function shapeText(spec: VitSpec): string {
  return JSON.stringify([numbersOf(spec), spec.patch, spec.heads]);
}

function numbersOf(spec: VitSpec): ReturnType<typeof vitNumbers> {
  try {
    return vitNumbers(spec);
  } catch (error) {
    throw notVit(error instanceof Error ? error.message : String(error));
  }
}

function notVit(what: string): WeightsError {
  return new WeightsError(`Cannot use the weights: they must be a vision transformer's, and ${what}`);
}
