/** The same numbers under another shape, as a copy: buffers have one owner, so that a tape knows when to free them. */
import type { Tape } from "../tape.ts";
import { bytesOf, sizeOf, type Tensor } from "../tensor.ts";

/**
 * `x` with another shape of as many elements.
 *
 * @throws {RangeError} When the sizes differ.
 */
export function reshape(tape: Tape, x: Tensor, shape: readonly number[]): Tensor {
  if (sizeOf(shape) !== x.size) {
    throw new RangeError(
      `Cannot reshape [${x.shape.join(", ")}] to [${shape.join(", ")}]: both must hold ${x.size} numbers`,
    );
  }
  const copyTo = (target: readonly number[], from: Tensor) => {
    const copy = tape.allocate(target, from.dtype);
    tape.device.copy(from.buffer, copy.buffer, { byteLength: bytesOf(from.dtype) * from.size });
    return copy;
  };
  return tape.record({
    inputs: [x],
    output: copyTo(shape, x),
    backward: (gradient) => [copyTo(x.shape, gradient)],
  });
}
