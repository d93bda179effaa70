/** Runs of methods that learn from labels, through the same actors as SwAV's. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { countClasses, openTrainingImages } from "../../actors/training_images.ts";
import { checkRun } from "../../api/preflight.ts";
import { newRun } from "../../api/run_folder.ts";
import { DirectoryStore } from "../../checkpoint/store.ts";
import { ConfigError, type TrainConfigInput } from "../../config.ts";
import { checkWeights, renameWeights } from "../../weights/weights.ts";
import { withColours } from "./colours.ts";
import { digestOf, run } from "./runs.ts";

const crops = [{ size: 16, count: 1, scale: [0.5, 1] as [number, number] }];
const augmentation = { jitterProbability: 0, blurProbability: 0, grayscaleProbability: 0 };
const supervised: TrainConfigInput = {
  method: { name: "supervised", classes: 3 },
  crops,
  augmentation,
  optimizer: { name: "adamw" },
  schedule: { name: "constant", learningRate: 0.01 },
};
const sanitize = { sanitizeOps: false, sanitizeResources: false };
Deno.test(
  "supervised learning finds the classes, with the same bits on 1 and 2 trainers, and stopped and resumed",
  sanitize,
  async () => {
    await withColours(async (place, at) => {
      const config = at(place.config({ ...supervised, steps: 12 }));
      const one = await run({ config, singleProcess: true });
      const expected = digestOf(one);
      assert(one.records[0].lossOverLnK > 0.9 && one.records[0].lossOverLnK < 1.1, `${one.records[0].lossOverLnK}`);
      const top1 = one.records.map((record) => record.top1 ?? -1);
      assert(
        top1.slice(-3).every((share) => share > 0.9) && top1[0] < 0.9,
        top1.map((share) => share.toFixed(2)).join(" "),
      );

      const two = await run({
        config: at(place.config({ ...supervised, steps: 12, cluster: { trainers: 2 } })),
        singleProcess: true,
      });
      assertEquals(digestOf(two), expected);
      assertEquals(two.records.map((record) => record.top1), top1);

      const stopping = at(place.config({ ...supervised, steps: 12 }, "stopped"));
      await run({ config: stopping, singleProcess: true, stopBeforeStep: 5 });
      assertEquals(digestOf(await run({ config: stopping, singleProcess: true, resume: {} })), expected);

      const { model } = await new DirectoryStore(`${config.run.folder}/${config.run.name}`).load("latest");
      const weights = checkWeights(model, { naming: "seer" });
      assertEquals(weights.tensors.get("fc.weight")?.shape, [3, 24]);
      assertEquals(renameWeights(weights, "torchvision").tensors.has("fc.weight"), true);
    });
  },
);

Deno.test(
  "hashtag prediction draws one tag a step, by the seed, or shares the target among all",
  sanitize,
  async () => {
    await withColours(async (place, at) => {
      const tagged = (changes: TrainConfigInput = {}, name?: string) =>
        at(place.config({ ...supervised, method: { name: "hashtag", classes: 5 }, ...changes }, name), "/tags.csv");
      const { source, labelsOf } = await openTrainingImages(tagged());
      assert(
        source.size > 15 && source.size <= 27,
        `${source.size} images; those without a tag and the tested are left out`,
      );
      const drawn = Array.from({ length: 40 }, (_, step) => labelsOf?.(3, step) ?? []);
      assert(drawn.every((tags) => tags.length === 1));
      assertEquals(new Set(drawn.map(([tag]) => tag)).size, 2);
      assertEquals(Array.from({ length: 40 }, (_, step) => labelsOf?.(3, step) ?? []), drawn);
      const shared = await openTrainingImages(tagged({ method: { name: "hashtag", classes: 5, targets: "shared" } }));
      assertEquals(shared.labelsOf?.(3, 0).length, 2);

      const digests: string[] = [];
      for (const trainers of [1, 2]) {
        digests.push(digestOf(await run({ config: tagged({ cluster: { trainers } }), singleProcess: true })));
      }
      assertEquals(digests[0], digests[1]);
      const method = { name: "hashtag", classes: 5, targets: "shared" } as const;
      const both = await run({ config: tagged({ method, steps: 12 }), singleProcess: true });
      assert(digestOf(both) !== digests[0]);
      // Two equal shares cost at least ln 2, and the best answer tells colour and parity.
      const last = both.records[11].loss;
      assert(last > Math.LN2 && last < 0.95 * both.records[0].loss, `${both.records[0].loss} and ${last}`);
    });
  },
);

Deno.test("what a method that learns from labels cannot learn from is told before any work", async () => {
  await withColours(async (place, at) => {
    const loose = place.config(supervised);
    const error = await assertRejects(() => checkRun({ config: loose, resumed: false }), ConfigError);
    assert(
      /cannot learn from labels .*supervised.*one sub-folder per category.*--method\.name swav/.test(error.message),
      error.message,
    );
    const tags = at(loose, "/tags.csv");
    const several = await assertRejects(() => checkRun({ config: tags, resumed: false }), ConfigError);
    assert(/may show several classes.*hashtag/.test(several.message), several.message);
    const other = at(place.config({ ...supervised, method: { name: "supervised", classes: 4 } }));
    await assertRejects(
      () => checkRun({ config: other, resumed: false }),
      ConfigError,
      "must be the number of its classes, 3",
    );

    const uncounted = at(place.config({ ...supervised, method: { name: "supervised" } }));
    const start = await newRun(uncounted, {
      named: true,
      fallbackName: "x",
      now: new Date(0),
      defaultFolder: () => Promise.reject(),
    });
    assertEquals(start.config.method.classes, 3);
    assertEquals(await countClasses(at(uncounted, "/tags.csv")).catch((e) => e.name), "ConfigError");
    await checkRun(start);
  });
});
