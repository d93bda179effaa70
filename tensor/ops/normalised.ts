/**
 * Convolutions whose batch normalisation (and ReLU, and squeeze-and-excitation's gate) is done by whoever reads their
 * output: the normalised numbers never lie in memory. A convolution gives its raw output with moments; a normaliser table
 * is made of these; the reader's load applies it, and the reader's backward pass also sums what the normalisation's
 * gradient needs. Activations are stored as f32 or f16 (`x.dtype`); tables, sums and gates are f32.
 */
import type { DeviceBuffer } from "../../device/device.ts";
import { batchNormGradientPartials, batchNormInputGradient } from "../../kernels/batch_norm_gradient.ts";
import { conv2dOutput, type Conv2dShape } from "../../kernels/conv2d.ts";
import { type NormalisedShape } from "../../kernels/normalised.ts";
import { conv2dForwardOperation } from "../../kernels/operations.ts";
import type { InputGradients, Tape } from "../tape.ts";
import { type Tensor, tensorOver } from "../tensor.ts";
import { convolutionBackward, type ConvolutionGeometry, convolutionShape, weightsFor } from "./convolution.ts";
import { runHeavy } from "./heavy.ts";
import {
  gradientFromPartials,
  groupSums,
  type NormGradient,
  type NormOptions,
  type NormParameters,
  type NormTable,
  tableFromPartials,
  tableFromRunning,
} from "./norm_table.ts";
import { gradientThroughSqueeze, type Squeezed } from "./squeeze.ts";

/** A convolution's raw output and the normalisation that its one reader applies. */
export interface Normalised {
  /** `[N, H, W, C]`. */
  readonly raw: Tensor;
  /** The normalised numbers as the tape knows them: a name without memory of its own. */
  readonly value: Tensor;
  readonly normaliser: Tensor;
  /** Whether ReLU follows. */
  readonly relu: boolean;
  /** What readers leave for the normalisation's backward step. */
  readonly backward: NormalisedBackward;
}

/** The reader's half of a normalisation's backward pass. */
export interface NormalisedBackward {
  /** Makes the sums of partial ones (`[chunks, 2, C]`), which are read before this returns. */
  sum(partials: DeviceBuffer): void;
  /** What the reader of gated numbers has put by. */
  squeezed?: Squeezed;
}

/** How a raw output is normalised. */
export interface NormaliseOptions extends NormOptions {
  readonly relu: boolean;
}

/** What a convolution reads. */
export interface ConvolutionInput {
  /** A tensor, or a raw output to be normalised on the way. */
  readonly x: Tensor | Normalised;
  /** Factors `[N, C]` of the normalised numbers behind ReLU, f32. */
  readonly gate?: Tensor;
}

/** Whether it is a raw output to be normalised. */
export function isNormalised(x: Tensor | Normalised): x is Normalised {
  return "raw" in x;
}

/** The shape that kernels over normalised numbers take. */
export function normalisedShape({ raw, relu }: Pick<Normalised, "raw" | "relu">, gated = false): NormalisedShape {
  const [images, height, width, channels] = raw.shape;
  const load = gated ? "normalised relu gated" : relu ? "normalised relu" : "normalised";
  return { images, pixels: height * width, channels, load, storage: raw.dtype };
}

/**
 * Convolves and finds the statistics of the result: `[N, H, W, Ci]` with weights `[kh, kw, Ci / groups, Co]` (f32) →
 * `[N, H', W', Co]`, not yet normalised.
 *
 * @throws {TypeError} When something that has no ReLU is to be gated.
 */
