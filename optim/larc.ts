/**
 * LARC around SGD with momentum, as SEER ran it: apex's LARC with clip off, where each tensor's gradient is rescaled by
 * the ratio of the weight's norm to the gradient's. Nothing is excluded unless asked for; a tensor whose weight or
 * gradient has norm zero takes its raw, undecayed gradient. Source: apex `LARC.py`, VISSL `swav_8node_resnet.yaml`.
 */
import { type LarcConstants, updateByLarc, updateBySgd } from "../tensor/ops/update.ts";
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

/** Options of {@linkcode larc}. */
export interface LarcOptions {
  /** @default 0.9 */
  momentum?: number;
  /** @default 1e-5 */
  weightDecay?: number;
  /** @default 0.001 */
  trustCoefficient?: number;
  /** @default 1e-8 */
  epsilon?: number;
  /**
   * Biases and batch-norm weights take plain, undecayed SGD steps, as in most libraries; SEER excludes nothing.
   * @default false
   */
  excludeBiasAndNorm?: boolean;
}

/** `a = trust·‖p‖ / (‖g‖ + wd·‖p‖ + ε); v ← momentum·v + a·(g + wd·p); p ← p − lr·v`. */
export function larc(options: LarcOptions = {}): Optimizer {
  return new Larc(options);
}

class Larc implements Optimizer {
  stepCount = 0;
  readonly #constants: LarcConstants;
  readonly #exclude: boolean;
  readonly #state = new StateTensors();

  constructor(options: LarcOptions) {
    const { momentum = 0.9, weightDecay = 1e-5, trustCoefficient = 0.001, epsilon = 1e-8, excludeBiasAndNorm = false } =
      options;
    this.#constants = { momentum, weightDecay, trustCoefficient, epsilon };
    this.#exclude = excludeBiasAndNorm;
  }

  step(parameters: readonly Trainable[], gradients: ReadonlyMap<string, Tensor>, given: number | UpdateStep): void {
    const step = stepOf(given);
    const updates = withGradients(parameters, gradients).map(([parameter, gradient]) => ({
      excluded: this.#excludes(parameter),
      parameter: parameter.tensor,
      gradient,
      velocity: this.#state.of(parameter, "momentum"),
    }));
    const { momentum } = this.#constants;
    updateBySgd(updates.filter(({ excluded }) => excluded), {
      constants: { momentum, weightDecay: 0, nesterov: false },
      step,
    });
    updateByLarc(updates.filter(({ excluded }) => !excluded), { constants: this.#constants, step });
    this.stepCount += 1;
  }

  retract(): void {
    this.stepCount -= 1;
  }

  #excludes({ kind }: Trainable): boolean {
    return this.#exclude && (kind === "bias" || kind === "normalization");
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
