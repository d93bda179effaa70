/**
 * RegNetY: stem, four stages of residual bottleneck blocks with squeeze-and-excitation, global average pooling. Parameter
 * names are torchvision's. It knows its layers, not how it is trained.
 */
import type { Device } from "../device/device.ts";
import { checkpoint } from "../tensor/checkpoint.ts";
import { cast } from "../tensor/ops/cast.ts";
import { isNormalised, releaseNormalised } from "../tensor/ops/normalised.ts";
import { globalAveragePool } from "../tensor/ops/pool.ts";
import { residual } from "../tensor/ops/residual.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { ConvolutionNorm, type Maker, SqueezeExcitation } from "./layers.ts";
import type { ForwardContext, Module, ModuleBuffer, Parameter } from "./module.ts";
import { type BlockSpec, regnetBlocks, type RegnetSpec } from "./regnet_spec.ts";
import { requireSegments } from "./segments.ts";

/** Options of {@linkcode regnetY}. */
export interface RegnetOptions {
  device: Device;
  /** Every initial weight is a function of this and the parameter's name; zeros without it. */
  seed: number | undefined;
  /** Put before every name, e.g. `trunk.`. @default "" */
  prefix?: string;
}

/** Builds a RegNetY trunk with fresh weights. */
export function regnetY(spec: RegnetSpec, options: RegnetOptions): RegNetY {
  return new RegNetY(spec, options);
}

/** What {@linkcode RegNetY.forwardStages} gives besides the features. */
export interface StageOutputs {
  /** `[N, H/2, W/2, stemWidth]`. */
  readonly stem: Tensor;
  /** Output of each stage, `[N, h, w, widths[i]]`. */
  readonly stages: readonly Tensor[];
  /** `[N, C]`. */
  readonly features: Tensor;
}

/** A RegNetY trunk: images `[N, H, W, 3]` → features `[N, C]`, C = the last stage's width. */
export class RegNetY implements Module {
  readonly spec: RegnetSpec;
  /** Width of the features. */
  readonly width: number;
  readonly #stem: ConvolutionNorm;
  readonly #blocks: readonly Block[];

  constructor(spec: RegnetSpec, options: RegnetOptions) {
    const { prefix = "", ...maker } = options;
    const { stemWidth = 32 } = spec;
    this.spec = spec;
    this.width = spec.widths[spec.widths.length - 1];
    this.#stem = new ConvolutionNorm(maker, {
      names: [`${prefix}stem.0`, `${prefix}stem.1`],
      inWidth: 3,
      width: stemWidth,
      kernel: 3,
      stride: 2,
    });
    this.#blocks = regnetBlocks(spec).map((block) => new Block(maker, { ...block, name: prefix + block.name }));
  }

  parameters(): Parameter[] {
    return [this.#stem, ...this.#blocks].flatMap((part) => part.parameters());
  }

  buffers(): ModuleBuffer[] {
    return [this.#stem, ...this.#blocks].flatMap((part) => part.buffers());
  }

  /** Features `[N, C]` of images `[N, H, W, 3]`. */
  async forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const { tape, segments = [] } = context;
    requireSegments(segments, this.#blocks.length + 1);
    let current = x;
    for (let unit = 0; unit <= this.#blocks.length; unit++) {
      const segment = segments.find(([first]) => first === unit);
      const last = segment?.[1] ?? unit;
      const input = current, range = { first: unit, last };
      current = segment === undefined
        ? await this.#forwardUnits(input, range, context)
        : await checkpoint(tape, input, {
          run: (again) => this.#forwardUnits(input, range, { ...context, ...again }),
        });
      if (input !== x) tape.release(input);
      unit = last;
    }
    const features = globalAveragePool(tape, current);
    tape.release(current);
    return features;
  }

  /** Runs units `first` to `last`, the stem being 0. `x` stays the caller's. */
  async #forwardUnits(
    x: Tensor,
    { first, last }: { first: number; last: number },
    context: ForwardContext,
  ): Promise<Tensor> {
    let current = x;
    for (let unit = first; unit <= last; unit++) {
      const next =
        await (unit === 0 ? this.#forwardStem(current, context) : this.#blocks[unit - 1].forward(current, context));
      if (current !== x) context.tape.release(current);
      current = next;
    }
    return current;
  }

  /** The stem's output `[N, H/2, W/2, stemWidth]`, a tensor because the first block reads it twice. */
  async #forwardStem(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const stored = cast(context.tape, x, context.storage ?? "f32");
    const output = await this.#stem.forward(stored, context);
    if (stored !== x) context.tape.release(stored);
    return output;
  }

  /** As {@linkcode RegNetY.forward}, keeping the outputs of the stem and of every stage. */
  async forwardStages(x: Tensor, context: ForwardContext): Promise<StageOutputs> {
    const stem = await this.#forwardStem(x, context);
    const stages: Tensor[] = [];
    let current = stem;
    for (const [i, block] of this.#blocks.entries()) {
      const next = await block.forward(current, context);
      if (current !== stem && !stages.includes(current)) context.tape.release(current);
      current = next;
      if (this.#blocks[i + 1]?.stage !== block.stage) stages.push(current);
    }
    return { stem, stages, features: globalAveragePool(context.tape, current) };
  }
}

/** 1×1, 3×3 grouped, SE, 1×1, plus the shortcut, then ReLU. */
class Block implements Module {
  readonly stage: number;
  readonly #shortcut: ConvolutionNorm | undefined;
  readonly #a: ConvolutionNorm;
  readonly #b: ConvolutionNorm;
  readonly #squeeze: SqueezeExcitation | undefined;
  readonly #c: ConvolutionNorm;

  constructor(maker: Maker, spec: BlockSpec) {
    const { name, stage, inWidth, width, stride, groups, squeezeWidth, projected } = spec;
    const names = (part: string) => [`${name}.${part}.0`, `${name}.${part}.1`] as const;
    this.stage = stage;
    if (projected) {
      this.#shortcut = new ConvolutionNorm(maker, { names: names("proj"), inWidth, width, stride, relu: false });
    }
    this.#a = new ConvolutionNorm(maker, { names: names("f.a"), inWidth, width });
    this.#b = new ConvolutionNorm(maker, { names: names("f.b"), inWidth: width, width, kernel: 3, stride, groups });
    if (squeezeWidth > 0) this.#squeeze = new SqueezeExcitation(maker, { name: `${name}.f.se`, width, squeezeWidth });
    this.#c = new ConvolutionNorm(maker, { names: names("f.c"), inWidth: width, width, relu: false });
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
