import {
  type Activation,
  dense,
  denseInputGradient,
  denseReference,
  denseWeightGradient,
} from "../../kernels/dense.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernel } from "./run.ts";

for (const activation of ["none", "relu", "sigmoid"] as const satisfies Activation[]) {
  eachDevice(`dense kernels with activation ${activation} match the reference at odd sizes`, async (device) => {
    for (const bias of [true, false]) {
      for (const [rows, inputs, outputs] of [[1, 1, 1], [37, 13, 5], [6, 128, 21]]) {
        const shape = { rows, inputs, outputs, bias, activation };
        const x = numbers(rows * inputs, 1), w = numbers(inputs * outputs, 2), g = numbers(rows * outputs, 3);
        const b = numbers(outputs, 4), biases = bias ? [b] : [];
        const expected = denseReference({ x, w, b, g }, shape);
        const forward = await runKernel(device, dense(shape), [x, w, ...biases, rows * outputs]);
        const y = forward[forward.length - 1], kept = activation === "none" ? [] : [y];
        assertClose(y, expected.y, { bound: 2e-6, what: "y" });
        const towards = await runKernel(device, denseInputGradient(shape), [g, ...kept, w, ...biases, x.length]);
        assertClose(towards[towards.length - 1], expected.x, { bound: 1e-5, what: "gradient of x" });
        const made = [w.length, ...(bias ? [outputs] : [])];
        const weights = (await runKernel(device, denseWeightGradient(shape), [g, ...kept, x, ...made])).slice(
          -made.length,
        );
        assertClose(weights[0], expected.w, { bound: 1e-5, what: "gradient of W" });
        if (bias) assertClose(weights[1], expected.b, { bound: 1e-5, what: "gradient of b" });
      }
    }
  });
}
