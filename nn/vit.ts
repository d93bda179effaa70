/**
 * The vision transformer: patches as tokens behind a class token, blocks of self-attention and two linear layers, each
 * behind a layer normalisation (pre-norm); features are the class token's. Parameter names are torchvision's. It knows
 * its layers, not how it is trained.
 */
import { attention } from "../tensor/ops/attention.ts";
import { add } from "../tensor/ops/add.ts";
import { cast } from "../tensor/ops/cast.ts";
import { conv2d } from "../tensor/ops/conv2d.ts";
import { gelu } from "../tensor/ops/gelu.ts";
import { layerNorm } from "../tensor/ops/layer_norm.ts";
import { addBias, linear } from "../tensor/ops/linear.ts";
import { reshape } from "../tensor/ops/reshape.ts";
import { classToken, joinTokens } from "../tensor/ops/tokens.ts";
import { type Tensor, tensorFrom } from "../tensor/tensor.ts";
import type { Distribution } from "./initialise.ts";
import { makeParameter, type Maker } from "./layers.ts";
import type { ForwardContext, Module, Parameter } from "./module.ts";
import type { TrunkOptions } from "./regnet.ts";
import { StagedTrunk, type Unit } from "./staged_trunk.ts";
import { patchesAlong, positionResampling, vitNumbers, type VitSpec } from "./vit_spec.ts";

const EPSILON = 1e-6;
/** Units that belong to no stage: their outputs are tokens, not pixels that probes could read. */
const NO_STAGE = -1;

const zero: Distribution = { kind: "constant", value: 0 };

/** Layer normalisation with weight and bias. */
class LayerNorm {
  readonly #weight: Parameter;
  readonly #bias: Parameter;

  constructor(maker: Maker, { name, width }: { name: string; width: number }) {
    const vector = (part: "weight" | "bias", value: number) =>
      makeParameter(maker, {
        name: `${name}.${part}`,
        shape: [width],
        kind: part === "weight" ? "normalization" : "bias",
        distribution: { kind: "constant", value },
      });
    this.#weight = vector("weight", 1);
    this.#bias = vector("bias", 0);
  }

