/** Runs whose trunk is a vision transformer, through the same actors. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { DirectoryStore } from "../../checkpoint/store.ts";
import { ConfigError, type TrainConfigInput } from "../../config.ts";
import { checkWeights } from "../../weights/weights.ts";
import { digestOf, run, withRuns } from "./runs.ts";

const model = { family: "vit", widths: [64], depths: [2], patch: 4, heads: 1, mlpRatio: 2, imageSize: 16 } as const;
const changes: TrainConfigInput = {
  model,
  optimizer: { name: "adamw", weightDecay: 0.05 },
  schedule: { name: "constant", learningRate: 0.001 },
};
const sanitize = { sanitizeOps: false, sanitizeResources: false };

Deno.test(
  "a vision transformer is pretrained with AdamW by 1 and 2 trainers to the same weights, which open again",
  sanitize,
  async () => {
    await withRuns(async (place) => {
      const digests: string[] = [];
      for (const trainers of [1, 2]) {
        const config = place.config({ ...changes, cluster: { trainers } });
        const result = await run({ config, singleProcess: true });
        digests.push(digestOf(result));
        assertEquals(result.records.length, config.steps);
        assert(result.records.every(({ loss }) => Number.isFinite(loss)));
        const { model: saved } = await new DirectoryStore(`${config.run.folder}/${config.run.name}`).load("latest");
        const { family: _family, ...shape } = model;
        assertEquals(checkWeights(saved, { naming: "seer" }).spec, { kind: "vit", ...shape });
      }
      assertEquals(digests[0], digests[1]);
      const again = await run({
        config: place.config({ ...changes, checkpointing: { mode: "listed", segments: ["0-1", "2-3"] } }),
        singleProcess: true,
      });
      assertEquals(digestOf(again), digests[0], "activations computed again");
      const mixed = await run({ config: place.config({ ...changes, precision: "mixed" }), singleProcess: true });
      digestOf(mixed);
      assert(mixed.records.every(({ loss }) => Number.isFinite(loss)));
    });
  },
);

Deno.test("configurations that make no vision transformer are refused by the key at fault", async () => {
  await withRuns(async ({ config }) => {
    for (
      const [wrong, path] of [
        [{ heads: 5 }, "model.heads"],
        [{ imageSize: 18 }, "model.patch"],
        [{ widths: [64, 64], depths: [1, 1] }, "model.widths"],
        [{ stemWidth: 8 }, "model.stemWidth"],
        [{ patch: 32, imageSize: 64 }, "crops"],
      ] as const
    ) assertThrows(() => config({ ...changes, model: { ...model, ...wrong } }), ConfigError, path);
    await Promise.resolve();
  });
});
