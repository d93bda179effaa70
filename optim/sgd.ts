/** SGD with momentum, weight decay and Nesterov's look-ahead, as PyTorch's. */
import { type SgdConstants, updateBySgd } from "../tensor/ops/update.ts";
import type { Tensor } from "../tensor/tensor.ts";
import {
  type Optimizer,
  type SavedOptimizer,
  StateTensors,
  stepOf,
  type Trainable,
  type UpdateStep,
  withGradients,
} from "./optimizer.ts";

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

  step(parameters: readonly Trainable[], gradients: ReadonlyMap<string, Tensor>, step: number | UpdateStep): void {
    const updates = withGradients(parameters, gradients).map(([parameter, gradient]) => ({
      parameter: parameter.tensor,
      gradient,
      velocity: this.#state.of(parameter, "momentum"),
    }));
    updateBySgd(updates, { constants: this.#constants, step: stepOf(step) });
    this.stepCount += 1;
  }

  retract(): void {
    this.stepCount -= 1;
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
