/** Joining and cutting tensors along their first dimension, forward and gradient; contiguous, so each is a plain copy. */
import type { Tape } from "../tape.ts";
import { sizeOf, type Tensor } from "../tensor.ts";

const rowBytes = ({ shape }: Tensor) => 4 * sizeOf(shape.slice(1));

/** The tensors one below the other: `[Σ N, …]`. All but the first dimension must agree. */
export function concatRows(tape: Tape, parts: readonly Tensor[]): Tensor {
  const [first] = parts;
  const rows = parts.reduce((sum, { shape }) => sum + shape[0], 0);
  const output = tape.allocate([rows, ...first.shape.slice(1)]);
  let targetOffset = 0;
  for (const part of parts) {
    const byteLength = 4 * part.size;
    tape.device.copy(part.buffer, output.buffer, { targetOffset, byteLength });
    targetOffset += byteLength;
  }
  return tape.record({
    inputs: parts,
    output,
    backward(gradient) {
      let sourceOffset = 0;
      return parts.map((part) => {
        const byteLength = 4 * part.size;
        const result = tape.needsGradient(part) ? tape.allocate(part.shape) : undefined;
        if (result) tape.device.copy(gradient.buffer, result.buffer, { sourceOffset, byteLength });
        sourceOffset += byteLength;
        return result;
      });
    },
  });
}

/** Rows `start` to `end` (exclusive) of `x`, as a copy. */
export function sliceRows(tape: Tape, x: Tensor, range: { start: number; end: number }): Tensor {
  const { start, end } = range;
  if (!(0 <= start && start < end && end <= x.shape[0])) {
    throw new RangeError(`Cannot slice rows: [${start}, ${end}) must lie within the ${x.shape[0]} rows of the tensor`);
  }
  const output = tape.allocate([end - start, ...x.shape.slice(1)]);
  const offset = start * rowBytes(x), byteLength = 4 * output.size;
  tape.device.copy(x.buffer, output.buffer, { sourceOffset: offset, byteLength });
  return tape.record({
    inputs: [x],
    output,
    backward(gradient) {
      const result = tape.allocate(x.shape);
      tape.device.clear(result.buffer);
      tape.device.copy(gradient.buffer, result.buffer, { targetOffset: offset, byteLength });
      return [result];
    },
  });
}
