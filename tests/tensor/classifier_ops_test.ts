import { assertEquals, assertThrows } from "@std/assert";
import { sigmoidCrossEntropyReference } from "../../kernels/sigmoid_cross_entropy.ts";
import { poolGrid } from "../../tensor/ops/pool_grid.ts";
import { reshape } from "../../tensor/ops/reshape.ts";
import { sigmoidCrossEntropy } from "../../tensor/ops/sigmoid_cross_entropy.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "../kernels/run.ts";

eachDevice(
  "sigmoidCrossEntropy() gives losses and gradients on the tape, and leaves nothing behind",
  async (device) => {
    const before = device.memory.liveBytes;
    const data = numbers(12, 1), signs = numbers(12, 2).map((value) => value > 0.2 ? 1 : value < -0.6 ? -1 : 0);
    const logits = tensorFrom(device, data, [3, 4], { requiresGradient: true });
    const marks = tensorFrom(device, signs, [3, 4]);
    const tape = new Tape(device, { gradients: true });
    const losses = sigmoidCrossEntropy(tape, { logits, marks });
    const gradients = await tape.backward(losses, { keep: [losses] });
    const [found, gradient] = await readTensors([losses, gradients.get(logits) ?? losses]);
    const expected = sigmoidCrossEntropyReference({ logits: data, marks: signs }, {
      rows: 3,
      columns: 4,
      scale: 1 / 12,
    });
    assertClose(found, expected.losses, { bound: 1e-6, what: "losses" });
    assertClose(gradient, expected.gradient, { bound: 1e-6, what: "gradient" });
    tape.dispose();
    freeTensors([logits, marks]);
    assertEquals(device.memory.liveBytes, before);
  },
);

eachDevice("reshape() keeps the numbers and brings the gradient back in the old shape", async (device) => {
  const before = device.memory.liveBytes;
  const x = tensorFrom(device, numbers(12, 1), [2, 3, 2], { requiresGradient: true });
  const tape = new Tape(device, { gradients: true });
  const flat = reshape(tape, x, [2, 6]);
  assertEquals((await readTensors([flat]))[0], numbers(12, 1));
  const towards = tensorFrom(device, numbers(12, 2), [2, 6]);
  const found = (await tape.backward(flat, { gradient: towards })).get(x);
  assertEquals(found?.shape, [2, 3, 2]);
  assertEquals((await readTensors(found ? [found] : []))[0], numbers(12, 2));
  assertThrows(() => reshape(new Tape(device, { gradients: false }), x, [5]), RangeError, "both must hold 12 numbers");
  tape.dispose();
  freeTensors([x, towards]);
  assertEquals(device.memory.liveBytes, before);
});

eachDevice("poolGrid() refuses to stand between a gradient and its leaf", async (device) => {
  const x = tensorFrom(device, numbers(16, 1), [1, 2, 2, 4], { requiresGradient: true });
  const tape = new Tape(device, { gradients: true });
  assertThrows(() => poolGrid(tape, x, [1, 1]), TypeError, "freeze the trunk");
  tape.dispose();
  freeTensors([x]);
  await Promise.resolve();
});
