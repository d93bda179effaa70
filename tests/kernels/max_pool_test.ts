import { assertEquals } from "@std/assert";
import { maxPool, maxPoolGradient, maxPoolReference, maxPoolSide } from "../../kernels/max_pool.ts";
import { eachDevice } from "../devices.ts";
import { numbers, runKernel } from "./run.ts";

eachDevice("maxPool() and its gradient equal the reference at odd and even sizes, ties included", async (device) => {
  for (
    const [images, height, width, channels] of [[2, 7, 5, 3], [2, 6, 9, 8], [3, 1, 2, 5]] as const
  ) {
    const shape = { images, height, width, channels };
    const outputs = images * maxPoolSide(height) * maxPoolSide(width) * channels;
    // Few distinct numbers, so that most windows have several largest pixels; eighths, so that sums are exact.
    const eighths = (count: number, seed: number) => numbers(count, seed).map((v) => Math.round(v * 8) / 8);
    const x = numbers(images * height * width * channels, 1).map((v) => Math.max(0, Math.round(v * 3)));
    const g = eighths(outputs, 2);
    const expected = maxPoolReference(x, g, shape);
    const [, output] = await runKernel(device, maxPool(shape), [x, outputs]);
    assertEquals(output, expected.output);
    const [, , , gradient] = await runKernel(device, maxPoolGradient(shape), [x, output, g, x.length]);
    assertEquals(gradient, expected.gradient);
  }
});

Deno.test("the first of several largest pixels has the gradient", () => {
  const shape = { images: 1, height: 3, width: 3, channels: 1 };
  const x = Float32Array.of(0, 0, 1, 0, 1, 1, 2, 0, 1);
  const { output, gradient } = maxPoolReference(x, Float32Array.of(1, 2, 4, 8), shape);
  // Windows are the corners' 2×2 pixels: the centre is the largest of the first, and the third has its own.
  assertEquals(output, Float32Array.of(1, 1, 2, 1));
  assertEquals(gradient, Float32Array.of(0, 0, 2, 0, 1 + 8, 0, 4, 0, 0));
});
