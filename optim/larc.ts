/**
 * LARC around SGD with momentum, as SEER ran it: apex's LARC with clip off, where each tensor's gradient is rescaled by
 * the ratio of the weight's norm to the gradient's. Nothing is excluded unless asked for; a tensor whose weight or
 * gradient has norm zero takes its raw, undecayed gradient. Source: apex `LARC.py`, VISSL `swav_8node_resnet.yaml`.
 */
import { type LarcConstants, larcNorms, larcPartials, larcRatio, larcUpdate, sgdUpdate } from "../kernels/optimizer.ts";
import type { DeviceBuffer } from "../device/device.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Optimizer, type SavedOptimizer, StateTensors, type Trainable, withGradients } from "./optimizer.ts";

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

  step(parameters: readonly Trainable[], gradients: ReadonlyMap<string, Tensor>, learningRate: number): void {
    const device = parameters[0]?.tensor.device;
    const scalars = device?.upload(Float32Array.of(learningRate));
    for (const [parameter, gradient] of withGradients(parameters, gradients)) {
      const excluded = this.#exclude && (parameter.kind === "bias" || parameter.kind === "normalization");
      if (excluded) this.#plainStep(parameter, { gradient, scalars });
      else this.#scaledStep(parameter, { gradient, scalars });
    }
    device?.free(scalars);
    this.stepCount += 1;
  }

  #scaledStep(parameter: Trainable, { gradient, scalars }: { gradient: Tensor; scalars: DeviceBuffer }): void {
    const { tensor } = parameter;
    const { device, buffer, size } = tensor;
    const velocity = this.#state.of(parameter, "momentum");
    const partials = device.allocate(4 * larcPartials(size)), ratio = device.allocate(8);
    device.run(larcNorms(size), [buffer, gradient.buffer, partials]);
    device.run(larcRatio(size, this.#constants), [partials, ratio]);
    device.run(larcUpdate(size, this.#constants), [gradient.buffer, ratio, scalars, velocity.buffer, buffer]);
    device.free(partials);
    device.free(ratio);
  }

  #plainStep(parameter: Trainable, { gradient, scalars }: { gradient: Tensor; scalars: DeviceBuffer }): void {
    const { device, buffer, size } = parameter.tensor;
    const velocity = this.#state.of(parameter, "momentum");
    const constants = { momentum: this.#constants.momentum, weightDecay: 0, nesterov: false };
    device.run(sgdUpdate(size, constants), [gradient.buffer, scalars, velocity.buffer, buffer]);
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
