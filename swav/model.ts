/**
 * The network that SwAV trains: trunk, projection head, prototypes, with all names in one place. It knows no loss and no
 * optimiser.
 */
import type { Device } from "../device/device.ts";
import { normalizeColumnsInPlace } from "../kernels/normalize_columns.ts";
import { type ProjectionHead, projectionHead, prototypes } from "../nn/heads.ts";
import type { Linear } from "../nn/layers.ts";
import type { Network } from "../methods/step.ts";
import type { ForwardContext, Parameter } from "../nn/module.ts";
import type { TrunkSpec } from "../nn/trunk_spec.ts";
import { buildTrunk } from "../nn/trunks.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** What to build. */
export interface SwavModelSpec {
  readonly trunk: TrunkSpec;
  /** Hidden and output widths of the projection head. */
  readonly headDims: readonly number[];
  readonly headBatchNorm: boolean;
  /** @default false */
  readonly headLastBatchNorm?: boolean;
  readonly prototypes: number;
  /** Every initial weight is a function of this and the weight's name; zeros without it. */
  readonly seed: number | undefined;
}

/** Prototypes: `[N, dim]` → scores `[N, count]`, each prototype of unit length after {@linkcode Prototypes.normalize}. */
export class Prototypes {
  readonly count: number;
  readonly dim: number;
  readonly #layer: Linear;

  constructor(layer: Linear) {
    this.#layer = layer;
    [this.dim, this.count] = layer.weight.tensor.shape;
  }

  /** `[dim, count]` on the device. */
  get weight(): Parameter {
    return this.#layer.weight;
  }

  /** Divides each prototype by its length; done at the start of every step, also while prototypes are frozen. */
  normalize(): void {
    const { device, buffer } = this.weight.tensor;
    device.run(normalizeColumnsInPlace(this.dim, this.count), [buffer]);
  }

  /** Scores of normalised embeddings. */
  forward(embeddings: Tensor, context: ForwardContext): Tensor {
    return this.#layer.apply(embeddings, context);
  }
}

/** Trunk, head and prototypes on one device: `trunk.…`, `head.…`, `prototypes.weight`. */
export interface SwavModel extends Network {
  readonly head: ProjectionHead;
  readonly prototypes: Prototypes;
}

/** Builds the network with fresh weights. */
export function buildSwavModel(device: Device, spec: SwavModelSpec): SwavModel {
  const { seed, headDims, headBatchNorm, headLastBatchNorm: lastBatchNorm } = spec;
  const trunk = buildTrunk(spec.trunk, { device, seed, prefix: "trunk." });
  const dims = [trunk.width, ...headDims];
  const head = projectionHead({ device, seed, prefix: "head.", dims, batchNorm: headBatchNorm, lastBatchNorm });
  const layer = prototypes({ device, seed, prefix: "prototypes.", dim: dims[dims.length - 1], count: spec.prototypes });
  return {
    device,
    trunk,
    head,
    prototypes: new Prototypes(layer),
    parameters: [...trunk.parameters(), ...head.parameters(), ...layer.parameters()],
    buffers: [...trunk.buffers(), ...head.buffers()],
  };
}
