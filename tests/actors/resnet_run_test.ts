/** Runs whose trunk is a ResNet, through the same actors. */
import { assert, assertEquals } from "@std/assert";
import { DirectoryStore } from "../../checkpoint/store.ts";
import { checkWeights } from "../../weights/weights.ts";
import { digestOf, run, withRuns } from "./runs.ts";

const model = { family: "resnet", stemWidth: 8, widths: [16, 24], depths: [1, 2], groups: 2, bottleneck: 2 } as const;

Deno.test("a ResNet is pretrained by 1 and 2 trainers to the same weights, which open again", {
  sanitizeOps: false,
  sanitizeResources: false,
}, async () => {
  await withRuns(async (place) => {
    const configs = [1, 2].map((trainers) => place.config({ model, cluster: { trainers } }));
    const digests: string[] = [];
    for (const config of configs) {
      const result = await run({ config, singleProcess: true });
      digests.push(digestOf(result));
      assertEquals(result.records.length, config.steps);
      assert(result.records.every(({ loss }) => Number.isFinite(loss)));
    }
    assertEquals(digests[0], digests[1]);
    const folder = `${configs[0].run.folder}/${configs[0].run.name}`;
    const { model: saved } = await new DirectoryStore(folder).load("latest");
    const { family: _family, ...shape } = model;
    assertEquals(checkWeights(saved, { naming: "seer" }).spec, { kind: "resnet", ...shape });
  });
});
