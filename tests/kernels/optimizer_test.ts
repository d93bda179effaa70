import {
  adamwReference,
  adamwUpdate,
  larcNorms,
  larcPartials,
  larcRatio,
  larcReference,
  larcUpdate,
  sgdReference,
  sgdUpdate,
} from "../../kernels/optimizer.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernels } from "./run.ts";

eachDevice("larc kernels match the reference, and take a raw step when a norm is zero", async (device) => {
  const constants = { momentum: 0.9, weightDecay: 1e-5, trustCoefficient: 0.001, epsilon: 1e-8 };
  for (const count of [1, 257, 1000, 20_001]) {
    for (const zero of [false, true]) {
      const gradient = numbers(count, 1), velocity = numbers(count, 2);
      const parameter = zero ? new Float32Array(count) : numbers(count, 3);
      const expected = { gradient, velocity: velocity.slice(), parameter: parameter.slice() };
      larcReference(expected, { ...constants, learningRate: 4.8 });
      const buffers = [gradient, parameter, velocity, Float32Array.of(4.8), larcPartials(count), 2];
      const [, p, v] = await runKernels(device, buffers, [
        [larcNorms(count), [1, 0, 4]],
        [larcRatio(count, constants), [4, 5]],
        [larcUpdate(count, constants), [0, 5, 3, 2, 1]],
      ]);
      assertClose(p, expected.parameter, { bound: 1e-6, what: `parameter ${count} zero ${zero}` });
      assertClose(v, expected.velocity, { bound: 1e-6, what: `velocity ${count} zero ${zero}` });
    }
  }
});

eachDevice("sgd and adamw kernels match their references", async (device) => {
  for (const count of [3, 1492]) {
    const gradient = numbers(count, 1);
    for (const nesterov of [false, true]) {
      const constants = { momentum: 0.9, weightDecay: 1e-4, nesterov };
      const velocity = numbers(count, 2), parameter = numbers(count, 3);
      const expected = { gradient, velocity: velocity.slice(), parameter: parameter.slice() };
      sgdReference(expected, { ...constants, learningRate: 0.1 });
      const buffers = [gradient, Float32Array.of(0.1), velocity, parameter];
      const [, , v, p] = await runKernels(device, buffers, [[sgdUpdate(count, constants), [0, 1, 2, 3]]]);
      assertClose(v, expected.velocity, { bound: 1e-6, what: "velocity" });
      assertClose(p, expected.parameter, { bound: 1e-6, what: "parameter" });
    }
    const constants = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };
    const first = numbers(count, 4), second = numbers(count, 5).map(Math.abs), parameter = numbers(count, 6);
    const expected = { gradient, first: first.slice(), second: second.slice(), parameter: parameter.slice() };
    adamwReference(expected, { ...constants, learningRate: 0.002, step: 3 });
    const scalars = Float32Array.of(0.002, 1 - 0.9 ** 3, Math.sqrt(1 - 0.999 ** 3));
    const buffers = [gradient, scalars, first, second, parameter];
    const [, , , , p] = await runKernels(device, buffers, [[adamwUpdate(count, constants), [0, 1, 2, 3, 4]]]);
    assertClose(p, expected.parameter, { bound: 1e-6, what: "adamw parameter" });
  }
});
