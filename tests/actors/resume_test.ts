import { assertEquals } from "@std/assert";
import type { TrainConfigInput } from "../../config.ts";
import { digestOf, run, withRuns } from "./runs.ts";

const recipes: Readonly<Record<string, TrainConfigInput>> = {
  // 25 images in steps of 12: an epoch has two steps, so that step 3 lies in the middle of the second.
  "LARC": {},
  "AdamW and a queue": {
    optimizer: { name: "adamw" },
    schedule: { name: "plateau", learningRate: 0.002, plateau: { window: 1, patience: 1 } },
    queue: { length: 24, startStep: 1 },
  },
};

for (const [name, changes] of Object.entries(recipes)) {
  Deno.test(`a run stopped before step 3 and resumed ends with the bits of one that was not: ${name}`, async () => {
    await withRuns(async (place) => {
      const whole = await run({ config: place.config(changes), singleProcess: true });
      const expected = digestOf(whole);
      const stopped = await run({
        config: place.config({ ...changes, cluster: { trainers: 2 } }, "stopped"),
        stopBeforeStep: 3,
      });
      assertEquals([stopped.outcome.outcome, stopped.records.length], ["interrupted", 3]);
      const resumed = await run({
        config: place.config({ ...changes, cluster: { trainers: 1, syncShards: 2 } }, "stopped"),
        resume: {},
      });
      assertEquals(digestOf(resumed), expected);
      assertEquals(
        [...stopped.records, ...resumed.records].map(({ loss }) => loss),
        whole.records.map(({ loss }) => loss),
      );
    });
  });
}
