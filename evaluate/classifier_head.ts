/** A linear classifier on one layer of a trunk, with pooling and normalisation before it. It knows no image and no rate. */
import type { Device } from "../device/device.ts";
import { classifier } from "../nn/heads.ts";
import { BatchNorm, type Linear } from "../nn/layers.ts";
import type { ForwardContext, Parameter } from "../nn/module.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import type { Trunk } from "../nn/trunks.ts";
import { poolGrid } from "../tensor/ops/pool_grid.ts";
import { reshape } from "../tensor/ops/reshape.ts";
import { freeTensors, type Tensor } from "../tensor/tensor.ts";
import { type FeatureLayer, headName, type HeadRecipe } from "./recipes.ts";

/** A trunk's outputs by layer: stages `[N, h, w, C]`, pooled `[N, C]`. */
export type LayerFeatures = Readonly<Partial<Record<FeatureLayer, Tensor>>>;

/** Runs a trunk, keeping what heads may ask for. Stages are kept only where no gradient flows back. */
export async function layersOf(trunk: Trunk, images: Tensor, context: ForwardContext): Promise<LayerFeatures> {
  if (context.tape.gradients) return { pooled: await trunk.forward(images, context) };
  const { stages, features } = await trunk.forwardStages(images, context);
  const [stage1, stage2, stage3, stage4] = stages;
  return { stage1, stage2, stage3, stage4, pooled: features };
}

/** Pools, normalises and classifies one layer's features. */
export class ClassifierHead {
  /** {@linkcode headName} of the recipe. */
  readonly name: string;
  readonly #recipe: HeadRecipe;
  readonly #norm: BatchNorm | undefined;
  readonly #linear: Linear;

  /**
   * @throws RangeError when the trunk has no such layer
   */
  constructor(options: {
    readonly device: Device;
    readonly seed: number;
    readonly trunk: Pick<Trunk, "spec" | "width">;
    readonly classes: number;
    readonly head: HeadRecipe;
  }) {
    const { device, seed, trunk, classes, head } = options;
    const { layer, grid = [1, 1], batchNorm = false } = head;
    const { stageWidths } = trunkShape(trunk.spec);
    const width = layer === "pooled" ? trunk.width : stageWidths[Number(layer.slice(-1)) - 1];
    if (width === undefined) {
      throw new RangeError(`Cannot build a head: the trunk has ${stageWidths.length} stages and no ${layer}`);
    }
    this.name = headName(head);
    this.#recipe = head;
    const path = this.name.replaceAll(/[^a-z0-9]+/gi, "-");
    if (batchNorm) this.#norm = new BatchNorm({ device, seed }, { name: `${path}.norm`, width, relu: false });
    const dim = width * (layer === "pooled" ? 1 : grid[0] * grid[1]);
    this.#linear = classifier({ device, seed, dim, classes, prefix: `${path}.fc.` });
  }

  parameters(): Parameter[] {
    return [...(this.#norm?.parameters() ?? []), ...this.#linear.parameters()];
  }

  /** Logits `[N, classes]`. */
  async forward(features: LayerFeatures, context: ForwardContext): Promise<Tensor> {
    const { layer, grid = [1, 1] } = this.#recipe;
    const found = features[layer];
    if (found === undefined) throw new TypeError(`Cannot classify: the features lack ${layer}`);
    const { tape } = context;
    const pooled = layer === "pooled" ? found : poolGrid(tape, found, grid);
    const normed = this.#norm === undefined ? pooled : await this.#norm.forward(pooled, context);
    const rows = normed.shape[0];
    const flat = normed.shape.length === 2 ? normed : reshape(tape, normed, [rows, normed.size / rows]);
    return this.#linear.apply(flat, context);
  }

  /** Frees the weights. */
  dispose(): void {
    freeTensors([
      ...this.parameters().map(({ tensor }) => tensor),
      ...this.#norm?.buffers().map((b) => b.tensor) ?? [],
    ]);
  }
}
