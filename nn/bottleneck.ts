/**
 * What residual trunks are put together from: a stem, and bottleneck blocks of 1×1, 3×3 (in groups, with the stride) and
 * 1×1 convolutions, with squeeze-and-excitation in RegNetY. It knows names as they are given to it.
 */
import { cast } from "../tensor/ops/cast.ts";
import { maxPool } from "../tensor/ops/max_pool.ts";
import { isNormalised, releaseNormalised } from "../tensor/ops/normalised.ts";
import { residual } from "../tensor/ops/residual.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ConvolutionNorm, type ConvolutionNormOptions, type Maker, SqueezeExcitation } from "./layers.ts";
import type { ForwardContext, Module, ModuleBuffer, Parameter } from "./module.ts";
import type { BlockSpec } from "./regnet_spec.ts";

/** Images in f32 `[N, H, W, 3]` → `[N, h, w, C]`: a convolution with its norm and ReLU, and max pooling in ResNets. */
export class Stem implements Module {
  readonly stage = -1;
  readonly #convolution: ConvolutionNorm;
  readonly #pooled: boolean;

  constructor(maker: Maker, options: ConvolutionNormOptions & { readonly pooled: boolean }) {
    this.#convolution = new ConvolutionNorm(maker, options);
    this.#pooled = options.pooled;
  }

  parameters(): Parameter[] {
    return this.#convolution.parameters();
  }

  buffers(): ModuleBuffer[] {
    return this.#convolution.buffers();
  }

  /** The output is a tensor because the first block reads it twice. */
  async forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const { tape, storage = "f32" } = context;
    const stored = cast(tape, x, storage);
    const output = await this.#convolution.forward(stored, context);
    if (stored !== x) tape.release(stored);
    if (!this.#pooled) return output;
    const pooled = maxPool(tape, output);
    tape.release(output);
    return pooled;
  }
}

/** Names of a convolution and of its batch normalisation. */
type Names = readonly [convolution: string, norm: string];

/** What a block's layers are called. */
export interface BottleneckNames {
  readonly shortcut: Names;
  readonly a: Names;
  readonly b: Names;
  readonly c: Names;
  readonly squeeze: string;
}

/** 1×1, 3×3 grouped, squeeze-and-excitation where asked for, 1×1, plus the shortcut, then ReLU. */
export class Bottleneck implements Module {
  readonly stage: number;
  readonly #shortcut: ConvolutionNorm | undefined;
  readonly #a: ConvolutionNorm;
  readonly #b: ConvolutionNorm;
  readonly #squeeze: SqueezeExcitation | undefined;
  readonly #c: ConvolutionNorm;

  constructor(maker: Maker, spec: Omit<BlockSpec, "name"> & { readonly names: BottleneckNames }) {
    const { names, stage, inWidth, innerWidth, width, stride, groups, squeezeWidth, projected } = spec;
    this.stage = stage;
    if (projected) {
      this.#shortcut = new ConvolutionNorm(maker, { names: names.shortcut, inWidth, width, stride, relu: false });
    }
    const inner = { inWidth: innerWidth, width: innerWidth };
    this.#a = new ConvolutionNorm(maker, { names: names.a, inWidth, width: innerWidth });
    this.#b = new ConvolutionNorm(maker, { names: names.b, ...inner, kernel: 3, stride, groups });
    if (squeezeWidth > 0) {
      this.#squeeze = new SqueezeExcitation(maker, { name: names.squeeze, width: innerWidth, squeezeWidth });
    }
    this.#c = new ConvolutionNorm(maker, { names: names.c, inWidth: innerWidth, width, relu: false });
  }

  #parts(): Pick<Module, "parameters" | "buffers">[] {
    return [this.#shortcut, this.#a, this.#b, this.#squeeze, this.#c].filter((part) => part !== undefined);
  }

  parameters(): Parameter[] {
    return this.#parts().flatMap((part) => part.parameters());
  }

  buffers(): ModuleBuffer[] {
    return this.#parts().flatMap((part) => part.buffers());
  }

  async forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const { tape } = context;
    const shortcut = this.#shortcut ? await this.#shortcut.normalised(x, context) : x;
    const a = await this.#a.normalised(x, context);
    const b = await this.#b.normalised(a, context);
    releaseNormalised(tape, a);
    const gate = this.#squeeze?.gate(b, context);
    const c = await this.#c.normalised(b, context, gate);
    releaseNormalised(tape, b);
    if (gate !== undefined) tape.release(gate);
    const output = residual(tape, c, shortcut);
    for (const branch of [c, shortcut]) if (isNormalised(branch)) releaseNormalised(tape, branch);
    return output;
  }
}
