/**
 * What stands on a trunk: SwAV's projection head, the prototypes, and a plain classifier. Linear layers start as
 * PyTorch's do, classifiers as RegNet's. They know no loss.
 */
import type { Device } from "../device/device.ts";
import { cast } from "../tensor/ops/cast.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { BatchNorm, Linear } from "./layers.ts";
import type { ForwardContext, Module, ModuleBuffer, Parameter } from "./module.ts";

/** Where and from what a head is made. */
export interface HeadOptions {
  device: Device;
  /** Without one the weights are zeros. */
  seed: number | undefined;
  /** Put before every name, e.g. `head.`. @default "" */
  prefix?: string;
}

/** What a {@linkcode projectionHead} is made of. */
export interface ProjectionHeadOptions extends HeadOptions {
  /** Widths from input to output. */
  readonly dims: readonly number[];
  /** @default false */
  readonly batchNorm?: boolean;
  /** Normalise the output too, as SimCLR does. @default false */
  readonly lastBatchNorm?: boolean;
}

/**
 * Linear layers with ReLU between them, e.g. `dims` 10444, 8192, 8192, 256; with `batchNorm` every hidden layer is
 * normalised before its ReLU (SwAV's own head). Names count as `nn.Sequential`'s: `0.weight`, `2.weight`, …
 */
export function projectionHead(options: ProjectionHeadOptions): ProjectionHead {
  return new ProjectionHead(options);
}

/** A multi-layer perceptron over rows: `[N, dims[0]]` → `[N, dims.at(-1)]`, f32 whatever lies between. */
export class ProjectionHead implements Module {
  readonly #layers: readonly (Linear | BatchNorm)[];

  constructor(options: ProjectionHeadOptions) {
    const { dims, batchNorm = false, lastBatchNorm = false, prefix = "", ...maker } = options;
    if (dims.length < 2) {
      throw new RangeError(`Cannot build a head: dims must name input and output, they are [${dims.join(", ")}]`);
    }
    const layers: (Linear | BatchNorm)[] = [];
    let place = 0;
    for (let i = 0; i + 1 < dims.length; i++) {
      const [inWidth, width] = [dims[i], dims[i + 1]];
      const hidden = i + 2 < dims.length;
      const activation = hidden && !batchNorm ? "relu" : "none";
      layers.push(new Linear(maker, { name: `${prefix}${place++}`, inWidth, width, activation }));
      const normalised = hidden ? batchNorm : lastBatchNorm;
      if (normalised) layers.push(new BatchNorm(maker, { name: `${prefix}${place++}`, width, relu: hidden }));
      // A ReLU comes with the layer before it, yet has a place of its own in the numbering.
      place++;
    }
    this.#layers = layers;
  }

  parameters(): Parameter[] {
    return this.#layers.flatMap((layer) => layer.parameters());
  }

  buffers(): ModuleBuffer[] {
    return this.#layers.flatMap((layer) => layer.buffers());
  }

  async forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    let current = x;
    for (const layer of this.#layers) {
      const next = await layer.forward(current, context);
      if (current !== x) context.tape.release(current);
      current = next;
    }
    const output = cast(context.tape, current, "f32");
    if (output !== current) context.tape.release(current);
    return output;
  }
}

/**
 * Prototypes: a linear layer without bias, `[N, dim]` → scores `[N, count]`, in f32 also in mixed precision. Name:
 * `weight`, `[count, dim]` in files.
 */
export function prototypes(options: HeadOptions & { dim: number; count: number }): Linear {
  const { dim, count, prefix = "", ...maker } = options;
  return new Linear(maker, { name: prefix.replace(/\.$/, ""), inWidth: dim, width: count, bias: false, precise: true });
}

/** RegNet's classifier: normal weights of deviation 0.01, biases zero. Names: `weight`, `bias` behind the prefix. */
export function classifier(options: HeadOptions & { dim: number; classes: number }): Linear {
  const { dim, classes, prefix = "fc.", ...maker } = options;
  return new Linear(maker, {
    name: prefix.replace(/\.$/, ""),
    inWidth: dim,
    width: classes,
    weights: { kind: "normal", deviation: 0.01 },
    biases: { kind: "constant", value: 0 },
  });
}

/** Runs modules one after the other, as one. */
export class Sequence implements Module {
  readonly #modules: readonly Module[];

  constructor(modules: readonly Module[]) {
    this.#modules = modules;
  }

  parameters(): Parameter[] {
    return this.#modules.flatMap((module) => module.parameters());
  }

  buffers(): ModuleBuffer[] {
    return this.#modules.flatMap((module) => module.buffers());
  }

  async forward(x: Tensor, context: ForwardContext): Promise<Tensor> {
    let current = x;
    for (const module of this.#modules) {
      const next = await module.forward(current, context);
      if (current !== x) context.tape.release(current);
      current = next;
    }
    return current;
  }
}
