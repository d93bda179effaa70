/** Global average pooling and the channel scale of squeeze-and-excitation on the tape, forward and gradient. */
import {
  globalAveragePool as poolKernel,
  globalAveragePoolAccumulate,
  globalAveragePoolGradient,
  type ImageShape,
  scaleChannels as scaleKernel,
  scaleChannelsFactorGradient,
} from "../../kernels/pool.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** The kernel shape of `[N, H, W, C]`. */
function imageShape({ shape, dtype }: Tensor): ImageShape {
  const [images, height, width, channels] = shape;
  return { images, pixels: height * width, channels, storage: dtype };
}

/** Mean over the pixels: `[N, H, W, C]` → `[N, C]`, f32. */
export function globalAveragePool(tape: Tape, x: Tensor): Tensor {
  const shape = imageShape(x);
  const output = tape.allocate([shape.images, shape.channels]);
  tape.run(poolKernel(shape), [x, output]);
  return tape.record({
    inputs: [x],
    output,
    backward(gradient) {
      const result = tape.allocate(x.shape, x.dtype);
      tape.run(globalAveragePoolGradient(shape), [gradient, result]);
      return [result];
    },
    accumulate: (gradient, total) => tape.run(globalAveragePoolAccumulate(shape), [gradient, total]),
  });
}

/** `x[n, h, w, c] · factors[n, c]`. */
export function scaleChannels(tape: Tape, x: Tensor, factors: Tensor): Tensor {
  const shape = imageShape(x);
  const output = tape.allocate(x.shape);
  tape.run(scaleKernel(shape), [x, factors, output]);
  return tape.record({
    inputs: [x, factors],
    output,
    backward(gradient) {
      const xGradient = tape.allocate(x.shape);
      tape.run(scaleKernel(shape), [gradient, factors, xGradient]);
      const factorGradient = tape.allocate(factors.shape);
      tape.run(scaleChannelsFactorGradient(shape), [gradient, x, factorGradient]);
      return [xGradient, factorGradient];
    },
  });
}
