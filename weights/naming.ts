/**
 * How libraries name the tensors of a RegNet, ResNet or vision transformer: SEER's own checkpoints, torchvision, timm, VISSL (and ClassyVision) and
 * Hugging Face's transformers. Names are translated part by part, in both directions; shapes are not looked at.
 * Sources: torchvision `regnet.py` and `resnet.py`, VISSL `resnext.py`, timm `regnet.py`, ClassyVision `anynet.py` in VISSL's trunk, transformers
 * `modeling_regnet.py` and its `convert_regnet_seer_10b_to_pytorch.py`.
 */

import { HF_RESNET_STEM, isResnetTensor, RESNET_STEM, resnetFromHf, resnetToHf } from "./resnet.ts";
import { namesVits, vitFromSeer, vitStem, vitToSeer } from "./vit.ts";

/** Whose names. */
export type Naming = "seer" | "torchvision" | "timm" | "vissl" | "hf";

/** All of them, as users type them. */
export const namings: readonly Naming[] = ["seer", "torchvision", "timm", "vissl", "hf"];

/** The layers of a block, and `stem`, `fc`, `head`, `prototypes` outside of blocks. */
interface Layout {
  /** Convolution and normalisation of the stem. */
  readonly stem: readonly [string, string];
  /** What comes before a block's layers; stages count from 1, blocks from 0. */
  readonly block: (stage: number, index: number) => string;
  /** Groups: stage as {@linkcode Layout.stageOffset} counts it, block as `blockOffset` does, layer with its tensor. */
  readonly blockPattern: RegExp;
  readonly stageOffset: number;
  readonly blockOffset: number;
  /** Inside of a block, by torchvision's names. */
  readonly layers: Readonly<Record<string, string>>;
  /** The classifier; without one it has no place. */
  readonly classifier: string;
  /** Prefixes of SwAV's projection head, and its prototypes' weight; without them they have no place. */
  readonly head?: string;
  readonly prototypes?: string;
  /** Left off before a name is read. */
  readonly prefix?: RegExp;
}

const torchvisionLayers = [
  "proj.0",
  "proj.1",
  "f.a.0",
  "f.a.1",
  "f.b.0",
  "f.b.1",
  "f.se.fc1",
  "f.se.fc2",
  "f.c.0",
  "f.c.1",
];

/** Pairs torchvision's names of a block's layers with another library's, given in the same order. */
function layers(...others: string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(torchvisionLayers.map((name, i) => [name, others[i]]));
}

const number = String.raw`(0|[1-9]\d{0,4})`;

const torchvision: Layout = {
  stem: ["stem.0", "stem.1"],
  block: (stage, index) => `trunk_output.block${stage}.block${stage}-${index}`,
  blockPattern: new RegExp(String.raw`^trunk_output\.block${number}\.block\1-${number}\.(.+)$`),
  stageOffset: 0,
  blockOffset: 0,
  layers: layers(...torchvisionLayers),
  classifier: "fc",
};

const layouts: Readonly<Record<Naming, Layout>> = {
  torchvision,
  seer: {
    ...torchvision,
    stem: ["trunk.stem.0", "trunk.stem.1"],
    block: (stage, index) => `trunk.${torchvision.block(stage, index)}`,
    blockPattern: new RegExp(String.raw`^trunk\.trunk_output\.block${number}\.block\1-${number}\.(.+)$`),
    head: "head",
    prototypes: "prototypes",
  },
  timm: {
    stem: ["stem.conv", "stem.bn"],
    block: (stage, index) => `s${stage}.b${index + 1}`,
    blockPattern: new RegExp(String.raw`^s${number}\.b${number}\.(.+)$`),
    stageOffset: 0,
    blockOffset: 1,
    layers: layers(
      ...["downsample.conv", "downsample.bn", "conv1.conv", "conv1.bn", "conv2.conv", "conv2.bn"],
      ...["se.fc1", "se.fc2", "conv3.conv", "conv3.bn"],
    ),
    classifier: "head.fc",
  },
  vissl: {
    stem: ["_feature_blocks.conv1.stem.0", "_feature_blocks.conv1.stem.1"],
    block: (stage, index) => `_feature_blocks.res${stage + 1}.block${stage}-${index}`,
    // The trunks of the 10B network insert the part of a stage that one checkpoint of activations covers.
    blockPattern: new RegExp(
      String.raw`^_feature_blocks\.res${number}(?:\.block\d+-part\d+)?\.block\d+-${number}\.(.+)$`,
    ),
    stageOffset: 1,
    blockOffset: 0,
    layers: layers(
      ...["proj", "bn", "f.a.0", "f.a.1", "f.b.0", "f.b.1"],
      ...["f.se.excitation.0", "f.se.excitation.2", "f.c", "f.final_bn"],
    ),
    classifier: "0.clf.0",
    head: "0.projection_head",
    prototypes: "0.prototypes0",
  },
  hf: {
    stem: ["embedder.embedder.convolution", "embedder.embedder.normalization"],
    block: (stage, index) => `encoder.stages.${stage - 1}.layers.${index}`,
    blockPattern: new RegExp(String.raw`^encoder\.stages\.${number}\.layers\.${number}\.(.+)$`),
    stageOffset: -1,
    blockOffset: 0,
    layers: layers(
      ...["shortcut.convolution", "shortcut.normalization", "layer.0.convolution", "layer.0.normalization"],
      ...["layer.1.convolution", "layer.1.normalization", "layer.2.attention.0", "layer.2.attention.2"],
      ...["layer.3.convolution", "layer.3.normalization"],
    ),
    classifier: "classifier.1",
    prefix: /^regnet\./,
  },
};