export async function convolveNormalised(
  tape: Tape,
  inputs: ConvolutionInput & NormParameters & { readonly weight: Tensor },
  { geometry, norm }: { geometry: ConvolutionGeometry; norm: NormaliseOptions },
): Promise<Normalised> {
  const { x, gate, weight, gamma, beta } = inputs;
  const source = isNormalised(x) ? x : undefined;
  if (gate !== undefined && source?.relu !== true) {
    throw new TypeError("Cannot gate a convolution's input: it must be normalised and behind ReLU, it is not");
  }
  const input = source === undefined ? x as Tensor : source.raw;
  const load = source === undefined ? "plain" : normalisedShape(source, gate !== undefined).load;
  const plain = convolutionShape(input, weight, geometry);
  const shape: Conv2dShape = { ...plain, storage: input.dtype, load, moments: norm.training };
  const extent = conv2dOutput(shape);
  const raw = tape.allocate([shape.batch, extent.height, extent.width, shape.outChannels], input.dtype);
  const weights = weightsFor(tape, weight, input.dtype);
  const rows = raw.size / shape.outChannels;
  let found: NormTable | Promise<NormTable> | undefined;
  runHeavy(tape.device, { operation: conv2dForwardOperation, shape }, {
    input: input.buffer,
    weight: weights.tensor.buffer,
    output: raw.buffer,
    ...(source === undefined ? {} : { normaliser: source.normaliser.buffer }),
    ...(gate === undefined ? {} : { gate: gate.buffer }),
    moments: (partials) => found = tableFromPartials(tape, { partials, rows, gamma, beta }, norm),
  });
  tape.record({
    inputs: [source?.value ?? input, weight, ...(gate === undefined ? [] : [gate])],
    output: raw,
    saved: weights.owned ? [weights.tensor] : [],
    forgetsOutput: true,
    backward: (gradient) =>
      convolutionBackward(tape, { shape, input, source, gate, weight, weights: weights.tensor, gradient }),
  });
  if (norm.training && found === undefined) {
    throw new TypeError("Cannot normalise by the batch: the convolution must give its moments, it does not");
  }
  const table = found === undefined ? tableFromRunning(tape, { gamma, beta }, norm) : await found;
  return recordNormalisation(tape, { raw, gamma, beta, table }, norm);
}

/** Puts the normalisation onto the tape as a step of its own, which its reader's gradient reaches first. */
function recordNormalisation(
  tape: Tape,
  { raw, gamma, beta, table }: NormParameters & { raw: Tensor; table: NormTable },
  norm: NormaliseOptions,
): Normalised {
  const { normaliser, groupRows, owned } = table;
  const channels = gamma.size, rows = raw.size / channels;
  let made: NormGradient | undefined;
  const result: Normalised = {
    raw,
    value: tensorOver(tape.device, raw.buffer, { shape: raw.shape, dtype: raw.dtype }),
    normaliser,
    relu: norm.relu,
    backward: { sum: (partials) => made = gradientFromPartials(tape, { partials, normaliser, gamma, beta, rows }) },
  };
  tape.record({
    inputs: [raw, gamma, beta],
    output: result.value,
    // Forward-only tapes let go of it with `releaseNormalised`.
    saved: owned && tape.gradients ? [normaliser] : [],
    async backward(gradient): Promise<InputGradients> {
      if (made === undefined) {
        throw new TypeError("Cannot go back through a normalisation: its reader must have summed its gradient");
      }
      const summed = { sums: made.sums, channels, rows, groupRows };
      const sums = await groupSums(tape, summed, norm);
      const { squeezed } = result.backward;
      const rawGradient = squeezed === undefined
        ? gradientOfRaw(tape, { raw, normaliser, gradient, sums }, norm)
        : gradientThroughSqueeze(tape, result, { squeezed, sums, training: norm.training });
      tape.device.free(sums);
      return [rawGradient, made.gamma, made.beta];
    },
  });
  return result;
}

function gradientOfRaw(
  tape: Tape,
  { raw, normaliser, gradient, sums }: { raw: Tensor; normaliser: Tensor; gradient: Tensor; sums: DeviceBuffer },
  { training }: NormOptions,
): Tensor | undefined {
  if (!tape.needsGradient(raw)) return undefined;
  const channels = normaliser.shape[1];
  const shape = { rows: raw.size / channels, channels, storage: raw.dtype };
  const tables = [normaliser.buffer, ...(training ? [sums] : [])];
  const inPlace = tape.mayOverwrite(gradient);
  const kernel = batchNormInputGradient(shape, { relu: false, training, inPlace });
  if (inPlace) {
    tape.device.run(kernel, [raw.buffer, ...tables, gradient.buffer]);
    return gradient;
  }
  const result = tape.allocate(raw.shape, raw.dtype);
  tape.device.run(kernel, [gradient.buffer, raw.buffer, ...tables, result.buffer]);
  return result;
}

/** Frees what only readers of `x` needed, on a forward-only tape; with gradients the backward pass does that. */
export function releaseNormalised(tape: Tape, { raw, normaliser }: Normalised): void {
  tape.release(raw);
  tape.release(normaliser);
}

/** Floats of the partial gradient sums that kernels over `x` write. */
export function gradientPartials({ raw }: Normalised): number {
  const channels = raw.shape[raw.shape.length - 1];
  return batchNormGradientPartials({ rows: raw.size / channels, channels });
}
