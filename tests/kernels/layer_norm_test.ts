import { gelu, geluGradient, geluReference } from "../../kernels/gelu.ts";
import {
  layerNorm,
  layerNormChunks,
  layerNormInputGradient,
  layerNormParameterGradient,
  layerNormParameterPartial,
  layerNormReference,
} from "../../kernels/layer_norm.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernel, runKernels } from "./run.ts";

eachDevice("GELU and its gradient match the reference, also far in both tails", async (device) => {
  const x = numbers(515, 1).map((v) => v * 6), g = numbers(515, 2);
  const [, y] = await runKernel(device, gelu(515), [x, 515]);
  assertClose(y, x.map(geluReference.gelu), { bound: 1e-6, what: "gelu" });
  const [, , ours] = await runKernel(device, geluGradient(515), [g, x, 515]);
  assertClose(ours, x.map((v, i) => geluReference.geluGradient(g[i], v)), { bound: 1e-6, what: "gelu gradient" });
  const low = x.map((v) => v / 12 - 4.5); // Φ is small here: its own relative error shows
  const [, tail] = await runKernel(device, gelu(515), [low, 515]);
  assertClose(tail, low.map(geluReference.gelu), { bound: 1e-5, what: "gelu of the lower tail" });
});

eachDevice("layer normalisation and its three gradients match the reference at odd sizes", async (device) => {
  for (const [rows, columns] of [[5, 13], [67, 96], [1, 1]]) {
    const shape = { rows, columns, epsilon: 1e-6 }, count = rows * columns;
    const x = numbers(count, 1).map((v) => v + 3), g = numbers(count, 2);
    const weight = numbers(columns, 3), bias = numbers(columns, 4);
    const expected = layerNormReference({ x, g, weight, bias }, shape);
    const partials = 2 * layerNormChunks(shape) * columns;
    const [, , , output, , , towards, , weights, biases] = await runKernels(
      device,
      [x, weight, bias, count, 2 * rows, g, count, partials, columns, columns],
      [
        [layerNorm(shape), [0, 1, 2, 3, 4]],
        [layerNormInputGradient(shape), [5, 0, 1, 4, 6]],
        [layerNormParameterPartial(shape), [5, 0, 4, 7]],
        [layerNormParameterGradient(shape), [7, 8, 9]],
      ],
    );
    assertClose(output, expected.output, { bound: 2e-6, what: "output" });
    assertClose(towards, expected.x, { bound: 5e-6, what: "gradient of x" });
    assertClose(weights, expected.weight, { bound: 5e-6, what: "gradient of weight" });
    assertClose(biases, expected.bias, { bound: 2e-6, what: "gradient of bias" });
  }
});
