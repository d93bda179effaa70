/**
 * What a layer or model is: named parameters, named buffers, and a forward pass on a tape. Names and file shapes are
 * torchvision's; how they lie on the device is decided here too. It knows no optimiser and no loss.
 */
import type { VectorSum } from "../tensor/ops/norm_table.ts";
import type { SavedStatistics } from "../tensor/statistics.ts";
import type { Tape } from "../tensor/tape.ts";
import type { Storage, Tensor } from "../tensor/tensor.ts";
import type { Segment } from "./segments.ts";

/**
 * What a parameter is, which decides its layout and what an optimiser may exclude: `convolution` lies as
 * `[kh, kw, in / groups, out]` on the device and OIHW in files, `linear` as `[in, out]` and `[out, in]`.
 */
export type ParameterKind = "convolution" | "linear" | "bias" | "normalization";

/** A trainable tensor. */
export interface Parameter {
  /** Torchvision's name, e.g. `trunk_output.block1.block1-0.f.a.0.weight`. */
  readonly name: string;
  /** Device layout. */
  readonly tensor: Tensor;
  /** Shape in files: torchvision's. */
  readonly shape: readonly number[];
  readonly kind: ParameterKind;
}

/** A tensor that is saved but not trained: running statistics. */
export interface ModuleBuffer {
  readonly name: string;
  readonly tensor: Tensor;
  readonly shape: readonly number[];
}

/** What one forward pass is told. */
export interface ForwardContext {
  readonly tape: Tape;
  /** Batch statistics in batch normalisation; running ones otherwise. */
  readonly training: boolean;
  /** Whether this pass moves running statistics; never in recomputation. */
  readonly updateStatistics: boolean;
  /** The replicas that normalise together; this one alone when absent. */
  readonly collective?: VectorSum;
  /** Names this pass within the step, e.g. `crops-large`; part of the keys of exchanges. */
  readonly pass: string;
  /** How activations are stored. @default "f32" */
  readonly storage?: Storage;
  /** Batch statistics that an earlier pass over the same inputs left; recomputation takes them instead of its own. */
  readonly statistics?: SavedStatistics;
  /** Units of the trunk that are run again in the backward pass, so that their activations need not be kept. */
  readonly segments?: readonly Segment[];
}

/** A layer or model. */
export interface Module {
  parameters(): Parameter[];
  buffers(): ModuleBuffer[];
  forward(x: Tensor, context: ForwardContext): Promise<Tensor>;
}

/** File layout to device layout. Vectors stay as they are. */
export function toDevice(
  data: Float32Array<ArrayBuffer>,
  { kind, shape }: { kind?: ParameterKind; shape: readonly number[] },
): Float32Array<ArrayBuffer> {
  return relayout(data, { kind, shape, toFile: false });
}

/** Device layout to file layout. */
export function toFile(
  data: Float32Array<ArrayBuffer>,
  { kind, shape }: { kind?: ParameterKind; shape: readonly number[] },
): Float32Array<ArrayBuffer> {
  return relayout(data, { kind, shape, toFile: true });
}

/** `[out, in, kh, kw]` ↔ `[kh, kw, in, out]`; a matrix is the case of one pixel. */
function relayout(
  data: Float32Array<ArrayBuffer>,
  { kind, shape, toFile }: { kind?: ParameterKind; shape: readonly number[]; toFile: boolean },
): Float32Array<ArrayBuffer> {
  if (kind !== "convolution" && kind !== "linear") return data;
  const [outputs, inputs, height = 1, width = 1] = shape;
  const pixels = height * width;
  const result = new Float32Array(data.length);
  for (let o = 0, file = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let p = 0; p < pixels; p++, file++) {
        const device = (p * inputs + i) * outputs + o;
        if (toFile) result[file] = data[device];
        else result[device] = data[file];
      }
    }
  }
  return result;
}
