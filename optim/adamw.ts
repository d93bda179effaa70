/** AdamW as PyTorch's: decoupled weight decay, bias correction by the steps each parameter has taken itself. */
import { type AdamwConstants, updateByAdamw } from "../tensor/ops/update.ts";
import { type Tensor, tensorFrom } from "../tensor/tensor.ts";
import {
  type Optimizer,
  type SavedOptimizer,
  StateTensors,
  stepOf,
  type Trainable,
  type UpdateStep,
  withGradients,
} from "./optimizer.ts";

/** Options of {@linkcode adamw}. */
export interface AdamwOptions {
  /** @default 0.9 */
  beta1?: number;
  /** @default 0.999 */
  beta2?: number;
  /** @default 1e-8 */
  epsilon?: number;
  /** @default 0.01 */
  weightDecay?: number;
}

/** `p ← p·(1 − lr·wd) − lr·m̂ / (√v̂ + ε)`. */
export function adamw(options: AdamwOptions = {}): Optimizer {
  return new Adamw(options);
}

class Adamw implements Optimizer {
  stepCount = 0;
  readonly #constants: AdamwConstants;
  readonly #state = new StateTensors();
  /** Steps each parameter has taken; a parameter frozen at first starts its bias correction later than the others. */
  readonly #steps = new Map<string, { count: number; tensor: Tensor }>();

  /** Parameters that took the last step. */
  #counted: string[] = [];

  constructor({ beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 }: AdamwOptions) {
    this.#constants = { beta1, beta2, epsilon, weightDecay };
  }

  step(parameters: readonly Trainable[], gradients: ReadonlyMap<string, Tensor>, given: number | UpdateStep): void {
    const step = stepOf(given);
    const updates = withGradients(parameters, gradients);
    this.#counted = updates.map(([{ name }]) => name);
    const byCount = Map.groupBy(updates, ([parameter]) => this.#countOf(parameter));
    for (const [count, some] of byCount) {
      const moments = some.map(([parameter, gradient]) => ({
        parameter: parameter.tensor,
        gradient,
        first: this.#state.of(parameter, "exp_avg"),
        second: this.#state.of(parameter, "exp_avg_sq"),
      }));
      updateByAdamw(moments, { constants: this.#constants, step, count });
    }
    this.stepCount += 1;
  }

  retract(): void {
    for (const name of this.#counted.splice(0)) {
      const taken = this.#steps.get(name);
      if (taken) taken.count -= 1;
    }
    this.stepCount -= 1;
  }

  /** The number of the step that the parameter takes now, from 1. */
  #countOf({ name, tensor }: Trainable): number {
    const known = this.#steps.get(name);
    if (known) return known.count += 1;
    this.#steps.set(name, { count: 1, tensor: tensorFrom(tensor.device, Float32Array.of(1), [1]) });
    return 1;
  }

  state(): ReadonlyMap<string, Tensor> {
    const all = new Map(this.#state.all());
    for (const [name, { count, tensor }] of this.#steps) {
      tensor.device.write(tensor.buffer, Float32Array.of(count));
      all.set(`${name}.step`, tensor);
    }
    return all;
  }

  load(parameters: readonly Trainable[], { state, stepCount }: SavedOptimizer): void {
    const counts = [...state].filter(([key]) => key.endsWith(".step"));
    const moments = new Map([...state].filter(([key]) => !key.endsWith(".step")));
    this.#state.load(parameters, { saved: moments, kinds: ["exp_avg", "exp_avg_sq"] });
    this.#freeSteps();
    const device = parameters[0]?.tensor.device;
    for (const [key, data] of counts) {
      this.#steps.set(key.slice(0, -".step".length), { count: data[0], tensor: tensorFrom(device, data, [1]) });
    }
    this.stepCount = stepCount;
  }

  #freeSteps(): void {
    for (const { tensor } of this.#steps.values()) tensor.device.free(tensor.buffer);
    this.#steps.clear();
  }

  dispose(): void {
    this.#state.dispose();
    this.#freeSteps();
  }
}
