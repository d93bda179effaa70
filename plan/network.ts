/**
 * What a run's network is made of, counted from its configuration alone: parameters, multiply-adds and saved activations
 * of each part, batch-norm layers, head. It builds no layer and needs no device.
 */
import { headDims, modelSpec, type TrainConfig } from "../config.ts";
import { countActivations, countMacs, countParameters } from "../nn/count.ts";
import { regnetBlocks, type RegnetSpec } from "../nn/regnet_spec.ts";
import { halvedSide } from "../nn/segments.ts";

/** One row of the model summary. */
export interface StageSummary {
  /** `"stem"`, `"stage 1"`, … */
  readonly name: string;
  readonly blocks: number;
  readonly width: number;
  readonly parameters: number;
  /** At each crop size, in the order of the configuration: side of the output and multiply-adds of one image. */
  readonly at: readonly { readonly size: number; readonly side: number; readonly macs: number }[];
}

/** The network in numbers. */
export interface NetworkSummary {
  readonly name: string;
  readonly spec: Required<RegnetSpec>;
  readonly stages: readonly StageSummary[];
  readonly headDims: readonly number[];
  readonly parameters: {
    readonly trunk: number;
    readonly head: number;
    readonly prototypes: number;
    readonly total: number;
  };
  /** Multiply-adds of one forward pass over all crops of one image. */
  readonly macsPerImage: { readonly trunk: number; readonly head: number };
  /** In the trunk alone, and its channels together; each runs once per crop size. */
  readonly batchNorm: { readonly layers: number; readonly channels: number };
  /** In the head; each runs once per step. */
  readonly headBatchNorm: { readonly layers: number; readonly channels: number };
  /** Outputs of convolutions over all crops of one image ("activations" of the RegNet paper). */
  readonly convolutionOutputs: number;
}

/** The first `stages` stages of a network. */
function firstStages(spec: Required<RegnetSpec>, stages: number): Required<RegnetSpec> {
  return { ...spec, widths: spec.widths.slice(0, stages), depths: spec.depths.slice(0, stages) };
}

function summarizeStages(spec: Required<RegnetSpec>, sizes: readonly number[]): StageSummary[] {
  return Array.from({ length: spec.widths.length + 1 }, (_, stage) => {
    const upTo = firstStages(spec, stage), before = firstStages(spec, stage - 1);
    const added = (count: (part: Required<RegnetSpec>) => number) => count(upTo) - (stage === 0 ? 0 : count(before));
    return {
      name: stage === 0 ? "stem" : `stage ${stage}`,
      blocks: stage === 0 ? 1 : spec.depths[stage - 1],
      width: stage === 0 ? spec.stemWidth : spec.widths[stage - 1],
      parameters: added(countParameters),
      at: sizes.map((size) => ({
        size,
        side: halvedSide(size, stage + 1),
        macs: added((part) => countMacs(part, size)),
      })),
    };
  });
}

/** Parameters of the projection head: linear layers with biases, and batch norm behind the hidden ones. */
function countHead(dims: readonly number[], batchNorm: boolean): number {
  return dims.slice(1).reduce((sum, width, i) => {
    const hidden = i + 2 < dims.length;
    return sum + dims[i] * width + width + (batchNorm && hidden ? 2 * width : 0);
  }, 0);
}

/** Counts everything about the network of `config`. */
export function summarizeNetwork(config: TrainConfig): NetworkSummary {
  const spec = modelSpec(config), dims = headDims(config), sizes = config.crops.map((crop) => crop.size);
  const perCrop = (count: (size: number) => number) =>
    config.crops.reduce((sum, crop) => sum + crop.count * count(crop.size), 0);
  const blocks = regnetBlocks(spec);
  const trunk = countParameters(spec), head = countHead(dims, config.head.batchNorm);
  const prototypes = dims[dims.length - 1] * config.prototypes.count;
  const headMacs = dims.slice(1).reduce((sum, width, i) => sum + dims[i] * width, 0) + prototypes;
  const hidden = config.head.batchNorm ? dims.slice(1, -1) : [];
  return {
    name: config.model.name ?? `regnety ${spec.widths.join("/")}`,
    spec,
    stages: summarizeStages(spec, sizes),
    headDims: dims,
    parameters: { trunk, head, prototypes, total: trunk + head + prototypes },
    macsPerImage: { trunk: perCrop((size) => countMacs(spec, size)), head: perCrop(() => headMacs) },
    batchNorm: {
      layers: 1 + blocks.reduce((sum, block) => sum + (block.projected ? 4 : 3), 0),
      channels: spec.stemWidth + blocks.reduce((sum, block) => sum + block.width * (block.projected ? 4 : 3), 0),
    },
    headBatchNorm: { layers: hidden.length, channels: hidden.reduce((a, b) => a + b, 0) },
    convolutionOutputs: perCrop((size) => countActivations(spec, size)),
  };
}
