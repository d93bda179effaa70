import {
  attentionGradient,
  attentionOutput,
  attentionProbabilities,
  attentionReference,
  attentionScoreGradient,
  attentionSoftmax,
} from "../../kernels/attention.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernels } from "./run.ts";

eachDevice("attention and its gradient match the reference at odd sizes, also with large scores", async (device) => {
  for (const [images, tokens, heads, features, size] of [[2, 37, 3, 5, 1], [1, 5, 2, 8, 8], [3, 1, 1, 3, 1]]) {
    const shape = { images, tokens, heads, features }, count = images * tokens * heads * features;
    const qkv = numbers(3 * count, 1).map((v) => v * size), g = numbers(count, 2);
    const expected = attentionReference({ qkv, g }, shape);
    const square = attentionProbabilities(shape);
    const [, , output, , , gradient] = await runKernels(device, [qkv, square, count, g, square, 3 * count], [
      [attentionSoftmax(shape), [0, 1]],
      [attentionOutput(shape), [0, 1, 2]],
      [attentionScoreGradient(shape), [3, 0, 1, 4]],
      [attentionGradient(shape), [3, 0, 1, 4, 5]],
    ]);
    assertClose(output, expected.output, { bound: 5e-6, what: `output ${size}` });
    assertClose(gradient, expected.gradient, { bound: 2e-5, what: `gradient ${size}` });
  }
});
