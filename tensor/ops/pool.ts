/** Global average pooling on the tape, forward and gradient. */
import {
  globalAveragePool as poolKernel,
  globalAveragePoolAccumulate,
  globalAveragePoolGradient,
  type ImageShape,
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
