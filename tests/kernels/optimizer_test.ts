import {
  adamwReference,
  adamwUpdate,
  findOverflow,
  LARC_PARTIALS,
  larcNorms,
  larcRatio,
  larcReference,
  larcUpdate,
  sgdReference,
  sgdUpdate,
} from "../../kernels/optimizer.ts";
import { assertEquals } from "@std/assert";
import { eachDevice } from "../devices.ts";
import { type Argument, assertClose, numbers, runKernels } from "./run.ts";

eachDevice("larc kernels match the reference, and take a raw step when a norm is zero", async (device) => {
  const constants = { momentum: 0.9, weightDecay: 1e-5, trustCoefficient: 0.001, epsilon: 1e-8 };
  const sizes = [1, 257, 1000, 20_001];
  for (const zero of [false, true]) {
    const states = sizes.map((count) => ({
      gradient: numbers(count, 1),
      velocity: numbers(count, 2),
      parameter: zero ? new Float32Array(count) : numbers(count, 3),
    }));
    const first = new Float32Array(Uint32Array.of(0).buffer);
    const shared: Argument[] = [Float32Array.of(4.8), first, sizes.length * LARC_PARTIALS, 2 * sizes.length];
    const given = [
      ...shared,
      ...states.flatMap(({ gradient, velocity, parameter }) => [gradient, velocity, parameter]),
    ];
    const [gradients, velocities, parameters] = [0, 1, 2].map((k) => sizes.map((_, t) => shared.length + 3 * t + k));
    const launch = { sizes, scaled: false };
    const results = await runKernels(device, given, [
      [larcNorms(launch), [0, 1, 2, ...sizes.flatMap((_, t) => [parameters[t], gradients[t]])]],
      [larcRatio(sizes.length, constants), [2, 3]],
      [larcUpdate(launch, constants), [
        0,
        1,
        3,
        ...sizes.flatMap((_, t) => [gradients[t], velocities[t], parameters[t]]),
      ]],
    ]);
    states.forEach((state, t) => {
      const expected = { ...state, velocity: state.velocity.slice(), parameter: state.parameter.slice() };
      larcReference(expected, { ...constants, learningRate: 4.8 });
      const what = `${sizes[t]} zero ${zero}`;
      assertClose(results[parameters[t]], expected.parameter, { bound: 1e-6, what: `parameter ${what}` });
      assertClose(results[velocities[t]], expected.velocity, { bound: 1e-6, what: `velocity ${what}` });
    });
  }
});

eachDevice("sgd and adamw kernels match their references", async (device) => {
  const sizes = [3, 1492], launch = { sizes, scaled: false };
  for (const nesterov of [false, true]) {
    const constants = { momentum: 0.9, weightDecay: 1e-4, nesterov };
    const states = sizes.map((count) => [numbers(count, 1), numbers(count, 2), numbers(count, 3)]);
    const given = [Float32Array.of(0.1), ...states.flat()];
    const results = await runKernels(device, given, [[sgdUpdate(launch, constants), given.map((_, i) => i)]]);
    states.forEach(([gradient, velocity, parameter], t) => {
      const expected = { gradient, velocity: velocity.slice(), parameter: parameter.slice() };
      sgdReference(expected, { ...constants, learningRate: 0.1 });
      assertClose(results[2 + 3 * t], expected.velocity, { bound: 1e-6, what: "velocity" });
      assertClose(results[3 + 3 * t], expected.parameter, { bound: 1e-6, what: "parameter" });
    });
  }
  const constants = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };
  const states = sizes.map((count) => [
    numbers(count, 1),
    numbers(count, 4),
    numbers(count, 5).map(Math.abs),
    numbers(count, 6),
  ]);
  const given = [Float32Array.of(0.002, 1 - 0.9 ** 3, Math.sqrt(1 - 0.999 ** 3)), ...states.flat()];
  const results = await runKernels(device, given, [[adamwUpdate(launch, constants), given.map((_, i) => i)]]);
  states.forEach(([gradient, first, second, parameter], t) => {
    const expected = { gradient, first: first.slice(), second: second.slice(), parameter: parameter.slice() };
    adamwReference(expected, { ...constants, learningRate: 0.002, step: 3 });
    assertClose(results[4 + 4 * t], expected.parameter, { bound: 1e-6, what: "adamw parameter" });
  });
});

eachDevice("findOverflow() finds an infinity or a NaN in any tensor, and takes the largest number for finite", async (
  device,
) => {
  const largest = Float32Array.of(3.4028234663852886e38, -3.4028234663852886e38, 0);
  for (const bad of [Infinity, -Infinity, NaN, undefined]) {
    for (const at of [0, 150]) {
      const last = numbers(151, 1);
      if (bad !== undefined) last[at] = bad;
      const [flag] = await runKernels(device, [new Float32Array(1), largest, last], [
        [findOverflow([3, 151]), [0, 1, 2]],
      ]);
      assertEquals(new Uint32Array(flag.slice().buffer)[0], bad === undefined ? 0 : 1, `${bad} at ${at}`);
    }
  }
});
