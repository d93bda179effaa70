/**
 * The layers that networks are put together from: convolution with batch normalisation, linear, squeeze-and-excitation.
 * Each makes its parameters under torchvision's names and runs its ops on the tape. They know no network.
 */
import type { Device } from "../device/device.ts";
import { batchNorm } from "../tensor/ops/batch_norm.ts";
import { type Activation, linear } from "../tensor/ops/linear.ts";
import type { NormParameters } from "../tensor/ops/norm_table.ts";
import {
  convolveNormalised,
  type Normalised,
  type NormaliseOptions,
  releaseNormalised,
} from "../tensor/ops/normalised.ts";
import { materialise } from "../tensor/ops/residual.ts";
import { squeeze } from "../tensor/ops/squeeze.ts";
import { type Tensor, tensorFrom } from "../tensor/tensor.ts";
import { type Distribution, initialise } from "./initialise.ts";
import { type ForwardContext, type Module, type ModuleBuffer, type Parameter, toDevice } from "./module.ts";

/** PyTorch's constants, which every published RegNet uses. */
export const BATCH_NORM_EPSILON = 1e-5;
/** Share by which running statistics move towards a batch's. */
export const BATCH_NORM_MOMENTUM = 0.1;

/** Where a model's parameters are made. */
export interface Maker {
  readonly device: Device;
  /** Of the initial weights; without one they are zeros, for a device that computes nothing. */
  readonly seed: number | undefined;
}

/** Makes and initialises one parameter. `deviceShape` defaults to the file shape. */
export function makeParameter(
  { device, seed }: Maker,
  wanted: Omit<Parameter, "tensor"> & { distribution: Distribution; deviceShape?: readonly number[] },
): Parameter {
  const { name, shape, kind, distribution, deviceShape = shape } = wanted;
  const count = shape.reduce((a, b) => a * b, 1);
  const data = seed === undefined
    ? new Float32Array(count)
    : toDevice(initialise(distribution, { seed, name, count }), { kind, shape });
  return { name, shape, kind, tensor: tensorFrom(device, data, deviceShape, { requiresGradient: true }) };
}

/** Batch normalisation over all but the last dimension, with an optional ReLU behind it. */
export class BatchNorm implements Module {
  readonly #name: string;
  readonly #relu: boolean;
  readonly #gamma: Parameter;
  readonly #beta: Parameter;
  readonly #mean: Tensor;
  readonly #variance: Tensor;
  readonly #width: number;

  constructor(maker: Maker, options: { name: string; width: number; relu: boolean }) {
    const { name, width, relu } = options;
    const vector = (part: string, value: number) =>
      makeParameter(maker, {
        name: `${name}.${part}`,
        shape: [width],
        kind: part === "weight" ? "normalization" : "bias",
        distribution: { kind: "constant", value },
      });
    this.#name = name;
    this.#relu = relu;
    this.#width = width;
    this.#gamma = vector("weight", 1);
    this.#beta = vector("bias", 0);
    this.#mean = tensorFrom(maker.device, new Float32Array(width), [width]);
    this.#variance = tensorFrom(maker.device, new Float32Array(width).fill(1), [width]);
  }

