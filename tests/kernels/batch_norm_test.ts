import {
  batchNormApply,
  batchNormMomentPartials,
  batchNormMoments,
  batchNormNormaliser,
  batchNormReference,
} from "../../kernels/batch_norm.ts";
import {
  batchNormGradientCombine,
  batchNormGradientMerge,
  batchNormGradientPartials,
  batchNormGradientSums,
  batchNormInputGradient,
} from "../../kernels/batch_norm_gradient.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernels } from "./run.ts";

const EPSILON = 1e-5;

for (const [rows, channels, relu] of [[50, 7, false], [50, 7, true], [1237, 21, true], [3000, 36, true]] as const) {
  const title = `batch norm kernels match the reference at ${rows}x${channels}${relu ? " with ReLU" : ""}`;
  eachDevice(title, async (device) => {
    const shape = { rows, channels };
    const x = numbers(rows * channels, 1).map((v, i) => v * (1 + i % channels) + 3 * (i % channels));
    const gamma = numbers(channels, 2), beta = numbers(channels, 3), g = numbers(rows * channels, 4);
    const expected = batchNormReference({ x, gamma, beta, g }, { ...shape, epsilon: EPSILON, relu });
    const partials = batchNormMomentPartials(shape), count = rows * channels;
    const zero = new Float32Array(channels), one = new Float32Array(channels).fill(1);
    const buffers = [
      x,
      gamma,
      beta,
      g,
      partials,
      4 * channels,
      count,
      channels,
      channels,
      2 * channels,
      count,
      zero,
      one,
      batchNormGradientPartials(shape),
    ];
    const results = await runKernels(device, buffers, [
      [batchNormMoments(shape), [0, 4]],
      [batchNormNormaliser(shape, { epsilon: EPSILON, momentum: 0.1 }), [4, 1, 2, 5, 11, 12]],
      [batchNormApply(shape, { relu }), [0, 5, 6]],
      [batchNormGradientSums(shape, { relu }), [3, 0, 5, 13]],
      [batchNormGradientCombine(shape), [13, 5, 7, 8, 9]],
      [batchNormInputGradient(shape, { relu, training: true }), [3, 0, 5, 9, 10]],
    ]);
    const check = (index: number, reference: Float32Array, what: string, bound = 2e-6) =>
      assertClose(results[index], reference, { bound, what });
    check(6, expected.output, "output");
    check(7, expected.gammaGradient, "gradient of gamma", 1e-5);
    check(8, expected.betaGradient, "gradient of beta", 1e-5);
    check(10, expected.xGradient, "gradient of x", 1e-5);
    check(11, expected.mean.map((v) => 0.1 * v), "running mean");
    check(12, expected.variance.map((v) => 0.9 + 0.1 * v * rows / (rows - 1)), "running variance");
  });
}

eachDevice("batch norm keeps its precision when the mean is 10,000 times the deviation", async (device) => {
  const shape = { rows: 999, channels: 3 };
  const x = numbers(2997, 5).map((v) => 1000 + v * 0.1);
  const gamma = new Float32Array(3).fill(1), beta = new Float32Array(3);
  const expected = batchNormReference({ x, gamma, beta, g: x }, { ...shape, epsilon: EPSILON, relu: false });
  const [, , , , normaliser] = await runKernels(device, [x, batchNormMomentPartials(shape), gamma, beta, 12], [
    [batchNormMoments(shape), [0, 1]],
    [batchNormNormaliser(shape, { epsilon: EPSILON }), [1, 2, 3, 4]],
  ]);
  const variances = expected.variance.map((v) => 1 / Math.sqrt(v + EPSILON));
  assertClose(normaliser.subarray(9), variances, { bound: 1e-4, what: "1 / deviation" });
});

eachDevice("many chunks of gradient sums are merged into few, in order and without loss", async (device) => {
  for (const [chunks, channels] of [[300, 8], [1001, 7]]) {
    const partials = numbers(2 * chunks * channels, 1);
    const { kernel, mergedCount } = batchNormGradientMerge({ chunks, channels });
    const [, merged] = await runKernels(device, [partials, mergedCount], [[kernel, [0, 1]]]);
    const totals = (values: Float32Array) => {
      const sums = new Float64Array(2 * channels);
      values.forEach((value, i) => sums[i % (2 * channels)] += value);
      return sums;
    };
    if (mergedCount > 64 * channels) throw new Error(`${mergedCount} numbers are left of ${partials.length}`);
    assertClose(totals(merged), totals(partials), { bound: 1e-6, what: `sums of ${chunks} chunks` });
  }
});
