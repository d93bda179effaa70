/**
 * The linear layer on the tape, with bias and activation: small ones by one kernel, large ones as a convolution of 1×1
 * images followed by the rest.
 */
import {
  type Activation,
  dense,
  denseInputGradient,
  type DenseShape,
  denseWeightGradient,
} from "../../kernels/dense.ts";
import { addBias as addBiasKernel } from "../../kernels/elementwise.ts";
import { columnSums } from "../../kernels/reduce.ts";
import type { InputGradients, Tape } from "../tape.ts";
import type { Storage, Tensor } from "../tensor.ts";
import { cast } from "./cast.ts";
import { relu, sigmoid } from "./activation.ts";
import { convolve } from "./conv2d.ts";

export type { Activation } from "../../kernels/dense.ts";

/** Products with at most this number of multiply-adds are small: launching kernels would cost more than computing. */
const SMALL_PRODUCT = 2 ** 22;

/** Options of {@linkcode linear}. */
export interface LinearOptions {
  /** @default "none" */
  activation?: Activation;
  /** How factors and result are stored; sums are f32, as weight and bias are. @default the input's */
  storage?: Storage;
}

/**
 * `f(x · weight + bias)`: `[…, in]`, `[in, out]`, `[out]` → `[…, out]`.
 *
 * @throws {RangeError} When the weights take another number of columns.
 */
export function linear(tape: Tape, x: Tensor, weight: Tensor, bias?: Tensor, options: LinearOptions = {}): Tensor {
  const { activation = "none", storage = x.dtype } = options;
  const outer = x.shape.slice(0, -1), inputs = x.shape[x.shape.length - 1], rows = x.size / inputs;
  const [weightRows, outputs] = weight.shape;
  if (inputs !== weightRows) {
    throw new RangeError(
      `Cannot apply a linear layer: the weights must take ${inputs} columns, they take ${weightRows}`,
    );
  }
  const input = cast(tape, x, storage);
  const shape = { rows, inputs, outputs, bias: bias !== undefined, activation };
  if (storage === "f32" && rows * inputs * outputs <= SMALL_PRODUCT) {
    return small(tape, { x: input, weight, bias }, { ...shape, outer });
  }
  const one = { height: 1, width: 1, kernelHeight: 1, kernelWidth: 1, stride: 1, padding: 0, groups: 1 };
  const product = { ...one, batch: rows, inChannels: inputs, outChannels: outputs };
  const sum = convolve(tape, { x: input, weight, shape: product, outputShape: [...outer, outputs] });
  if (input !== x) tape.release(input);
  const biased = bias ? addBias(tape, sum, bias) : sum;
  if (biased !== sum) tape.release(sum);
  if (activation === "none") return biased;
  const output = activation === "relu" ? relu(tape, biased) : sigmoid(tape, biased);
  tape.release(biased);
  return output;
}

function small(
  tape: Tape,
  { x, weight, bias }: { x: Tensor; weight: Tensor; bias?: Tensor },
  { outer, ...shape }: DenseShape & { outer: readonly number[] },
): Tensor {
  const biases = bias ? [bias] : [];
  const output = tape.allocate([...outer, shape.outputs]);
  tape.run(dense(shape), [x, weight, ...biases, output]);
  return tape.record({
    inputs: [x, weight, ...biases],
    output,
    backward(gradient): InputGradients {
      const kept = shape.activation === "none" ? [] : [output];
      const parameters = [weight, ...biases].map(({ shape }) => tape.allocate(shape));
      tape.run(denseWeightGradient(shape), [gradient, ...kept, x, ...parameters]);
      if (!tape.needsGradient(x)) return [undefined, ...parameters];
      const result = tape.allocate(x.shape);
      tape.run(denseInputGradient(shape), [gradient, ...kept, weight, ...biases, result]);
      return [result, ...parameters];
    },
  });
}

/** `x + bias` on every row, stored as `x`. */
export function addBias(tape: Tape, x: Tensor, bias: Tensor): Tensor {
  const shape = { rows: x.size / bias.size, columns: bias.size, storage: x.dtype };
  const output = tape.allocate(x.shape, x.dtype);
  tape.run(addBiasKernel(shape), [x, bias, output]);
  return tape.record({
    inputs: [x, bias],
    output,
    backward(gradient) {
      if (!tape.needsGradient(bias)) return [gradient, undefined];
      const biasGradient = tape.allocate(bias.shape);
      const { partialCount, partial, combine } = columnSums(shape);
      tape.scratch(partialCount, (partials) => {
        tape.device.run(partial, [gradient.buffer, partials]);
        tape.device.run(combine, [partials, biasGradient.buffer]);
      });
      return [gradient, biasGradient];
    },
  });
}
