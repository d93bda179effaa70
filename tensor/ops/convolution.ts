/** What plain and normalising convolutions share: shapes, weights as the storage wants them, both gradients. */
import type { DeviceBuffer } from "../../device/device.ts";
import { conv2dOutput, type Conv2dShape } from "../../kernels/conv2d.ts";
import { conv2dInputGradientOperation, conv2dWeightGradientOperation } from "../../kernels/operations.ts";
import { cast } from "../../kernels/elementwise.ts";
import type { InputGradients, Tape } from "../tape.ts";
import type { Storage, Tensor } from "../tensor.ts";
import { runHeavy } from "./heavy.ts";
import type { Normalised } from "./normalised.ts";
import { gradientOfGate } from "./squeeze.ts";

/** Geometry of a convolution, the same in both directions. */
export interface ConvolutionGeometry {
  /** @default 1 */
  readonly stride?: number;
  /** Zeros around the image. @default 0 */
  readonly padding?: number;
  /** @default 1 */
  readonly groups?: number;
}

/** The kernels' shape of `x [N, H, W, Ci]` and `weight [kh, kw, Ci / groups, Co]`. */
export function convolutionShape(x: Tensor, weight: Tensor, geometry: ConvolutionGeometry): Conv2dShape {
  const { stride = 1, padding = 0, groups = 1 } = geometry;
  const [batch, height, width, inChannels] = x.shape;
  const [kernelHeight, kernelWidth, groupChannels, outChannels] = weight.shape;
  if (groupChannels * groups !== inChannels) {
    throw new RangeError(
      `Cannot convolve: the weights must take ${inChannels} channels in ${groups} groups, they take ${groupChannels} in each`,
    );
  }
  return { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups };
}

/** Weights, which are f32, as convolutions of that storage read them, and whether the tape owns the copy. */
export function weightsFor(tape: Tape, weight: Tensor, storage: Storage): { tensor: Tensor; owned: boolean } {
  if (weight.dtype === storage) return { tensor: weight, owned: false };
  if (tape.halves !== undefined) return { tensor: tape.halves.of(weight), owned: false };
  const copy = tape.allocate(weight.shape, storage);
  tape.run(cast(weight.size, { from: weight.dtype, to: storage }), [weight, copy]);
  return { tensor: copy, owned: true };
}

/** A convolution that has run. */
export interface RanConvolution {
  readonly shape: Conv2dShape;
  /** What lay in memory: a tensor, or the raw output that was normalised on the way. */
  readonly input: Tensor;
  readonly source?: Normalised;
  readonly gate?: Tensor;
  /** The parameter, and it as the kernels read it. */
  readonly weight: Tensor;
  readonly weights: Tensor;
}

/**
 * Gradients towards input (masked and summed for its normalisation, where it was normalised), weight and gate. With a
 * gate the input's gradient is put by: the squeeze that the gate comes from gives it.
 */
export function convolutionBackward(tape: Tape, ran: RanConvolution & { gradient: Tensor }): InputGradients {
  const { input, source, gate, weight, weights, gradient } = ran;
  const { moments: _moments, ...shape } = ran.shape;
  const { device } = tape;
  const tables = {
    ...(source === undefined ? {} : { normaliser: source.normaliser.buffer }),
    ...(gate === undefined ? {} : { gate: gate.buffer }),
  };
  let weightGradient: Tensor | undefined;
  if (tape.needsGradient(weight)) {
    weightGradient = tape.allocate(weight.shape);
    runHeavy(device, { operation: conv2dWeightGradientOperation, shape }, {
      input: input.buffer,
      outGradient: gradient.buffer,
      weightGradient: weightGradient.buffer,
      ...tables,
    });
  }
  if (!tape.needsGradient(source?.value ?? input)) return [undefined, weightGradient];
  const inputGradient = tape.allocate(input.shape, input.dtype);
  const back = source?.backward;
  runHeavy(device, { operation: conv2dInputGradientOperation, shape }, {
    outGradient: gradient.buffer,
    weight: weights.buffer,
    inputGradient: inputGradient.buffer,
    ...(source === undefined ? {} : { raw: source.raw.buffer, normaliser: source.normaliser.buffer }),
    sums: (partials: DeviceBuffer) => back?.sum(partials),
  });
  if (source === undefined || gate === undefined) return [inputGradient, weightGradient];
  return [undefined, weightGradient, gradientOfGate(tape, source, { gradient: inputGradient, gate })];
}

/** Output `[N, H', W', Co]` of a shape. */
export function outputShape(shape: Conv2dShape): number[] {
  const { height, width } = conv2dOutput(shape);
  return [shape.batch, height, width, shape.outChannels];
}
