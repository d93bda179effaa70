import { assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { adamw } from "../../optim/adamw.ts";
import { larc } from "../../optim/larc.ts";
import type { Optimizer, Trainable } from "../../optim/optimizer.ts";
import { sgd } from "../../optim/sgd.ts";
import { markOverflow } from "../../tensor/ops/update.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom, zeros } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "../kernels/run.ts";

function parametersOn(device: Device): Trainable[] {
  return [
    { name: "a.weight", kind: "linear", tensor: tensorFrom(device, numbers(35, 1), [5, 7]) },
    { name: "a.bias", kind: "bias", tensor: tensorFrom(device, numbers(7, 2), [7]) },
    { name: "frozen", kind: "linear", tensor: tensorFrom(device, numbers(12, 3), [3, 4]) },
  ];
}

const valuesOf = (parameters: readonly Trainable[]) => readTensors(parameters.map(({ tensor }) => tensor));

function takeSteps(optimizer: Optimizer, parameters: readonly Trainable[], seeds: readonly number[]): void {
  for (const seed of seeds) {
    const gradients = new Map<string, Tensor>(
      parameters.filter(({ name }) => name !== "frozen").map((
        { name, tensor },
        i,
      ) => [name, tensorFrom(tensor.device, numbers(tensor.size, 10 * seed + i), tensor.shape)]),
    );
    optimizer.step(parameters, gradients, 0.1);
    freeTensors(gradients.values());
  }
}

for (const [name, make] of [["larc", larc], ["sgd", sgd], ["adamw", adamw]] as const) {
  eachDevice(`${name}() leaves a parameter without gradient bit for bit as it was`, async (device) => {
    const parameters = parametersOn(device), optimizer = make();
    takeSteps(optimizer, parameters, [1, 2]);
    const [moved, , frozen] = await valuesOf(parameters);
    assertEquals(frozen, numbers(12, 3));
    assertEquals(moved.some((v, i) => v === numbers(35, 1)[i]), false);
    assertEquals([...optimizer.state().keys()].some((key) => key.startsWith("frozen")), false);
    assertEquals(optimizer.stepCount, 2);
    optimizer.dispose();
    freeTensors(parameters.map(({ tensor }) => tensor));
  });

  eachDevice(`${name}() takes a loss scale out again, and leaves everything alone where gradients overflow`, async (
    device,
  ) => {
    const plain = parametersOn(device), expected = make();
    takeSteps(expected, plain, [1, 2, 3]);
    const parameters = parametersOn(device), optimizer = make();
    const overflow = zeros(device, [1]);
    for (const [seed, infinite] of [[1, false], [9, true], [2, false], [3, false]] as const) {
      const scale = 2 ** 10;
      const gradients = new Map(
        parameters.filter((parameter) => parameter.name !== "frozen").map(({ name, tensor: { shape, size } }, i) => {
          const values = numbers(size, 10 * seed + i).map((value) => value * scale);
          if (infinite && i === 1) values[size - 1] = -Infinity;
          return [name, tensorFrom(device, values, shape)];
        }),
      );
      markOverflow([...gradients.values()], overflow);
      optimizer.step(parameters, gradients, { learningRate: 0.1, lossScaled: { scale, overflow } });
      const [[mark]] = await readTensors([overflow]);
      assertEquals(mark !== 0, infinite);
      if (infinite) optimizer.retract();
      freeTensors(gradients.values());
    }
    assertEquals(await valuesOf(parameters), await valuesOf(plain));
    const stateOf = async (of: Optimizer) => [[...of.state().keys()], await readTensors([...of.state().values()])];
    assertEquals(await stateOf(optimizer), await stateOf(expected));
    assertEquals(optimizer.stepCount, 3);
    for (const each of [expected, optimizer]) each.dispose();
    freeTensors([overflow, ...[...plain, ...parameters].map(({ tensor }) => tensor)]);
  });

  eachDevice(`${name}() continues from a saved state with the same bits`, async (device) => {
    const through = parametersOn(device), whole = make();
    takeSteps(whole, through, [1, 2, 3, 4]);
    const first = parametersOn(device), before = make();
    takeSteps(before, first, [1, 2]);
    const state = before.state();
    const numbersOf = await readTensors([...state.values()]);
    const saved = new Map([...state.keys()].map((key, i) => [key, numbersOf[i].slice()]));
    const after = make();
    after.load(first, { state: saved, stepCount: before.stepCount });
    takeSteps(after, first, [3, 4]);
    assertEquals(await valuesOf(first), await valuesOf(through));
    assertEquals(after.stepCount, 4);
    assertThrows(
      () => after.load(first, { state: new Map([["other.momentum", new Float32Array(3)]]), stepCount: 0 }),
      TypeError,
      "other.momentum",
    );
    for (const optimizer of [whole, before, after]) optimizer.dispose();
    freeTensors([...through, ...first].map(({ tensor }) => tensor));
  });
}

eachDevice("larc() excludes nothing unless told to", async (device) => {
  const results: Float32Array[] = [];
  for (const excludeBiasAndNorm of [false, true]) {
    const parameters = parametersOn(device), optimizer = larc({ excludeBiasAndNorm });
    takeSteps(optimizer, parameters, [1]);
    results.push((await valuesOf(parameters))[1]);
    optimizer.dispose();
    freeTensors(parameters.map(({ tensor }) => tensor));
  }
  const plain = numbers(7, 2).map((v, i) => v - 0.1 * numbers(7, 11)[i]);
  assertClose(results[1], plain, { bound: 1e-6, what: "excluded bias" });
  const moved = (values: Float32Array) => Math.hypot(...values.map((v, i) => v - numbers(7, 2)[i]));
  // A scaled step has the length trust · ‖p‖ · lr, whatever the gradient's.
  assertClose([moved(results[0])], [0.001 * Math.hypot(...numbers(7, 2)) * 0.1], { bound: 1e-3, what: "scaled bias" });
});

eachDevice("adamw() corrects the bias of a parameter by its own steps", async (device) => {
  const parameters = parametersOn(device), optimizer = adamw({ weightDecay: 0 });
  takeSteps(optimizer, parameters, [1, 2, 3]);
  const late = parameters[2];
  const gradient = tensorFrom(device, numbers(12, 5), [3, 4]);
  optimizer.step(parameters, new Map([["frozen", gradient]]), 0.1);
  // The first step of Adam is lr · sign(g).
  const expected = numbers(12, 3).map((v, i) => v - 0.1 * Math.sign(numbers(12, 5)[i]));
  assertClose((await readTensors([late.tensor]))[0], expected, { bound: 1e-5, what: "first step" });
  optimizer.dispose();
  freeTensors([gradient, ...parameters.map(({ tensor }) => tensor)]);
});