  parameters(): Parameter[] {
    return [this.#gamma, this.#beta];
  }

  buffers(): ModuleBuffer[] {
    const shape = [this.#width];
    return [
      { name: `${this.#name}.running_mean`, tensor: this.#mean, shape },
      { name: `${this.#name}.running_var`, tensor: this.#variance, shape },
    ];
  }

  /** Scale and shift. */
  get scale(): NormParameters {
    return { gamma: this.#gamma.tensor, beta: this.#beta.tensor };
  }

  /** What one pass normalises by. */
  options(context: ForwardContext): NormaliseOptions {
    const { training, updateStatistics, collective, pass, statistics } = context;
    return {
      epsilon: BATCH_NORM_EPSILON,
      training,
      running: { mean: this.#mean, variance: this.#variance },
      momentum: updateStatistics ? BATCH_NORM_MOMENTUM : undefined,
      collective,
      key: `${pass}/${this.#name}`,
      saved: statistics,
      relu: this.#relu,
    };
  }

  forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    return batchNorm(context.tape, { x, ...this.scale }, this.options(context));
  }
}

/** Shape of a {@linkcode ConvolutionNorm}. */
export interface ConvolutionNormOptions {
  /** Names of the convolution and of its batch normalisation. */
  readonly names: readonly [convolution: string, norm: string];
  readonly inWidth: number;
  readonly width: number;
  /** Side of the kernel; the padding keeps the size at stride 1. @default 1 */
  readonly kernel?: 1 | 3 | 7;
  /** @default 1 */
  readonly stride?: number;
  /** @default 1 */
  readonly groups?: number;
  /** ReLU at the end. @default true */
  readonly relu?: boolean;
}

/** Convolution without bias, batch normalisation, and ReLU unless told otherwise. `[N, H, W, C]` → `[N, H', W', C']`. */
export class ConvolutionNorm implements Module {
  readonly #weight: Parameter;
  readonly #norm: BatchNorm;
  readonly #geometry: { stride: number; padding: number; groups: number };

  constructor(maker: Maker, options: ConvolutionNormOptions) {
    const { names, inWidth, width, kernel = 1, stride = 1, groups = 1, relu = true } = options;
    this.#weight = makeParameter(maker, {
      name: `${names[0]}.weight`,
      shape: [width, inWidth / groups, kernel, kernel],
      deviceShape: [kernel, kernel, inWidth / groups, width],
      kind: "convolution",
      // The fan-out is not divided by the groups (ClassyVision, torchvision; timm differs).
      distribution: { kind: "normal", deviation: Math.sqrt(2 / (kernel * kernel * width)) },
    });
    this.#norm = new BatchNorm(maker, { name: names[1], width, relu });
    this.#geometry = { stride, padding: (kernel - 1) / 2, groups };
  }

  parameters(): Parameter[] {
    return [this.#weight, ...this.#norm.parameters()];
  }

  buffers(): ModuleBuffer[] {
    return this.#norm.buffers();
  }

  /** Convolution and statistics; who reads the result normalises it. A gate is `[N, inWidth]`. */
  normalised(x: Tensor | Normalised, context: ForwardContext, gate?: Tensor): Promise<Normalised> {
    return convolveNormalised(context.tape, { x, gate, weight: this.#weight.tensor, ...this.#norm.scale }, {
      geometry: this.#geometry,
      norm: this.#norm.options(context),
    });
  }

  async forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const { tape } = context;
    const normalised = await this.normalised(x, context);
    const output = materialise(tape, normalised);
    releaseNormalised(tape, normalised);
    return output;
  }
}

/** `f(x · W + b)` over rows: `[N, in]` → `[N, out]`. */
export class Linear implements Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;
  readonly #activation: Activation;
  readonly #precise: boolean;

  constructor(
    maker: Maker,
    options: {
      /** May be empty: then the parameters are `weight` and `bias`. */
      name: string;
      inWidth: number;
      width: number;
      bias?: boolean;
      /** @default PyTorch's: uniform within ±1/√in */
      weights?: Distribution;
      biases?: Distribution;
      /** File shape of the weight; SE layers are convolutions there. @default [out, in] */
      shape?: readonly number[];
      /** @default "none" */
      activation?: Activation;
      /** Compute in f32 also where activations are stored as f16. @default false */
      precise?: boolean;
    },
  ) {
    const { name, inWidth, width, bias = true, shape = [width, inWidth], activation = "none" } = options;
    this.#activation = activation;
    this.#precise = options.precise ?? false;
    const path = name === "" ? "" : `${name}.`;
    const bound = { kind: "uniform", bound: 1 / Math.sqrt(inWidth) } as const;
    this.weight = makeParameter(maker, {
      name: `${path}weight`,
      shape,
      deviceShape: [inWidth, width],
      kind: "linear",
      distribution: options.weights ?? bound,
    });
    if (bias) {
      this.bias = makeParameter(maker, {
        name: `${path}bias`,
        shape: [width],
        kind: "bias",
        distribution: options.biases ?? bound,
      });
    }
  }

  parameters(): Parameter[] {
    return this.bias ? [this.weight, this.bias] : [this.weight];
  }

  buffers(): ModuleBuffer[] {
    return [];
  }

  /** The same as {@linkcode Linear.forward}, at once. */
  apply(x: Tensor, { tape, storage }: Pick<ForwardContext, "tape" | "storage">): Tensor {
    const stored = this.#precise ? "f32" : storage;
    return linear(tape, x, this.weight.tensor, this.bias?.tensor, { activation: this.#activation, storage: stored });
  }

  forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    return Promise.resolve(this.apply(x, context));
  }
}

/** Squeeze-and-excitation: channels are scaled by the gate `sigmoid(fc2(relu(fc1(average over pixels))))`. */
export class SqueezeExcitation {
  readonly #down: Linear;
  readonly #up: Linear;

  constructor(maker: Maker, { name, width, squeezeWidth }: { name: string; width: number; squeezeWidth: number }) {
    const layer = (part: string, { from, to, activation }: { from: number; to: number; activation: Activation }) =>
      new Linear(maker, {
        name: `${name}.${part}`,
        activation,
        inWidth: from,
        width: to,
        shape: [to, from, 1, 1],
        weights: { kind: "normal", deviation: Math.sqrt(2 / to) },
      });
    this.#down = layer("fc1", { from: width, to: squeezeWidth, activation: "relu" });
    this.#up = layer("fc2", { from: squeezeWidth, to: width, activation: "sigmoid" });
  }

  parameters(): Parameter[] {
    return [...this.#down.parameters(), ...this.#up.parameters()];
  }

  buffers(): ModuleBuffer[] {
    return [];
  }

  /** The gate `[N, C]` of `x`, for the convolution that reads `x`. Tiny and touchy, its layers are f32 always. */
  gate(x: Normalised, { tape }: Pick<ForwardContext, "tape">): Tensor {
    const pooled = squeeze(tape, x);
    const squeezed = this.#down.apply(pooled, { tape });
    const gate = this.#up.apply(squeezed, { tape });
    for (const tensor of [pooled, squeezed]) tape.release(tensor);
    return gate;
  }
}
