/** Devices that are lost, out of memory, slow or endless in the middle of a step, and what becomes of their trainers. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { Engine } from "../../actors/engine/engine.ts";
import type { RunEvent } from "../../actors/events.ts";
import { processRoles } from "../../actors/roles.ts";
import { trainerRole, workerId } from "../../actors/trainer.ts";
import { findPreset, parseConfig } from "../../config.ts";
import type { Device } from "../../device/device.ts";
import { DeviceError, DeviceLostError } from "../../device/errors.ts";
import { openDevice } from "../../device/open.ts";
import { RecordingDevice } from "../../device/tune_shapes.ts";
import { memoryLinkPair } from "../../wire/memory_link.ts";
import type { Message } from "../../wire/messages.ts";
import { toWire } from "../../wire/tensor.ts";
import { adapter } from "../device/adapter.ts";
import { drive } from "./driven_controller.ts";
import { digestOf, run, withRuns } from "./runs.ts";
import { runOverSockets } from "./socket_run.ts";

/** Trainers of which the first is slow and the second loses its device while step 2 exchanges scores, in its first life. */
function unluckyTrainers(devices: Device[]) {
  let lives = 0;
  return trainerRole((context) => {
    const [trainerSide, engineSide] = memoryLinkPair(context.id, workerId);
    const doomed = context.id === "trainer-1" && lives++ === 0;
    let own: Device | undefined;
    const engine = new Engine({
      id: context.id,
      send(message) {
        if (doomed && message.type === "scores" && message.step === 2) own?.destroy();
        engineSide.send(message);
      },
      async openDevice(options) {
        const device = own = await openDevice(options);
        devices.push(device);
        const read = device.read.bind(device);
        if (context.id === "trainer-0") {
          device.read = (parts) => new Promise((go) => setTimeout(go, 10)).then(() => read(parts));
        }
        return device;
      },
      now: () => performance.now(),
    });
    engineSide.onMessage = (message) => engine.receive(message);
    return trainerSide;
  });
}

Deno.test(
  "a trainer whose device is lost in the middle of a step is named and replaced, a slow one is waited for: the same weights",
  {
    sanitizeOps: false,
    sanitizeResources: false,
  },
  async () => {
    const devices: Device[] = [];
    await withRuns(async (place) => {
      const settings = { steps: 4, checkpoint: { everySteps: 0, keep: 1 } };
      const expected = digestOf(await run({ config: place.config(settings), singleProcess: true }));
      const config = place.config({ ...settings, cluster: { trainers: 2, restarts: 3 } });
      const roles = { ...processRoles, trainer: unluckyTrainers(devices) };
      const events: RunEvent[] = await runOverSockets({ config, roles });
      const end = events.at(-1);
      assertEquals(end?.kind === "ended" && end.digest, expected);
      const lost = events.flatMap((event) =>
        event.kind === "regrouping" && event.failure !== null ? [event.failure] : []
      );
      assertEquals(lost.map(({ actor }) => actor), ["trainer-1"]);
      assertMatch(lost[0].error, /Cannot use the device ".+": it was destroyed/);
      assertEquals(events.filter(({ kind }) => kind === "restarting"), []);
    });
    for (const device of devices) device.destroy();
  },
);

/** What an engine says that takes one step on `device`, until it says `last`; the device does `harm` from the step on. */
async function stepOn(harm: (device: Device) => void, last: Message["type"]) {
  const device = new RecordingDevice(adapter());
  const config = parseConfig({ ...findPreset("test-tiny"), replicas: 1, syncBatchNormGroup: 1 }, {
    source: "the test",
  });
  const count = config.batchPerReplica;
  const said: Message[] = [];
  const { promise, resolve } = Promise.withResolvers<Message>();
  const engine = new Engine({
    id: "trainer-0",
    now: () => 0,
    openDevice: () => Promise.resolve(device),
    send(message) {
      said.push(message);
      if (message.type === last) resolve(message);
      if (message.type === "ready") engine.receive({ type: "step", epoch: 0, step: 0, learningRate: 0.1 });
      if (message.type !== "want-batch") return;
      const each = (value: number) => new Array<number>(count).fill(value);
      const { step, replica } = message;
      const images = { ids: each(0), offsets: each(0), widths: each(1), heights: each(1), replaced: [] };
      if (step === 0) harm(device);
      engine.receive({ type: "batch", step, replica, ...images, pixels: toWire(new Uint8Array(4)) });
    },
  });
  const trainers = [{ id: "trainer-0", low: 0, high: 1 }];
  engine.receive({ type: "configure", config: { ...structuredClone(config) }, trainers, shards: ["sync-0"] });
  return { engine, said, message: await deadline(promise, 15_000) };
}

