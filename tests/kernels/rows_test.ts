import {
  globalAveragePool,
  globalAveragePoolAccumulate,
  globalAveragePoolGradient,
  spreadPixelsReference,
  sumPixelsReference,
} from "../../kernels/pool.ts";
import { normalizeRows, normalizeRowsGradient, normalizeRowsReference } from "../../kernels/normalize.ts";
import {
  softmaxCrossEntropyCombine,
  softmaxCrossEntropyGradient,
  softmaxCrossEntropyPartial,
  softmaxCrossEntropyPartials,
  softmaxCrossEntropyReference,
} from "../../kernels/softmax_cross_entropy.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernel, runKernels } from "./run.ts";

eachDevice("pooling and its gradient match their references at odd sizes", async (device) => {
  for (const shape of [{ images: 3, pixels: 49, channels: 7 }, { images: 2, pixels: 81, channels: 12 }]) {
    const count = shape.images * shape.pixels * shape.channels, pooled = shape.images * shape.channels;
    const x = numbers(count, 1), s = numbers(pooled, 3);
    const [, mean] = await runKernel(device, globalAveragePool(shape), [x, pooled]);
    const means = sumPixelsReference(x, shape).map((v) => v / shape.pixels);
    assertClose(mean, means, { bound: 2e-6, what: "average pool" });
    const [, spread] = await runKernel(device, globalAveragePoolGradient(shape), [s, count]);
    const even = spreadPixelsReference(s, shape).map((v) => v / shape.pixels);
    assertClose(spread, even, { bound: 1e-6, what: "average pool gradient" });
    const [, added] = await runKernel(device, globalAveragePoolAccumulate(shape), [s, x]);
    assertClose(added, even.map((v, i) => v + x[i]), { bound: 1e-6, what: "average pool accumulate" });
  }
});

eachDevice("row normalisation and its gradient match the reference, also for a zero row", async (device) => {
  for (const [rows, columns] of [[5, 13], [3, 256], [1, 1]]) {
    const x = numbers(rows * columns, 1), g = numbers(rows * columns, 2), count = rows * columns;
    if (rows > 1) x.fill(0, 0, columns);
    const { output, gradient } = normalizeRowsReference({ x, g }, columns);
    const [, , divisors, , ours] = await runKernels(device, [x, count, rows, g, count], [
      [normalizeRows(rows, columns), [0, 1, 2]],
      [normalizeRowsGradient(rows, columns), [3, 1, 2, 4]],
    ]);
    const [, normalised] = await runKernel(device, normalizeRows(rows, columns), [x, count, rows]);
    assertClose(normalised, output, { bound: 1e-6, what: "rows" });
    const skip = rows > 1 ? columns : 0; // the zero row's gradient is g / 1e-12 and would drown the others
    assertClose(ours.subarray(skip), gradient.subarray(skip), { bound: 1e-5, what: `gradient ${divisors}` });
  }
});

eachDevice("soft-target cross-entropy matches the reference for narrow and wide rows", async (device) => {
  for (const [rows, columns] of [[5, 29], [3, 128], [2, 1003]]) {
    const shape = { rows, columns, temperature: 0.1, scale: 0.2 }, count = rows * columns;
    const scores = numbers(count, 1), targets = numbers(count, 2).map((v) => v * v);
    const expected = softmaxCrossEntropyReference({ scores, targets }, shape);
    const partials = softmaxCrossEntropyPartials(shape);
    const [, , , losses, , gradient] = await runKernels(
      device,
      [scores, targets, partials, rows, 4 * rows, count],
      [
        [softmaxCrossEntropyPartial(shape), [0, 1, 2]],
        [softmaxCrossEntropyCombine(shape), [2, 3, 4]],
        [softmaxCrossEntropyGradient(shape), [0, 1, 4, 5]],
      ],
    );
    assertClose(losses, expected.losses, { bound: 2e-6, what: "losses" });
    assertClose(gradient, expected.gradient, { bound: 1e-5, what: "gradient" });
  }
});
