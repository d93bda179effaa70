import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { add } from "../../tensor/ops/add.ts";
import { relu, sigmoid } from "../../tensor/ops/activation.ts";
import { concatRows, sliceRows } from "../../tensor/ops/rows.ts";
import { globalAveragePool } from "../../tensor/ops/pool.ts";
import { l2Normalize } from "../../tensor/ops/l2_normalize.ts";
import { linear } from "../../tensor/ops/linear.ts";
import { softmaxCrossEntropy } from "../../tensor/ops/softmax_cross_entropy.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { numbers } from "../kernels/run.ts";

function leaf(device: Device, shape: readonly number[], seed: number): Tensor {
  return tensorFrom(device, numbers(shape.reduce((a, b) => a * b, 1), seed), shape, { requiresGradient: true });
}

/** Compares the tape's gradients of sum(output · direction) with central differences, in one random direction a leaf. */
async function checkGradients(device: Device, leaves: Tensor[], forward: (tape: Tape) => Tensor): Promise<void> {
  const tape = new Tape(device, { gradients: true });
  const output = forward(tape);
  const weights = numbers(output.size, 99);
  const direction = tensorFrom(device, weights, output.shape);
  const gradients = await tape.backward(output, { gradient: direction });
  const value = async () => {
    const tape = new Tape(device, { gradients: false });
    const [values] = await readTensors([forward(tape)]);
    tape.dispose();
    return values.reduce((sum, v, i) => sum + v * weights[i], 0);
  };
  for (const [i, tensor] of leaves.entries()) {
    const gradient = gradients.get(tensor);
    assert(gradient, `leaf ${i} must have a gradient`);
    const [[exact], [start]] = [await readTensors([gradient]), await readTensors([tensor])];
    const step = numbers(tensor.size, 7 + i), size = 1 / 256;
    const moved = async (by: number) => {
      device.write(tensor.buffer, start.map((v, j) => v + by * step[j]));
      return await value();
    };
    const slope = (await moved(size) - await moved(-size)) / (2 * size);
    device.write(tensor.buffer, start);
    const expected = exact.reduce((sum, v, j) => sum + v * step[j], 0);
    const scale = Math.hypot(...exact) + 1e-3;
    assert(Math.abs(slope - expected) < 0.02 * scale, `leaf ${i}: slope ${slope} must be near ${expected}`);
  }
  tape.dispose();
  freeTensors([direction]);
}

eachDevice("every op's gradient agrees with central differences", async (device) => {
  const x = leaf(device, [4, 6], 1), y = leaf(device, [4, 6], 2), w = leaf(device, [6, 5], 3), b = leaf(device, [5], 4);
  const image = leaf(device, [2, 3, 3, 5], 5);
  const targets = tensorFrom(device, numbers(24, 8).map((v) => v * v), [4, 6]);
  await checkGradients(device, [x, w, b], (tape) => linear(tape, x, w, b));
  await checkGradients(device, [x, y], (tape) => add(tape, x, add(tape, x, y)));
  await checkGradients(device, [x], (tape) => sigmoid(tape, x));
  await checkGradients(device, [x], (tape) => l2Normalize(tape, x));
  await checkGradients(device, [x], (tape) => softmaxCrossEntropy(tape, { scores: x, targets }, { temperature: 0.5 }));
  await checkGradients(device, [x, y], (tape) => sliceRows(tape, concatRows(tape, [x, y, x]), { start: 2, end: 9 }));
  await checkGradients(device, [image], (tape) => globalAveragePool(tape, image));
  freeTensors([x, y, w, b, image, targets]);
});

eachDevice("gradients stop where ReLU is off, also behind a sum", async (device) => {
  const x = tensorFrom(device, Float32Array.of(-2, 3, 1), [3], { requiresGradient: true });
  const y = tensorFrom(device, Float32Array.of(1, 1, -4), [3], { requiresGradient: true });
  const tape = new Tape(device, { gradients: true });
  const gradients = await tape.backward(add(tape, relu(tape, x), relu(tape, add(tape, x, y))));
  const found = [x, y].map((tensor) => gradients.get(tensor)).filter((g) => g !== undefined);
  assertEquals((await readTensors(found)).map((g) => [...g]), [[0, 2, 1], [0, 1, 0]]);
  tape.dispose();
  freeTensors([x, y]);
});

eachDevice(
  "a tape frees all that it made, keeps what it is told to, and leaves the caller's tensors",
  async (device) => {
    const x = leaf(device, [8, 16], 1), w = leaf(device, [16, 4], 2);
    const before = device.memory.liveBytes;
    const forward = (tape: Tape) => sigmoid(tape, linear(tape, relu(tape, x), w));
    const tape = new Tape(device, { gradients: true });
    const output = forward(tape);
    const gradients = await tape.backward(output, { keep: [output] });
    tape.dispose({ keep: [output] });
    assertEquals(gradients.size, 2);
    await readTensors([output, x, w]);
    assertThrows(() => tape.allocate([1]), TypeError, "must not be disposed");
    freeTensors([output]);
    assertEquals(device.memory.liveBytes, before);
    const inference = new Tape(device, { gradients: false });
    const features = forward(inference);
    await assertRejects(() => inference.backward(features), TypeError, "must record gradients");
    inference.dispose();
    assertEquals(device.memory.liveBytes, before);
    freeTensors([x, w]);
  },
);

eachDevice("activations are freed while the backward pass runs", async (device) => {
  const x = leaf(device, [64, 64], 1);
  const tape = new Tape(device, { gradients: true });
  let output = sigmoid(tape, x);
  for (let i = 0; i < 9; i++) output = sigmoid(tape, output);
  const held = device.memory.liveBytes;
  await tape.backward(output);
  // Of ten activations and their gradients only the leaf's gradient and the ones stay.
  assert(device.memory.liveBytes < held - 7 * x.size * 4, `${held} bytes before, ${device.memory.liveBytes} after`);
  tape.dispose();
  freeTensors([x]);
});

eachDevice(
  "onGradient() reports a leaf once, after its last use has gone backward, and before earlier leaves",
  async (device) => {
    const [a, b] = [leaf(device, [2, 3], 1), leaf(device, [3, 3], 2)];
    const tape = new Tape(device, { gradients: true });
    const first = linear(tape, a, b);
    const second = linear(tape, first, b);
    const late = leaf(device, [3], 3);
    const output = linear(tape, second, leaf(device, [3, 3], 4), late);
    const order: Tensor[] = [];
    await tape.backward(output, { onGradient: (tensor) => order.push(tensor) });
    assert(order.indexOf(late) <= 1);
    assertEquals(order.filter((tensor) => tensor === b).length, 1);
    assertEquals(order.indexOf(b) > 1, true);
    tape.dispose();
  },
);
