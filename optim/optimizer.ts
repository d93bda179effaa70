/**
 * What an optimiser is: an update of parameters in place from their gradients, with a state that can be saved. A
 * parameter without a gradient is not touched at all: no decay, no momentum. It knows no model and no schedule.
 */
import type { UpdateStep } from "../tensor/ops/update.ts";
import { type Tensor, tensorFrom, zeros } from "../tensor/tensor.ts";

export type { LossScaled, UpdateStep } from "../tensor/ops/update.ts";

/** What an optimiser needs of a parameter; `Parameter` of nn/ is one. */
export interface Trainable {
  readonly name: string;
  readonly tensor: Tensor;
  readonly kind: "convolution" | "linear" | "bias" | "normalization";
}

/** A saved optimiser: its tensors' numbers by name, in device layout, and the steps it has taken. */
export interface SavedOptimizer {
  readonly state: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
  readonly stepCount: number;
}

/** Updates parameters in place. */
export interface Optimizer {
  /** Steps taken. */
  readonly stepCount: number;
  /**
   * Applies one step. `gradients` is keyed by parameter name; parameters it lacks are left alone. Where gradients carry a
   * loss scale and have overflowed, the device leaves everything alone, and {@linkcode Optimizer.retract} must follow.
   *
   * @param step the learning rate, and the gradients' loss scale
   */
  step(
    parameters: readonly Trainable[],
    gradients: ReadonlyMap<string, Tensor>,
    step: number | UpdateStep,
  ): void;
  /** Forgets that the last step was counted, because its gradients had overflowed. */
  retract(): void;
  /** The state's tensors by name (`<parameter>.<what>`), in device layout; they stay the optimiser's. */
  state(): ReadonlyMap<string, Tensor>;
  /** Replaces the state by a saved one of the same parameters. */
  load(parameters: readonly Trainable[], saved: SavedOptimizer): void;
  /** Frees the state. */
  dispose(): void;
}

/** State tensors of the same shapes as their parameters, made when first needed. */
export class StateTensors {
  readonly #tensors = new Map<string, Tensor>();

  /** The state `what` of a parameter; zeros at first. */
  of({ name, tensor }: Trainable, what: string): Tensor {
    const key = `${name}.${what}`;
    let state = this.#tensors.get(key);
    if (state === undefined) {
      state = zeros(tensor.device, tensor.shape);
      this.#tensors.set(key, state);
    }
    return state;
  }

  /** All tensors by `<parameter>.<what>`. */
  all(): ReadonlyMap<string, Tensor> {
    return this.#tensors;
  }

  /**
   * Replaces the tensors by saved ones.
   *
   * @throws {TypeError} When a name belongs to none of the parameters, or its size is another.
   */
  load(parameters: readonly Trainable[], { saved, kinds }: { saved: SavedOptimizer["state"]; kinds: string[] }): void {
    const owners = new Map(parameters.flatMap((owner) => kinds.map((what) => [`${owner.name}.${what}`, owner])));
    for (const [key, data] of saved) {
      const owner = owners.get(key);
      if (owner?.tensor.size !== data.length) {
        throw new TypeError(
          `Cannot load the optimiser: '${key}' must be the state of a parameter of ${data.length} numbers, it is ${
            owner ? `of one with ${owner.tensor.size}` : "of none"
          }`,
        );
      }
    }
    this.dispose();
    for (const [key, data] of saved) {
      const owner = owners.get(key);
      if (owner) this.#tensors.set(key, tensorFrom(owner.tensor.device, data, owner.tensor.shape));
    }
  }

  /** Frees all tensors. */
  dispose(): void {
    for (const { device, buffer } of this.#tensors.values()) device.free(buffer);
    this.#tensors.clear();
  }
}

/** The parameters that have a gradient, with it. */
export function withGradients(
  parameters: readonly Trainable[],
  gradients: ReadonlyMap<string, Tensor>,
): [Trainable, Tensor][] {
  return parameters.flatMap((parameter): [Trainable, Tensor][] => {
    const gradient = gradients.get(parameter.name);
    return gradient === undefined ? [] : [[parameter, gradient]];
  });
}

/** The step of a learning rate alone. */
export function stepOf(step: number | UpdateStep): UpdateStep {
  return typeof step === "number" ? { learningRate: step } : step;
}
