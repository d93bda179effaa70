/**
 * What a trunk's shape tells without building it: its parts with parameters, multiply-adds and outputs of every layer, and
 * what each unit keeps for the backward pass. Plans, summaries and checks read this and know no family; a new family adds
 * a case to {@linkcode trunkShape}.
 */
import { type BlockSpec, regnetBlocks } from "./regnet_spec.ts";
import { resnetBlocks } from "./resnet_spec.ts";
import { isResnet, isVit, type TrunkSpec } from "./trunk_spec.ts";
import { vitShape } from "./vit_shape.ts";

/** One convolution or linear layer, or a squeeze-and-excitation, as counted; sizes are sides of square images. */
export interface CountedLayer {
  readonly parameters: number;
  /** Multiply-adds of one image. */
  macs(size: number): number;
  /** Numbers that it gives for one image, "activations" in the RegNet paper. */
  outputs(size: number): number;
  /** Channels of the batch normalisation behind it; 0 without one. */
  readonly normalised: number;
}

/** A stretch of a trunk: one row of a summary. */
export interface TrunkPart {
  /** `"stem"`, `"stage 1"`, … */
  readonly name: string;
  readonly blocks: number;
  readonly width: number;
  /** Side of the output. */
  side(size: number): number;
  readonly layers: readonly CountedLayer[];
}

/** Numbers that one unit's pass over one image keeps for its backward pass. */
export interface UnitActivations {
  /** All, the unit's output included. */
  readonly all: number;
  readonly output: number;
  /** The most gradients that are alive at once while the unit goes backward. */
  readonly gradients: number;
}

/** A trunk in numbers. */
export interface TrunkShape {
  /** Family, e.g. `"regnety"`; with the widths it names a network that has no name. */
  readonly family: string;
  /** Channels of the features. */
  readonly width: number;
  /** Channels of the layers that probes may read beside the features: the stages'. */
  readonly stageWidths: readonly number[];
  readonly parts: readonly TrunkPart[];
  /** Units, which segments count: the stem and the blocks. */
  readonly units: number;
  /** What each unit keeps for one image of `size` pixels: raw outputs of its convolutions and its own output. */
  unitActivations(size: number): UnitActivations[];
}

/** Side of the output after `halvings` convolutions or poolings of stride 2. */
export function halvedSide(side: number, halvings: number): number {
  return halvings === 0 ? side : halvedSide(Math.floor((side - 1) / 2) + 1, halvings - 1);
}

/**
 * The shape's numbers, whatever the family.
 *
 * @throws {RangeError} When the shape makes no network.
 */
export function trunkShape(spec: TrunkSpec): TrunkShape {
  if (isVit(spec)) return vitShape(spec);
  if (isResnet(spec)) {
    return stagedShape({ ...spec, family: "resnet", stemKernel: 7, pooled: true }, resnetBlocks(spec));
  }
  const family = spec.seRatio === 0 ? "regnetx" : "regnety";
  return stagedShape({ stemWidth: 32, ...spec, family, stemKernel: 3, pooled: false }, regnetBlocks(spec));
}

/** What stages of residual bottleneck blocks have in common. */
interface StagedSpec {
  readonly family: string;
  readonly stemWidth: number;
  readonly stemKernel: number;
  /** Whether the stem ends in a pooling of stride 2. */
  readonly pooled: boolean;
  readonly widths: readonly number[];
  readonly depths: readonly number[];
}

/** Stage s ends at side `halvedSide(size, s + 2)` in every family here, whether its first block halves or the stem does. */
function stagedShape(spec: StagedSpec, blocks: readonly BlockSpec[]): TrunkShape {
  const { family, stemWidth, stemKernel, widths, depths } = spec;
  const stem = convolution({ weights: 3 * stemKernel ** 2 * stemWidth, width: stemWidth, halvings: 1 });
  return {
    family,
    width: widths[widths.length - 1],
    stageWidths: widths,
    parts: [
      {
        name: "stem",
        blocks: 1,
        width: stemWidth,
        side: (size) => halvedSide(size, spec.pooled ? 2 : 1),
        layers: [stem],
      },
      ...widths.map((width, stage) => ({
        name: `stage ${stage + 1}`,
        blocks: depths[stage],
        width,
        side: (size: number) => halvedSide(size, stage + 2),
        layers: blocks.filter((block) => block.stage === stage).flatMap(blockLayers),
      })),
    ],
    units: blocks.length + 1,
    unitActivations: (size) => [stemActivations(spec, size), ...blocks.map((block) => blockActivations(block, size))],
  };
}

function convolution(
  { weights, width, halvings }: { weights: number; width: number; halvings: number },
): CountedLayer {
  return {
    parameters: weights + 2 * width,
    macs: (size) => weights * halvedSide(size, halvings) ** 2,
    outputs: (size) => width * halvedSide(size, halvings) ** 2,
    normalised: width,
  };
}

function blockLayers(block: BlockSpec): CountedLayer[] {
  const { stage, inWidth, innerWidth, width, stride, groups, squeezeWidth, projected } = block;
  const output = stage + 2, input = stride === 2 ? stage + 1 : output;
  const layers = [
    convolution({ weights: inWidth * innerWidth, width: innerWidth, halvings: input }),
    convolution({ weights: 9 * innerWidth * innerWidth / groups, width: innerWidth, halvings: output }),
    convolution({ weights: innerWidth * width, width, halvings: output }),
  ];
  if (projected) layers.push(convolution({ weights: inWidth * width, width, halvings: output }));
  if (squeezeWidth > 0) {
    const weights = 2 * innerWidth * squeezeWidth, outputs = squeezeWidth + innerWidth;
    layers.push({ parameters: weights + outputs, macs: () => weights, outputs: () => outputs, normalised: 0 });
  }
  return layers;
}

function stemActivations({ stemWidth, pooled }: StagedSpec, size: number): UnitActivations {
  const raw = stemWidth * halvedSide(size, 1) ** 2, output = pooled ? stemWidth * halvedSide(size, 2) ** 2 : raw;
  return { all: 2 * raw + (pooled ? output : 0), output, gradients: pooled ? output + 2 * raw : 2 * raw };
}

function blockActivations(block: BlockSpec, size: number): UnitActivations {
  const { stage, stride, inWidth, innerWidth, width, squeezeWidth, projected } = block;
  const inPixels = halvedSide(size, stride === 2 ? stage + 1 : stage + 2) ** 2,
    pixels = halvedSide(size, stage + 2) ** 2;
  const output = width * pixels, wide = innerWidth * inPixels, inner = innerWidth * pixels, input = inWidth * inPixels;
  const squeeze = squeezeWidth > 0 ? 2 * innerWidth + squeezeWidth : 0;
  return {
    all: wide + inner + (projected ? 3 : 2) * output + squeeze,
    output,
    // The gradient that came, and the wider of what is being made.
    gradients: output + Math.max(output + inner, wide + Math.max(inner, input)),
  };
}
