import { assertEquals } from "@std/assert";
import {
  classTokens,
  classTokensGradient,
  joinTokens,
  joinTokensPatchGradient,
  joinTokensPositionGradient,
  joinTokensReference,
} from "../../kernels/tokens.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernel, runKernels } from "./run.ts";

eachDevice("tokens are joined, and their three gradients match the reference at odd sizes", async (device) => {
  for (const [images, tokens, width] of [[3, 5, 7], [1, 2, 1], [2, 10, 33]]) {
    const shape = { images, tokens, width }, count = images * tokens * width;
    const patches = numbers(images * (tokens - 1) * width, 1), classToken = numbers(width, 2);
    const positions = numbers(tokens * width, 3), g = numbers(count, 4);
    const expected = joinTokensReference({ patches, classToken, positions, g }, shape);
    const [, , , output, , towards, sums] = await runKernels(
      device,
      [patches, classToken, positions, count, g, patches.length, positions.length],
      [
        [joinTokens(shape), [0, 1, 2, 3]],
        [joinTokensPatchGradient(shape), [4, 5]],
        [joinTokensPositionGradient(shape), [4, 6]],
      ],
    );
    assertEquals(output, expected.output);
    assertEquals(towards, expected.patches);
    assertClose(sums, expected.positions, { bound: 1e-6, what: "gradient of positions" });
  }
});

eachDevice("class tokens are taken, and their gradient is zero elsewhere", async (device) => {
  const shape = { images: 3, tokens: 4, width: 5 }, x = numbers(60, 1), g = numbers(15, 2);
  const own = (i: number) => Math.floor(i / 5) % 4 === 0;
  const [, taken] = await runKernel(device, classTokens(shape), [x, 15]);
  assertEquals(taken, x.filter((_, i) => own(i)));
  const [, spread] = await runKernel(device, classTokensGradient(shape), [g, 60]);
  assertEquals(spread.filter((_, i) => own(i)), g);
  assertEquals(spread.filter((_, i) => !own(i)).every((value) => value === 0), true);
});
