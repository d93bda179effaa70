/** The ends of a row of tokens on the tape: joining patches to a class token and positions, and taking the class token. */
import {
  classTokens as classTokensKernel,
  classTokensGradient,
  joinTokens as joinTokensKernel,
  joinTokensPatchGradient,
  joinTokensPositionGradient,
} from "../../kernels/tokens.ts";
import type { Tape } from "../tape.ts";
import { bytesOf, type Tensor } from "../tensor.ts";

/**
 * Patches `[N, T − 1, C]` behind the class token (C numbers), plus positions `[T, C]`: `[N, T, C]`, f32.
 *
 * @throws {RangeError} When there are not as many positions as tokens.
 */
export function joinTokens(tape: Tape, patches: Tensor, classToken: Tensor, positions: Tensor): Tensor {
  const [images, patchCount, width] = patches.shape;
  const shape = { images, tokens: patchCount + 1, width };
  if (positions.size !== shape.tokens * width) {
    throw new RangeError(
      `Cannot join tokens: positions must be ${shape.tokens} of ${width} numbers, found [${
        positions.shape.join(", ")
      }]`,
    );
  }
  const output = tape.allocate([images, shape.tokens, width]);
  tape.run(joinTokensKernel(shape), [patches, classToken, positions, output]);
  return tape.record({
    inputs: [patches, classToken, positions],
    output,
    forgetsOutput: true,
    backward(gradient) {
      const towards = tape.allocate(patches.shape), sums = tape.allocate(positions.shape);
      const first = tape.allocate(classToken.shape);
      tape.run(joinTokensPatchGradient(shape), [gradient, towards]);
      tape.run(joinTokensPositionGradient(shape), [gradient, sums]);
      tape.device.copy(sums.buffer, first.buffer, { byteLength: bytesOf("f32") * width });
      return [towards, first, sums];
    },
  });
}

/** The first token of each image, the class token: `[N, T, C]` → `[N, C]`, f32. */
export function classToken(tape: Tape, x: Tensor): Tensor {
  const [images, tokens, width] = x.shape;
  const shape = { images, tokens, width };
  const output = tape.allocate([images, width]);
  tape.run(classTokensKernel(shape), [x, output]);
  return tape.record({
    inputs: [x],
    output,
    forgetsOutput: true,
    backward(gradient) {
      const result = tape.allocate(x.shape);
      tape.run(classTokensGradient(shape), [gradient, result]);
      return [result];
    },
  });
}
