/**
 * Runs in mixed precision whose loss scale starts so high that gradients overflow, or grows so soon that a short run sees
 * it: over real WebSockets, with engines that have a loss scale of the test's.
 */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { checkPrecision } from "../../actors/engine/build.ts";
import { Engine } from "../../actors/engine/engine.ts";
import type { RunEvent } from "../../actors/events.ts";
import { processRoles } from "../../actors/roles.ts";
import { trainerRole, workerId } from "../../actors/trainer.ts";
import { findPreset, parseConfig, type TrainConfig } from "../../config.ts";
import { openDevice } from "../../device/open.ts";
import type { LossScaleOptions } from "../../optim/loss_scale.ts";
import { memoryLinkPair } from "../../wire/memory_link.ts";
import { adapter } from "../device/adapter.ts";
import { withRuns } from "./runs.ts";
import { runOverSockets } from "./socket_run.ts";

const device = await openDevice({ provider: "deno" });
Deno.test.afterAll(() => device.destroy());

async function runScaled(config: TrainConfig, lossScale: LossScaleOptions, resume?: object) {
  const trainer = trainerRole((context) => {
    const [trainerSide, engineSide] = memoryLinkPair(context.id, workerId);
    const engine = new Engine({
      id: context.id,
      send: (message) => engineSide.send(message),
      openDevice: () => Promise.resolve(device),
      now: () => performance.now(),
      lossScale,
    });
    engineSide.onMessage = (message) => engine.receive(message);
    return trainerSide;
  });
  const events = await runOverSockets({ config, roles: { ...processRoles, trainer }, resume });
  const records = events.flatMap((event) => event.kind === "step" ? [event.record] : []);
  return { events, records, end: events.at(-1) };
}

function digestOf(end: RunEvent | undefined): string {
  if (end?.kind === "ended") return end.digest;
  throw new Error(end?.kind === "failed" ? end.failure.error : "the run has no end");
}

// Gradients of the test's network overflow in f16 above 2^17: the first steps are left out, and one after it has grown.
const high = { start: 2 ** 20, growthSteps: 2 };

const sanitize = { sanitizeOps: false, sanitizeResources: false };

Deno.test("steps that overflow are left out and halve the loss scale: the same bits on 1 and 2 trainers, and resumed", {
  ...sanitize,
}, async () => {
  await withRuns(async (place) => {
    const checkpoint = { everySteps: 2, keep: 5 };
    const config = place.config({ precision: "mixed", checkpoint });
    const one = await runScaled(config, high);
    const courseOf = ({ records }: typeof one) =>
      records.map(({ lossScale, skippedSteps }) => [lossScale, skippedSteps]);
    let [scale, clean, skipped] = [high.start, 0, 0];
    for (const [index, record] of one.records.entries()) {
      assertEquals(record.lossScale, scale, `step ${index}`);
      const overflowed = record.skippedSteps !== skipped;
      clean = overflowed ? 0 : clean + 1;
      if (overflowed) skipped += 1;
      if (overflowed) scale /= 2;
      if (clean === high.growthSteps) [scale, clean] = [2 * scale, 0];
    }
    assert(skipped > 0 && skipped < one.records.length, `${skipped} steps were skipped`);
    assertEquals(one.records.at(-1)?.skippedSteps, skipped);

    const two = await runScaled(place.config({ precision: "mixed", cluster: { trainers: 2 } }), high);
    assertEquals(digestOf(two.end), digestOf(one.end));
    assertEquals(courseOf(two), courseOf(one));

    const resumed = await runScaled(config, high, { step: 4 });
    assertEquals(digestOf(resumed.end), digestOf(one.end));
    assertEquals(courseOf(resumed), courseOf(one).slice(4));
  });
});

Deno.test("a run in f32 has no loss scale", sanitize, async () => {
  await withRuns(async (place) => {
    const { records, end } = await runScaled(place.config({ steps: 3 }), high);
    digestOf(end);
    assertEquals(records.map((record) => "lossScale" in record || "skippedSteps" in record), [false, false, false]);
  });
});

Deno.test("mixed precision on an adapter without half precision is refused with the trainer's name and the remedy", () => {
  const { error } = assertRefused();
  assertStringIncludes(error, "trainer-3");
  assertStringIncludes(error, "shader-f16");
  assertStringIncludes(error, 'set precision to "f32"');
  const mixed = parseConfig({ ...findPreset("test-tiny"), precision: "mixed" }, { source: "the test" });
  checkPrecision(mixed, { adapter: adapter({ features: ["f16"] }), trainer: "trainer-3" });
  checkPrecision({ ...mixed, precision: "f32" }, { adapter: adapter(), trainer: "trainer-3" });
});

function assertRefused(): { error: string } {
  const mixed = parseConfig({ ...findPreset("test-tiny"), precision: "mixed" }, { source: "the test" });
  const refuse = () => checkPrecision(mixed, { adapter: adapter({ features: ["subgroups"] }), trainer: "trainer-3" });
  return { error: assertThrows(refuse, TypeError).message };
}
