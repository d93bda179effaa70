/** Max pooling on the tape, forward and gradient. */
import { maxPool as kernel, maxPoolGradient, type MaxPoolShape, maxPoolSide } from "../../kernels/max_pool.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** Largest of 3×3 windows, stride 2, padding 1: `[N, H, W, C]` → `[N, (H − 1) / 2 + 1, (W − 1) / 2 + 1, C]`. */
export function maxPool(tape: Tape, x: Tensor): Tensor {
  const [images, height, width, channels] = x.shape;
  const shape: MaxPoolShape = { images, height, width, channels, storage: x.dtype };
  const output = tape.allocate([images, maxPoolSide(height), maxPoolSide(width), channels], x.dtype);
  tape.run(kernel(shape), [x, output]);
  return tape.record({
    inputs: [x],
    output,
    backward(gradient) {
      const result = tape.allocate(x.shape, x.dtype);
      tape.run(maxPoolGradient(shape), [x, output, gradient, result]);
      return [result];
    },
  });
}