  parameters(): Parameter[] {
    return [this.#weight, this.#bias];
  }

  apply(x: Tensor, { tape }: ForwardContext): Tensor {
    return layerNorm(tape, x, { weight: this.#weight.tensor, bias: this.#bias.tensor, epsilon: EPSILON });
  }
}

/** A linear layer whose product is stored as the context says; what it gives is f32, as normalisation and softmax are. */
class Projection {
  readonly #weight: Parameter;
  readonly #bias: Parameter;

  constructor(
    maker: Maker,
    { names, from, to, weights, biases }: {
      names: readonly [weight: string, bias: string];
      from: number;
      to: number;
      weights: Distribution;
      biases: Distribution;
    },
  ) {
    this.#weight = makeParameter(maker, {
      name: names[0],
      shape: [to, from],
      deviceShape: [from, to],
      kind: "linear",
      distribution: weights,
    });
    this.#bias = makeParameter(maker, { name: names[1], shape: [to], kind: "bias", distribution: biases });
  }

  parameters(): Parameter[] {
    return [this.#weight, this.#bias];
  }

  apply(x: Tensor, { tape, storage }: ForwardContext): Tensor {
    const product = linear(tape, x, this.#weight.tensor, this.#bias.tensor, { storage });
    const precise = cast(tape, product, "f32");
    if (precise !== product) tape.release(product);
    return precise;
  }
}

/** Images `[N, H, W, 3]` → tokens `[N, T, C]`. */
class Stem implements Unit {
  readonly stage = NO_STAGE;
  readonly #spec: VitSpec;
  readonly #maker: Maker;
  readonly #classToken: Parameter;
  readonly #weight: Parameter;
  readonly #bias: Parameter;
  readonly #positions: Parameter;
  /** Resampling matrices by size of the image, in patches. */
  readonly #resamplings = new Map<string, Tensor>();

  constructor(maker: Maker, { spec, prefix }: { spec: VitSpec; prefix: string }) {
    const { width, grid } = vitNumbers(spec), { patch } = spec;
    this.#spec = spec;
    this.#maker = maker;
    this.#classToken = makeParameter(maker, {
      name: `${prefix}class_token`,
      shape: [1, 1, width],
      kind: "bias",
      distribution: zero,
    });
    this.#weight = makeParameter(maker, {
      name: `${prefix}conv_proj.weight`,
      shape: [width, 3, patch, patch],
      deviceShape: [patch, patch, 3, width],
      kind: "convolution",
      distribution: { kind: "normal", deviation: 1 / Math.sqrt(3 * patch * patch) },
    });
    this.#bias = makeParameter(maker, {
      name: `${prefix}conv_proj.bias`,
      shape: [width],
      kind: "bias",
      distribution: zero,
    });
    this.#positions = makeParameter(maker, {
      name: `${prefix}encoder.pos_embedding`,
      shape: [1, grid * grid + 1, width],
      deviceShape: [grid * grid + 1, width],
      kind: "bias",
      distribution: { kind: "normal", deviation: 0.02 },
    });
  }

  parameters(): Parameter[] {
    return [this.#classToken, this.#weight, this.#bias, this.#positions];
  }

  buffers(): [] {
    return [];
  }

  forward(x: Tensor, { tape, storage = "f32" }: ForwardContext): Promise<Tensor> {
    const { patch } = this.#spec;
    const [images, height, width] = x.shape;
    const rows = patchesAlong(this.#spec, height), columns = patchesAlong(this.#spec, width);
    const stored = cast(tape, x, storage);
    const raw = conv2d(tape, stored, this.#weight.tensor, { stride: patch });
    const precise = cast(tape, raw, "f32");
    const biased = addBias(tape, precise, this.#bias.tensor);
    const patches = reshape(tape, biased, [images, rows * columns, this.#bias.tensor.size]);
    const positions = this.#positionsFor(tape, { rows, columns });
    const tokens = joinTokens(tape, patches, this.#classToken.tensor, positions);
    const made = [stored, raw, precise, biased, patches, positions].filter((tensor) =>
      tensor !== x && tensor !== this.#positions.tensor
    );
    for (const tensor of new Set(made)) tape.release(tensor);
    return Promise.resolve(tokens);
  }

  #positionsFor(tape: ForwardContext["tape"], size: { rows: number; columns: number }): Tensor {
    const { grid } = vitNumbers(this.#spec), { rows, columns } = size;
    if (rows === grid && columns === grid) return this.#positions.tensor;
    const key = `${rows}x${columns}`;
    const matrix = this.#resamplings.get(key) ??
      tensorFrom(this.#maker.device, positionResampling(grid, size), [rows * columns + 1, grid * grid + 1]);
    this.#resamplings.set(key, matrix);
    return linear(tape, matrix, this.#positions.tensor);
  }
}

/** Self-attention and two linear layers, each added to what it reads: `[N, T, C]` → `[N, T, C]`. */
class Block implements Unit {
  readonly stage = NO_STAGE;
  readonly #heads: number;
  readonly #norms: readonly [LayerNorm, LayerNorm];
  readonly #layers: readonly [into: Projection, out: Projection, up: Projection, down: Projection];

  constructor(maker: Maker, { spec, name }: { spec: VitSpec; name: string }) {
    const { width, hidden } = vitNumbers(spec);
    this.#heads = spec.heads;
    this.#norms = [
      new LayerNorm(maker, { name: `${name}.ln_1`, width }),
      new LayerNorm(maker, { name: `${name}.ln_2`, width }),
    ];
    const glorot = (from: number, to: number): Distribution => ({ kind: "uniform", bound: Math.sqrt(6 / (from + to)) });
    const of = (part: string, options: { from: number; to: number; weights?: Distribution; biases?: Distribution }) =>
      new Projection(maker, {
        names: part.endsWith("in_proj")
          ? [`${name}.${part}_weight`, `${name}.${part}_bias`]
          : [`${name}.${part}.weight`, `${name}.${part}.bias`],
        weights: glorot(options.from, options.to),
        biases: zero,
        ...options,
      });
    const small = { biases: { kind: "normal", deviation: 1e-6 } } as const;
    this.#layers = [
      of("self_attention.in_proj", { from: width, to: 3 * width }),
      // PyTorch's default for a linear layer.
      of("self_attention.out_proj", {
        from: width,
        to: width,
        weights: { kind: "uniform", bound: 1 / Math.sqrt(width) },
      }),
      of("mlp.0", { from: width, to: hidden, ...small }),
      of("mlp.3", { from: hidden, to: width, ...small }),
    ];
  }

  parameters(): Parameter[] {
    const [first, second] = this.#norms, [into, out, up, down] = this.#layers;
    return [first, into, out, second, up, down].flatMap((part) => part.parameters());
  }

  buffers(): [] {
    return [];
  }

  forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const { tape } = context, [first, second] = this.#norms, [into, out, up, down] = this.#layers;
    const calm = first.apply(x, context);
    const qkv = into.apply(calm, context);
    const attended = attention(tape, qkv, { heads: this.#heads });
    const mixed = out.apply(attended, context);
    const middle = add(tape, x, mixed);
    for (const tensor of [calm, qkv, attended, mixed]) tape.release(tensor);
    const calmer = second.apply(middle, context);
    const wide = up.apply(calmer, context);
    const bent = gelu(tape, wide);
    const narrow = down.apply(bent, context);
    const output = add(tape, middle, narrow);
    for (const tensor of [middle, calmer, wide, bent, narrow]) tape.release(tensor);
    return Promise.resolve(output);
  }
}

/** The class token, normalised: `[N, T, C]` → `[N, C]`. */
class Ending implements Unit {
  readonly stage = NO_STAGE;
  readonly #norm: LayerNorm;

  constructor(maker: Maker, { name, width }: { name: string; width: number }) {
    this.#norm = new LayerNorm(maker, { name, width });
  }

  parameters(): Parameter[] {
    return this.#norm.parameters();
  }

  buffers(): [] {
    return [];
  }

  forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const token = classToken(context.tape, x);
    const features = this.#norm.apply(token, context);
    context.tape.release(token);
    return Promise.resolve(features);
  }
}

/** A vision transformer's trunk: images `[N, H, W, 3]` → features `[N, C]`, the class token's. */
export class VisionTransformer extends StagedTrunk<VitSpec> implements Module {
  /** @throws {RangeError} When the shape makes no network. */
  constructor(spec: VitSpec, { prefix = "", ...maker }: TrunkOptions) {
    const { width, depth } = vitNumbers(spec);
    const blocks = Array.from(
      { length: depth },
      (_, i) => new Block(maker, { spec, name: `${prefix}encoder.layers.encoder_layer_${i}` }),
    );
    const units = [
      new Stem(maker, { spec, prefix }),
      ...blocks,
      new Ending(maker, { name: `${prefix}encoder.ln`, width }),
    ];
    super(spec, units, { pooled: false });
  }
}
