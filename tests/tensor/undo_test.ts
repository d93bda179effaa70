import { assertEquals } from "@std/assert";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { Undo } from "../../tensor/undo.ts";
import { eachDevice } from "../devices.ts";
import { numbers } from "../kernels/run.ts";

eachDevice(
  "undo puts back what tensors held when they were first kept, as often as asked, and frees its copies",
  async (
    device,
  ) => {
    const live = device.memory.liveBytes;
    const before = [numbers(5, 1), numbers(1031, 2)];
    const tensors = before.map((values) => tensorFrom(device, values, [values.length]));
    const held = device.memory.liveBytes;
    const undo = new Undo();
    undo.keep(tensors);
    for (const round of [1, 2]) {
      for (const { buffer } of tensors) device.clear(buffer);
      undo.keep(tensors);
      assertEquals((await readTensors(tensors)).every((values) => values.every((value) => value === 0)), true);
      assertEquals(await readTensors(tensors.map((tensor) => undo.before(tensor))), before, `round ${round}`);
      undo.restore();
      assertEquals(await readTensors(tensors), before, `round ${round}`);
    }
    undo.drop();
    assertEquals(device.memory.liveBytes, held);
    assertEquals(undo.before(tensors[0]), tensors[0], "what is not kept is as it is");
    undo.restore();
    assertEquals(await readTensors(tensors), before);
    freeTensors(tensors);
    assertEquals(device.memory.liveBytes, live);
  },
);
