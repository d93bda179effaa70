/** The linear layer on the tape: a convolution of 1×1 images, plus the bias. */
import { addBias as addBiasKernel } from "../../kernels/elementwise.ts";
import { columnSums } from "../../kernels/reduce.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { convolve } from "./conv2d.ts";

/** `x · weight + bias`: `[N, in]`, `[in, out]`, `[out]` → `[N, out]`. */
export function linear(tape: Tape, x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const [rows, inWidth] = x.shape;
  const [weightRows, width] = weight.shape;
  if (inWidth !== weightRows) {
    throw new RangeError(
      `Cannot apply a linear layer: the weights must take ${inWidth} columns, they take ${weightRows}`,
    );
  }
  const shape = {
    batch: rows,
    height: 1,
    width: 1,
    inChannels: inWidth,
    outChannels: width,
    kernelHeight: 1,
    kernelWidth: 1,
    stride: 1,
    padding: 0,
    groups: 1,
  };
  const product = convolve(tape, { x, weight, shape, outputShape: [rows, width] });
  if (bias === undefined) return product;
  const output = addBias(tape, product, bias);
  tape.release(product);
  return output;
}

/** `x + bias` on every row. */
export function addBias(tape: Tape, x: Tensor, bias: Tensor): Tensor {
  const [rows, columns] = [x.size / bias.size, bias.size];
  const output = tape.allocate(x.shape);
  tape.run(addBiasKernel(rows, columns), [x, bias, output]);
  return tape.record({
    inputs: [x, bias],
    output,
    backward(gradient) {
      if (!tape.needsGradient(bias)) return [gradient, undefined];
      const biasGradient = tape.allocate(bias.shape);
      const { partialCount, partial, combine } = columnSums(rows, columns);
      tape.scratch(partialCount, (partials) => {
        tape.device.run(partial, [gradient.buffer, partials]);
        tape.device.run(combine, [partials, biasGradient.buffer]);
      });
      return [gradient, biasGradient];
    },
  });
}
