/** SGD with momentum, weight decay and Nesterov's look-ahead, as PyTorch's. */
import { type SgdConstants, updateBySgd } from "../tensor/ops/update.ts";
import { freeTensors, type Tensor, tensorFrom } from "../tensor/tensor.ts";
import { type Optimizer, type SavedOptimizer, StateTensors, type Trainable, withGradients } from "./optimizer.ts";

/** Options of {@linkcode sgd}. */
export interface SgdOptions {
  /** @default 0.9 */
  momentum?: number;
  /** @default 0 */
  weightDecay?: number;
  /** @default false */
  nesterov?: boolean;
}

/** `g ← g + wd·p; v ← momentum·v + g; p ← p − lr·v`, with Nesterov `p ← p − lr·(g + momentum·v)`. */
export function sgd(options: SgdOptions = {}): Optimizer {
  return new Sgd(options);
}

class Sgd implements Optimizer {
  stepCount = 0;
  readonly #constants: SgdConstants;
  readonly #state = new StateTensors();

  constructor({ momentum = 0.9, weightDecay = 0, nesterov = false }: SgdOptions) {
    this.#constants = { momentum, weightDecay, nesterov };
  }

  step(parameters: readonly Trainable[], gradients: ReadonlyMap<string, Tensor>, learningRate: number): void {
    const updates = withGradients(parameters, gradients);
    if (updates.length > 0) {
      const scalars = tensorFrom(updates[0][1].device, Float32Array.of(learningRate), [1]);
      for (const [parameter, gradient] of updates) {
        const velocity = this.#state.of(parameter, "momentum");
        updateBySgd({ parameter: parameter.tensor, gradient, scalars, velocity }, this.#constants);
      }
      freeTensors([scalars]);
    }
    this.stepCount += 1;
  }

  state(): ReadonlyMap<string, Tensor> {
    return this.#state.all();
  }

  load(parameters: readonly Trainable[], { state, stepCount }: SavedOptimizer): void {
    this.#state.load(parameters, { saved: state, kinds: ["momentum"] });
    this.stepCount = stepCount;
  }

  dispose(): void {
    this.#state.dispose();
  }
}
