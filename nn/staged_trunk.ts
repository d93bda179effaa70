/**
 * A trunk as a row of units, a stem and blocks in stages, that ends in global average pooling or in a unit that gives
 * features; segments of units may be run again in the backward pass. It knows no layer.
 */
import { checkpoint } from "../tensor/checkpoint.ts";
import { globalAveragePool } from "../tensor/ops/pool.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ForwardContext, Module, ModuleBuffer, Parameter } from "./module.ts";
import { requireSegments } from "./segments.ts";

/** What a trunk gives besides the features. */
export interface StageOutputs {
  /** What the first block reads, `[N, h, w, stemWidth]` or tokens. */
  readonly stem: Tensor;
  /** Output of each stage, `[N, h, w, widths[i]]`; none of a trunk without stages. */
  readonly stages: readonly Tensor[];
  /** `[N, C]`. */
  readonly features: Tensor;
}

/** A stem (stage −1) or a block; −1 for blocks of no stage. */
export interface Unit extends Module {
  readonly stage: number;
}

/** A trunk of units: images `[N, H, W, 3]` → features `[N, C]`. */
export class StagedTrunk<Spec extends { readonly widths: readonly number[] }> implements Module {
  readonly spec: Spec;
  /** Width of the features, C. */
  readonly width: number;
  readonly #units: readonly Unit[];
  readonly #pooled: boolean;

  /** The first unit is the stem. `pooled`: features are the last unit's output averaged over pixels, else that output. */
  constructor(spec: Spec, units: readonly Unit[], { pooled = true }: { pooled?: boolean } = {}) {
    this.spec = spec;
    this.#pooled = pooled;
    this.width = spec.widths[spec.widths.length - 1];
    this.#units = units;
  }

  parameters(): Parameter[] {
    return this.#units.flatMap((unit) => unit.parameters());
  }

  buffers(): ModuleBuffer[] {
    return this.#units.flatMap((unit) => unit.buffers());
  }

  /** Features `[N, C]` of images `[N, H, W, 3]`. */
  async forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    const { tape, segments = [] } = context;
    requireSegments(segments, this.#units.length);
    let current = x;
    for (let unit = 0; unit < this.#units.length; unit++) {
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
    if (!this.#pooled) return current;
    const features = globalAveragePool(tape, current);
    tape.release(current);
    return features;
  }

  /** Runs units `first` to `last`. `x` stays the caller's. */
  async #forwardUnits(
    x: Tensor,
    { first, last }: { first: number; last: number },
    context: ForwardContext,
  ): Promise<Tensor> {
    let current = x;
    for (const unit of this.#units.slice(first, last + 1)) {
      const next = await unit.forward(current, context);
      if (current !== x) context.tape.release(current);
      current = next;
    }
    return current;
  }

  /** As {@linkcode StagedTrunk.forward}, keeping the outputs of the stem and of every stage. */
  async forwardStages(x: Tensor, context: ForwardContext): Promise<StageOutputs> {
    const [first, ...blocks] = this.#units;
    const stem = await first.forward(x, context);
    const stages: Tensor[] = [];
    let current = stem;
    for (const [i, block] of blocks.entries()) {
      const next = await block.forward(current, context);
      if (current !== stem && !stages.includes(current)) context.tape.release(current);
      current = next;
      if (block.stage >= 0 && blocks[i + 1]?.stage !== block.stage) stages.push(current);
    }
    return { stem, stages, features: this.#pooled ? globalAveragePool(context.tape, current) : current };
  }
}
