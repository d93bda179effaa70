/**
 * The JSON files that libraries keep beside weights: what network they are of. Formats: transformers' `RegNetConfig`,
 * timm's hub configuration.
 */
import { regnetBlocks, roundHalfEven } from "../nn/regnet_spec.ts";
import type { ResnetSpec } from "../nn/resnet_spec.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { isResnet, isVit, type TrunkSpec } from "../nn/trunk_spec.ts";
import { vitNumbers, type VitSpec } from "../nn/vit_spec.ts";
import { WeightsError } from "./error.ts";
import { networkNames } from "./network.ts";
import type { Naming } from "./naming.ts";
import { namesVits } from "./vit.ts";

/** What a configuration tells besides the shapes. */
export interface ConfigFacts {
  /** Outputs of the classifier; none without one. */
  readonly classes?: number;
  /** Side of the images that the network was trained on, in pixels. @default 224 */
  readonly imageSize?: number;
}

/** Of every published RegNet's inputs. */
const MEAN = [0.485, 0.456, 0.406], STD = [0.229, 0.224, 0.225];

/**
 * The `config.json` of weights that are named after `naming`.
 *
 * @throws {WeightsError} when the library cannot express the network.
 */
export function configFor(naming: Naming, spec: TrunkSpec, facts: ConfigFacts = {}): object {
  if (isVit(spec) && !namesVits(naming)) {
    throw new WeightsError(
      `Cannot name the weights for ${naming}: no names of vision transformers are known ` +
        "for it; export to torchvision or timm",
    );
  }
  if (naming === "hf") return transformersConfig(spec, facts);
  if (naming === "timm") return timmConfig(spec, facts);
  const { torchvision, seer } = networkNames(spec);
  const { classes = 0, imageSize = 224 } = facts;
  return {
    architecture: naming === "torchvision"
      ? torchvision ?? (isVit(spec) ? "VisionTransformer" : isResnet(spec) ? "ResNet" : "RegNet")
      : seer?.name ?? trunkShape(spec).family,
    network: spec,
    classes,
    imageSize,
    mean: MEAN,
    std: STD,
  };
}

function transformersConfig(spec: TrunkSpec, { classes }: ConfigFacts): object {
  if (isVit(spec)) return transformersVitConfig(spec, { classes });
  if (isResnet(spec)) return transformersResnetConfig(spec, { classes });
  const { stemWidth = 32, widths, depths, groupWidth, seRatio = 0.25 } = spec;
  const misfit = regnetBlocks(spec).find((block) =>
    seRatio > 0 && block.squeezeWidth !== roundHalfEven(block.inWidth / 4)
  );
  if (misfit !== undefined) {
    throw new WeightsError(
      `Cannot name the weights for transformers: its squeeze-and-excitation must be a quarter of the block's input, ` +
        `found ${misfit.squeezeWidth} of ${misfit.inWidth}; export to torchvision or timm`,
    );
  }
  return {
    architectures: [classes === undefined ? "RegNetModel" : "RegNetForImageClassification"],
    model_type: "regnet",
    num_channels: 3,
    embedding_size: stemWidth,
    hidden_sizes: widths,
    depths,
    groups_width: groupWidth,
    layer_type: seRatio > 0 ? "y" : "x",
    hidden_act: "relu",
    downsample_in_first_stage: true,
    ...classes === undefined ? {} : { num_labels: classes },
  };
}

function transformersVitConfig(spec: VitSpec, { classes }: ConfigFacts): object {
  const { width, depth, hidden } = vitNumbers(spec);
  return {
    architectures: [classes === undefined ? "ViTModel" : "ViTForImageClassification"],
    model_type: "vit",
    num_channels: 3,
    hidden_size: width,
    num_hidden_layers: depth,
    num_attention_heads: spec.heads,
    intermediate_size: hidden,
    hidden_act: "gelu",
    image_size: spec.imageSize,
    patch_size: spec.patch,
    qkv_bias: true,
    layer_norm_eps: 1e-6,
    ...classes === undefined ? {} : { num_labels: classes },
  };
}

/** Its blocks divide the width by 4 and have no groups; the 3×3 convolution has the stride. */
function transformersResnetConfig(spec: ResnetSpec, { classes }: ConfigFacts): object {
  const { groups, bottleneck, stemWidth, widths, depths } = spec;
  if (groups !== 1 || bottleneck !== 4) {
    throw new WeightsError(
      "Cannot name the weights for transformers: its ResNets have no groups and bottlenecks of a quarter, found " +
        `${groups} groups and 1/${bottleneck}; export to torchvision or timm`,
    );
  }
  return {
    architectures: [classes === undefined ? "ResNetModel" : "ResNetForImageClassification"],
    model_type: "resnet",
    num_channels: 3,
    embedding_size: stemWidth,
    hidden_sizes: widths,
    depths,
    layer_type: "bottleneck",
    hidden_act: "relu",
    downsample_in_first_stage: false,
    downsample_in_bottleneck: false,
    ...classes === undefined ? {} : { num_labels: classes },
  };
}

function timmConfig(spec: TrunkSpec, { classes = 0, imageSize = 224 }: ConfigFacts): object {
  const { timm } = networkNames(spec);
  const { family, width } = trunkShape(spec);
  return {
    // A network that timm does not name cannot be built by name.
    architecture: timm ?? family,
    num_classes: classes,
    num_features: width,
    global_pool: isVit(spec) ? "token" : "avg",
    pretrained_cfg: {
      tag: "seer",
      custom_load: false,
      input_size: [3, imageSize, imageSize],
      fixed_input_size: isVit(spec),
      interpolation: "bicubic",
      crop_pct: 1,
      crop_mode: "center",
      mean: MEAN,
      std: STD,
      num_classes: classes,
      first_conv: isVit(spec) ? "patch_embed.proj" : isResnet(spec) ? "conv1" : "stem.conv",
      classifier: isVit(spec) ? "head" : isResnet(spec) ? "fc" : "head.fc",
    },
    ...timm === undefined ? { network: spec } : {},
  };
}
