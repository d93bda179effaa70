/** Average pooling to a grid, for features that no gradient flows back through. */
import { poolGrid as kernel } from "../../kernels/pool_grid.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/**
 * `x [N, H, W, C]` averaged to `[N, rows, columns, C]`.
 *
 * @throws {TypeError} When a gradient would have to flow back to `x`.
 */
export function poolGrid(tape: Tape, x: Tensor, [rows, columns]: readonly [number, number]): Tensor {
  const [images, height, width, channels] = x.shape;
  if (tape.gradients && tape.needsGradient(x)) {
    throw new TypeError("Cannot pool to a grid: it has no gradient, and the input needs one; freeze the trunk");
  }
  const output = tape.allocate([images, rows, columns, channels]);
  tape.run(kernel({ images, height, width, channels, rows, columns }), [x, output]);
  return output;
}
