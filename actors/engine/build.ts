/** From a configuration to a model and its optimiser. It decides nothing of its own. */
import type { TrainConfig } from "../../config.ts";
import { modelSpec } from "../../config/models.ts";
import type { AdapterDescription, Device } from "../../device/device.ts";
import { chooseSegments, parseSegments, type Segment, stepActivations } from "../../nn/segments.ts";
import { adamw } from "../../optim/adamw.ts";
import { larc } from "../../optim/larc.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import { sgd } from "../../optim/sgd.ts";
import { buildSwavModel, type SwavModel } from "../../swav/model.ts";
import type { Storage } from "../../tensor/tensor.ts";

/** The configuration's network with fresh weights; `blank` leaves them zero, for a device that computes nothing. */
export function buildModel(device: Device, config: TrainConfig, { blank = false } = {}): SwavModel {
  return buildSwavModel(device, {
    trunk: modelSpec(config),
    headDims: config.head.dims,
    headBatchNorm: config.head.batchNorm,
    headLastBatchNorm: config.head.lastBatchNorm,
    prototypes: config.prototypes.count,
    seed: blank ? undefined : config.seed,
  });
}

/** How the configuration stores activations. */
export function storageOf({ precision }: TrainConfig): Storage {
  return precision === "mixed" ? "f16" : "f32";
}

/** Tensors of the parameters' size that an optimiser keeps. */
const OPTIMIZER_STATES = { larc: 1, sgd: 1, adamw: 2 } as const;

/** The parts of the trunk that a trainer of `replicas` replicas runs again in its backward pass. */
export function segmentsOf(
  config: TrainConfig,
  { parameterCount, replicas }: { parameterCount: number; replicas: number },
): Segment[] {
  const { mode, segments, memoryBudgetBytes } = config.checkpointing;
  if (mode === "none") return [];
  if (mode === "listed") return parseSegments(segments);
  const passes = stepActivations(modelSpec(config), {
    crops: config.crops,
    images: config.batchPerReplica,
    numberBytes: storageOf(config) === "f16" ? 2 : 4,
  });
  // Weights, the optimiser's state, each replica's gradients and their sum stay whatever is run again.
  const stateBytes = 4 * parameterCount * (2 + OPTIMIZER_STATES[config.optimizer.name] + replicas);
  const budget = memoryBudgetBytes && Math.max(0, memoryBudgetBytes - stateBytes);
  return chooseSegments(passes, { budget, replicas });
}

/**
 * Makes sure that an adapter has what the configuration's precision needs.
 *
 * @throws {TypeError} When it has no half precision and the configuration wants it; names the trainer.
 */
export function checkPrecision(
  { precision }: TrainConfig,
  { adapter, trainer }: { adapter: AdapterDescription; trainer: string },
): void {
  if (precision === "f32" || adapter.features.includes("f16")) return;
  const others = adapter.features.length === 0 ? "none of the optional features" : adapter.features.join(", ");
  throw new TypeError(
    `Cannot train in mixed precision on ${trainer}: its adapter "${adapter.name}" must have shader-f16, it has ` +
      `${others}; set precision to "f32", or give ${trainer} another adapter (cluster.adapters)`,
  );
}

/** The configuration's optimiser, without state yet. */
export function buildOptimizer({ optimizer }: TrainConfig): Optimizer {
  const { momentum, weightDecay, epsilon, beta1, beta2, trustCoefficient, excludeBiasAndNorm } = optimizer;
  switch (optimizer.name) {
    case "larc":
      return larc({ momentum, weightDecay, trustCoefficient, epsilon, excludeBiasAndNorm });
    case "sgd":
      return sgd({ momentum, weightDecay });
    case "adamw":
      return adamw({ beta1, beta2, epsilon, weightDecay });
  }
}