Deno.test("memory that runs out while a step is computed is the engine's failure, with the device's own words", async () => {
  let left = 40;
  const { message, said } = await stepOn((device) => {
    const allocate = device.allocate.bind(device);
    device.allocate = (bytes) => {
      if (left-- > 0) return allocate(bytes);
      throw new DeviceError(`Cannot allocate ${bytes} bytes on "made-up adapter": out of memory`);
    };
  }, "failed");
  assert(message.type === "failed");
  assertMatch(message.error, /DeviceError: Cannot allocate \d+ bytes on "made-up adapter": out of memory/);
  assert(said.every(({ type }) => type !== "prepared"));
});

Deno.test("a device that is lost while numbers are read from it is the engine's failure, with the driver's reason", async () => {
  const { message, said } = await stepOn((device) => {
    device.read = () => Promise.reject(new DeviceLostError('The device "made-up" was lost (unknown reason): reset'));
  }, "failed");
  assert(message.type === "failed");
  assertMatch(message.error, /DeviceLostError: The device "made-up" was lost \(unknown reason\): reset/);
  assert(said.every(({ type }) => type !== "prepared"));
});

Deno.test("an engine whose kernel never ends takes part in no new epoch", async () => {
  const { promise: reading, resolve } = Promise.withResolvers<void>();
  const { engine, said } = await stepOn((device) => {
    device.read = () => {
      resolve();
      return new Promise(() => {});
    };
  }, "want-batch");
  await deadline(reading, 15_000);
  engine.receive({ type: "regroup", epoch: 1, step: 0, trainers: [{ id: "trainer-0", low: 0, high: 1 }], gone: [] });
  await new Promise((go) => setTimeout(go, 20));
  assertEquals(said.filter(({ type }) => type === "regrouped" || type === "prepared" || type === "failed"), []);
});

Deno.test("of two trainers that are late the one whose part is missing is lost; when nobody can tell, with the deadline of the epoch", () => {
  const told = drive(5);
  told.step(0);
  // One computes for ever, the other waits for its sums.
  told.say("self", { type: "alarm", name: "step" });
  told.say("sync-0", { type: "lacks", epoch: told.epoch(), trainers: ["trainer-1"] });
  told.say("self", { type: "alarm", name: "step" });
  const named = told.events.at(-1);
  assert(named?.kind === "regrouping");
  assertEquals([named.failure?.actor, named.trainers], ["trainer-1", ["trainer-0"]]);

  const run = drive(5);
  run.step(0);
  run.say("self", { type: "alarm", name: "step" });
  run.say("self", { type: "alarm", name: "step" });
  const first = run.events.at(-1);
  assert(first?.kind === "regrouping" && first.failure !== null);
  assertEquals(first.failure.error, "waited too long for trainer-0, trainer-1 to finish step 1");
  run.regroup("checkpointer", "loader-0", "sinkhorn", "sync-0");
  run.sent();
  run.say("self", { type: "alarm", name: "regrouping" });
  const second = run.events.at(-1);
  assert(second?.kind === "restarting");
  assertEquals(second.failure.actor, "trainer-1");
  assertMatch(second.failure.error, /^waited too long for trainer-1 to /);
  assertEquals(run.sent().at(-1), "halt host-0", "its process is ended, whatever its thread does");
});
