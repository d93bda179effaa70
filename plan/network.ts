/**
 * What a run's network is made of, counted from its configuration alone: parameters, multiply-adds and saved activations
 * of each part, batch-norm layers, head. It builds no layer and needs no device.
 */
import { headDims, modelSpec, type TrainConfig } from "../config.ts";
import { countActivations, countMacs, countParameters } from "../nn/count.ts";
import { type TrunkShape, trunkShape } from "../nn/trunk_shape.ts";
import type { FullTrunkSpec } from "../nn/trunk_spec.ts";

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
  readonly spec: FullTrunkSpec;
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

function summarizeStages({ parts }: TrunkShape, sizes: readonly number[]): StageSummary[] {
  return parts.map(({ name, blocks, width, side, layers }) => ({
    name,
    blocks,
    width,
    parameters: layers.reduce((sum, { parameters }) => sum + parameters, 0),
    at: sizes.map((size) => ({
      size,
      side: side(size),
      macs: layers.reduce((sum, layer) => sum + layer.macs(size), 0),
    })),
  }));
}

/** Parameters of the head: linear layers with biases, and batch norm behind those of these widths. */
function countHead(dims: readonly number[], normalised: readonly number[]): number {
  const linear = dims.slice(1).reduce((sum, width, i) => sum + dims[i] * width + width, 0);
  return linear + 2 * normalised.reduce((sum, width) => sum + width, 0);
}

/** Widths of the head's layers that batch norm follows. */
function normalisedDims({ head, method }: TrainConfig, dims: readonly number[]): number[] {
  if (method.name === "supervised" || method.name === "hashtag") return [];
  return [...(head.batchNorm ? dims.slice(1, -1) : []), ...(head.lastBatchNorm ? dims.slice(-1) : [])];
}

/** Counts everything about the network of `config`. */
export function summarizeNetwork(config: TrainConfig): NetworkSummary {
  const spec = modelSpec(config), dims = headDims(config), sizes = config.crops.map((crop) => crop.size);
  const perCrop = (count: (size: number) => number) =>
    config.crops.reduce((sum, crop) => sum + crop.count * count(crop.size), 0);
  const shape = trunkShape(spec);
  const norms = shape.parts.flatMap(({ layers }) => layers.map(({ normalised }) => normalised)).filter((n) => n > 0);
  const normalised = normalisedDims(config, dims);
  const trunk = countParameters(spec), head = countHead(dims, normalised);
  const prototypes = config.method.name === "swav" ? dims[dims.length - 1] * config.prototypes.count : 0;
  const headMacs = dims.slice(1).reduce((sum, width, i) => sum + dims[i] * width, 0) + prototypes;
  return {
    name: config.model.name ?? `${shape.family} ${shape.stageWidths.join("/")}`,
    spec,
    stages: summarizeStages(shape, sizes),
    headDims: dims,
    parameters: { trunk, head, prototypes, total: trunk + head + prototypes },
    macsPerImage: { trunk: perCrop((size) => countMacs(spec, size)), head: perCrop(() => headMacs) },
    batchNorm: { layers: norms.length, channels: norms.reduce((a, b) => a + b, 0) },
    headBatchNorm: { layers: normalised.length, channels: normalised.reduce((a, b) => a + b, 0) },
    convolutionOutputs: perCrop((size) => countActivations(spec, size)),
  };
}
