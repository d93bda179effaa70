/**
 * Squeeze-and-excitation's part of a normalised output's way: the means that the gate is made of, and the way back. The
 * convolution that reads the gated numbers starts it ({@linkcode gradientOfGate}), the squeeze knows the rest of the sums
 * when the gate's layers have gone backward, and the normalisation's step ends it ({@linkcode gradientThroughSqueeze}).
 */
import type { DeviceBuffer } from "../../device/device.ts";
import {
  gateGradient,
  SQUEEZE_SUMS,
  squeezeGradientSums,
  squeezeInputGradient,
  squeezeMeans,
  squeezeNormSums,
  squeezePartials,
  type SqueezeShape,
  squeezeSums,
} from "../../kernels/squeeze.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import type { Normalised } from "./normalised.ts";

/** What is put by on the way back. Its tensors are retained until {@linkcode gradientThroughSqueeze}. */
export interface Squeezed {
  /** `[N, C]`. */
  readonly gate: Tensor;
  /** Gradient towards the gated numbers. */
  readonly gradient: Tensor;
  /** `[N, 4, C]`, see `kernels/squeeze.ts`. */
  readonly sums: Tensor;
  /** Gradient towards the means `[N, C]`, once it is known. */
  readonly towardsMeans?: Tensor;
}

function squeezeShape({ raw }: Pick<Normalised, "raw">): SqueezeShape {
  const [images, height, width, channels] = raw.shape;
  return { images, pixels: height * width, channels, storage: raw.dtype };
}

/**
 * Mean of `x` over the pixels, `[N, C]` f32: what squeeze-and-excitation decides by. The gate made of it must gate the
 * convolution that reads `x`.
 */
export function squeeze(tape: Tape, x: Normalised): Tensor {
  const { raw, value, normaliser } = x;
  const shape = squeezeShape(x);
  const means = tape.allocate([shape.images, shape.channels]);
  tape.scratch(squeezePartials(shape, 1), (partials) => {
    tape.device.run(squeezeSums(shape), [raw.buffer, normaliser.buffer, partials]);
    tape.device.run(squeezeMeans(shape), [partials, means.buffer]);
  });
  return tape.record({
    inputs: [value],
    output: means,
    backward(towardsMeans) {
      const { squeezed } = x.backward;
      if (squeezed === undefined) {
        throw new TypeError("Cannot go back through a squeeze: its gate must gate the convolution that reads the same");
      }
      const { gate, gradient, sums } = squeezed;
      tape.scratch(2 * shape.images * shape.channels, (partials) => {
        tape.device.run(squeezeNormSums(shape), [sums.buffer, gate.buffer, towardsMeans.buffer, partials]);
        x.backward.sum(partials);
      });
      tape.retain(towardsMeans);
      x.backward.squeezed = { ...squeezed, towardsMeans };
      return [gradient];
    },
  });
}

/** Gradient towards the gate of `x`, from the gradient towards the gated numbers, which is put by with what was summed. */
export function gradientOfGate(
  tape: Tape,
  x: Normalised,
  { gradient, gate }: { gradient: Tensor; gate: Tensor },
): Tensor {
  const { raw, normaliser } = x;
  const shape = squeezeShape(x);
  const sums = tape.allocate([shape.images, SQUEEZE_SUMS, shape.channels]);
  const towardsGate = tape.allocate(gate.shape);
  tape.scratch(squeezePartials(shape, SQUEEZE_SUMS), (partials) => {
    tape.device.run(squeezeGradientSums(shape), [gradient.buffer, raw.buffer, normaliser.buffer, partials]);
    tape.device.run(gateGradient(shape), [partials, normaliser.buffer, sums.buffer, towardsGate.buffer]);
  });
  tape.retain(gate);
  x.backward.squeezed = { gate, gradient, sums };
  return towardsGate;
}

/** Gradient towards the raw output over the one towards the gated numbers; lets go of what was put by. */
export function gradientThroughSqueeze(
  tape: Tape,
  { raw, normaliser }: Pick<Normalised, "raw" | "normaliser">,
  { squeezed, sums, training }: { squeezed: Squeezed; sums: DeviceBuffer; training: boolean },
): Tensor {
  const { gate, gradient, towardsMeans } = squeezed;
  if (towardsMeans === undefined) {
    throw new TypeError("Cannot go back through a squeeze: the gradient of its means must have come, it has not");
  }
  const tables = [raw, normaliser, gate, towardsMeans].map(({ buffer }) => buffer);
  const kernel = squeezeInputGradient(squeezeShape({ raw }), { training });
  tape.device.run(kernel, [...tables, ...(training ? [sums] : []), gradient.buffer]);
  for (const tensor of [gate, towardsMeans, squeezed.sums]) tape.discard(tensor);
  return gradient;
}
