/** Runs whose numbers go wrong, by themselves or by a trainer that sends what it has not computed: how they end. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Engine } from "../../actors/engine/engine.ts";
import type { RunEvent } from "../../actors/events.ts";
import { processRoles } from "../../actors/roles.ts";
import { trainerRole, workerId } from "../../actors/trainer.ts";
import { findPreset } from "../../config.ts";
import { openDevice } from "../../device/open.ts";
import { memoryLinkPair } from "../../wire/memory_link.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";
import { run, withRuns } from "./runs.ts";
import { runOverSockets } from "./socket_run.ts";

const device = await openDevice({ provider: "deno" });
Deno.test.afterAll(() => device.destroy());

Deno.test("a run that diverges ends at once with the cause and the remedy, and nobody is started anew", async () => {
  await withRuns(async (place) => {
    const schedule = { ...findPreset("test-tiny").schedule, learningRate: 1e38, warmupSteps: 0 };
    const config = place.config({ schedule, cluster: { trainers: 2, restarts: 3 } });
    const { outcome, records, events } = await run({ config, singleProcess: true });
    assert(outcome.outcome === "failed", outcome.outcome);
    assertMatch(outcome.failure.error, /^the loss of step \d+ is NaN: lower schedule\.learningRate or raise/);
    assert(records.every(({ loss }) => Number.isFinite(loss)), "a step without a loss does not count");
    assertEquals(events.filter(({ kind }) => kind === "restarting" || kind === "regrouping"), []);
  });
});

/** A run of two trainers of which the second sends its gradients changed. */
async function poisonedBy(poison: (value: number) => number): Promise<RunEvent[]> {
  let events: RunEvent[] = [];
  await withRuns(async (place) => {
    const trainer = trainerRole((context) => {
      const [trainerSide, engineSide] = memoryLinkPair(context.id, workerId);
      const changed = (message: Message): Message => {
        const wrong = context.id === "trainer-1" && message.type === "contribute" &&
          message.key.startsWith("gradient/");
        return wrong ? { ...message, values: toWire(f32FromWire(message.values).map(poison)) } : message;
      };
      const engine = new Engine({
        id: context.id,
        send: (message) => engineSide.send(changed(message)),
        openDevice: () => Promise.resolve(device),
        now: () => performance.now(),
      });
      engineSide.onMessage = (message) => engine.receive(message);
      return trainerSide;
    });
    const config = place.config({ steps: 4, cluster: { trainers: 2, restarts: 3 } });
    events = await runOverSockets({ config, roles: { ...processRoles, trainer } });
  });
  return events;
}

// What stays finite and of a usual size is not noticed: docs/faults.md, F59.
const poisons: Readonly<Record<string, (value: number) => number>> = {
  "NaN": () => NaN,
  "infinite": () => Infinity,
  "1e30 times as large": (value) => 1e30 * value,
};

for (const [name, poison] of Object.entries(poisons)) {
  Deno.test({
    name: `gradients of one trainer that are ${name} end the run at the next step, by its loss`,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      const events = await poisonedBy(poison);
      const last = events.at(-1);
      assert(last?.kind === "failed", last?.kind);
      assertMatch(last.failure.error, /^the loss of step 1 is NaN: /);
      assertEquals(events.filter(({ kind }) => kind === "step").length, 1);
      assertEquals(events.filter(({ kind }) => kind === "restarting" || kind === "regrouping"), []);
    },
  });
}