/** A block without squeeze-and-excitation has its last convolution one place earlier in transformers. */
const hfWithoutSqueeze: Readonly<Record<string, string>> = {
  ...layouts.hf.layers,
  "f.c.0": "layer.2.convolution",
  "f.c.1": "layer.2.normalization",
};

const tensorPattern = /^(.+)\.(weight|bias|running_mean|running_var|num_batches_tracked)$/;

/** What libraries put before a ResNet's names, which are torchvision's everywhere but in transformers. */
const resnetPrefixes: Readonly<Partial<Record<Naming, string>>> = {
  seer: "trunk.",
  torchvision: "",
  timm: "",
  vissl: "_feature_blocks.",
};

/**
 * The naming that some names are in, by those of the stem; none where they are no trunk's. Of several, as timm's and
 * torchvision's for a ResNet, it is `preferred` or the first.
 */
export function namingOf(names: Iterable<string>, preferred?: Naming): Naming | undefined {
  const given = new Set([...names].map((name) => name.replace(/^module\./, "")));
  const found = namings.filter((naming) => {
    const weight = `${layouts[naming].stem[0]}.weight`, prefix = resnetPrefixes[naming];
    return given.has(weight) || naming === "hf" && given.has(HF_RESNET_STEM) ||
      naming === "hf" && given.has(`regnet.${weight}`) ||
      prefix !== undefined && given.has(prefix + RESNET_STEM) || namesVits(naming) && given.has(vitStem(naming));
  });
  return found.find((naming) => naming === preferred) ?? found[0];
}

/** SEER's name of a tensor; none where `naming` has no such name. A `module.` that data parallelism left is ignored. */
export function toSeer(name: string, naming: Naming): string | undefined {
  const layout = layouts[naming];
  const plain = name.replace(/^module\./, "").replace(layout.prefix ?? /^$/, "");
  const resnet = naming === "hf" ? resnetFromHf(plain) : undefined;
  if (resnet !== undefined) return `${resnetPrefixes.seer}${resnet}`;
  const resnetPrefix = resnetPrefixes[naming];
  if (resnetPrefix !== undefined && plain.startsWith(resnetPrefix)) {
    const rest = plain.slice(resnetPrefix.length);
    if (isResnetTensor(rest)) return `${resnetPrefixes.seer}${rest}`;
  }
  const transformer = namesVits(naming) ? vitToSeer(plain, naming) : undefined;
  if (transformer !== undefined) return transformer;
  const block = layout.blockPattern.exec(plain);
  if (block !== null) {
    const [, stage, index, rest] = block;
    const [, layer, tensor] = tensorPattern.exec(rest) ?? [];
    const known = torchvisionLayers.find((ours) =>
      layout.layers[ours] === layer || naming === "hf" && hfWithoutSqueeze[ours] === layer
    );
    const [stageNumber, place] = [Number(stage) - layout.stageOffset, Number(index) - layout.blockOffset];
    if (known === undefined || stageNumber < 1 || place < 0) return undefined;
    return `${layouts.seer.block(stageNumber, place)}.${known}.${tensor}`;
  }
  const [, layer, tensor] = tensorPattern.exec(plain) ?? [];
  if (layer === undefined) return undefined;
  const stem = layout.stem.indexOf(layer);
  if (stem >= 0) return `${layouts.seer.stem[stem]}.${tensor}`;
  // timm has `fc` in its ResNets, `head.fc` in its RegNets.
  if (layer === layout.classifier || naming === "timm" && layer === "fc") return `fc.${tensor}`;
  if (layer === layout.prototypes) return `prototypes.${tensor}`;
  const place = layout.head !== undefined && layer.startsWith(`${layout.head}.`) && layer.slice(layout.head.length + 1);
  return place && /^\d+$/.test(place) ? `head.${place}.${tensor}` : undefined;
}

/** The name that `naming` gives a tensor of SEER's name; none where it has no place for it. */
export function fromSeer(
  name: string,
  { naming, squeezed, resnet = false, vit = false }: {
    naming: Naming;
    squeezed: boolean;
    resnet?: boolean;
    vit?: boolean;
  },
): string | undefined {
  if (vit) return namesVits(naming) ? vitFromSeer(name, naming) : undefined;
  const layout = layouts[naming];
  const prefix = resnetPrefixes[naming];
  if (resnet && naming === "hf" && name.startsWith("trunk.")) return resnetToHf(name.slice("trunk.".length));
  if (resnet && name.startsWith("trunk.")) return `${prefix}${name.slice("trunk.".length)}`;
  const [, layer, tensor] = tensorPattern.exec(name) ?? [];
  if (layer === undefined) return undefined;
  const block = layouts.seer.blockPattern.exec(name);
  if (block !== null) {
    const [, stage, index, rest] = block;
    const [, ours] = tensorPattern.exec(rest) ?? [];
    const table = naming === "hf" && !squeezed ? hfWithoutSqueeze : layout.layers;
    if (ours === undefined || !Object.hasOwn(table, ours)) return undefined;
    return `${layout.block(Number(stage), Number(index))}.${table[ours]}.${tensor}`;
  }
  const stem = layouts.seer.stem.indexOf(layer);
  if (stem >= 0) return `${layout.stem[stem]}.${tensor}`;
  if (layer === "fc") return `${resnet && naming === "timm" ? "fc" : layout.classifier}.${tensor}`;
  if (layer === "prototypes") return layout.prototypes && `${layout.prototypes}.${tensor}`;
  if (/^head\.\d+$/.test(layer)) return layout.head && `${layout.head}${layer.slice("head".length)}.${tensor}`;
  return undefined;
}
