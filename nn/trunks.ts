/**
 * The one place that turns a trunk's shape into a trunk, whatever its family. Those who train, judge or embed know
 * {@linkcode Trunk} only.
 */
import type { Tensor } from "../tensor/tensor.ts";
import type { ForwardContext, Module } from "./module.ts";
import { RegNetY, type TrunkOptions } from "./regnet.ts";
import { ResNet } from "./resnet.ts";
import type { StageOutputs } from "./staged_trunk.ts";
import { isResnet, isVit, type TrunkSpec } from "./trunk_spec.ts";
import { VisionTransformer } from "./vit.ts";

export type { StageOutputs } from "./staged_trunk.ts";
export type { TrunkOptions } from "./regnet.ts";

/** A trunk of any family: images `[N, H, W, 3]` → features `[N, C]`. */
export interface Trunk extends Module {
  readonly spec: TrunkSpec;
  /** Width of the features, C. */
  readonly width: number;
  /** As `forward`, keeping the outputs of the stem and of every stage; meant for passes without gradients. */
  forwardStages(x: Tensor, context: ForwardContext): Promise<StageOutputs>;
}

/**
 * Builds a trunk with fresh weights.
 *
 * @throws {RangeError} When the shape makes no network.
 */
export function buildTrunk(spec: TrunkSpec, options: TrunkOptions): Trunk {
  if (isVit(spec)) return new VisionTransformer(spec, options);
  return isResnet(spec) ? new ResNet(spec, options) : new RegNetY(spec, options);
}
