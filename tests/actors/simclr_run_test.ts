/** Runs of SimCLR through the same actors as SwAV's. */
import { assert, assertEquals } from "@std/assert";
import { mathsDigest } from "../../actors/run_identity.ts";
import { DirectoryStore } from "../../checkpoint/store.ts";
import type { TrainConfigInput } from "../../config.ts";
import { checkWeights } from "../../weights/weights.ts";
import { withColours } from "./colours.ts";
import { digestOf, run, withRuns } from "./runs.ts";

const simclr: TrainConfigInput = {
  method: { name: "simclr" },
  head: { dims: [32, 24, 16], batchNorm: true, lastBatchNorm: true },
  crops: [{ size: 16, count: 2, scale: [0.14, 1] }],
};
const sanitize = { sanitizeOps: false, sanitizeResources: false };

Deno.test("SimCLR ends with the same bits on 1 and 2 trainers, and stopped and resumed", sanitize, async () => {
  await withRuns(async (place) => {
    const config = place.config(simclr);
    const one = await run({ config, singleProcess: true });
    const expected = digestOf(one);
    const two = await run({ config: place.config({ ...simclr, cluster: { trainers: 2 } }), singleProcess: true });
    assertEquals(digestOf(two), expected);
    assertEquals(two.records.map(({ loss }) => loss), one.records.map(({ loss }) => loss));

    const stopping = place.config({ ...simclr, cluster: { trainers: 2 } }, "stopped");
    await run({ config: stopping, singleProcess: true, stopBeforeStep: 3 });
    const resumed = await run({ config: place.config(simclr, "stopped"), singleProcess: true, resume: {} });
    assertEquals([digestOf(resumed), resumed.records.length], [expected, 3]);

    const { model } = await new DirectoryStore(`${config.run.folder}/${config.run.name}`).load("latest");
    const weights = checkWeights(model, { naming: "seer" });
    assertEquals(weights.tensors.has("prototypes.weight"), false);
    assertEquals(weights.tensors.get("head.6.weight")?.shape, [16, 24]);
    assertEquals(weights.tensors.get("head.7.running_mean")?.shape, [16]);
  });
});

Deno.test("two replicas see what one with all images sees, in losses and in what is learnt", sanitize, async () => {
  await withRuns(async (place) => {
    const learning = {
      loss: { temperature: 0.5 },
      optimizer: { name: "sgd" },
      schedule: { name: "constant", learningRate: 0.03 },
      steps: 4,
    } as const;
    const course = async (changes: TrainConfigInput) => {
      const result = await run({ config: place.config({ ...simclr, ...learning, ...changes }), singleProcess: true });
      digestOf(result);
      return result.records.map(({ loss }) => loss);
    };
    const apart = await course({ replicas: 2, batchPerReplica: 6, syncBatchNormGroup: 2 });
    const alone = await course({ replicas: 1, batchPerReplica: 12, syncBatchNormGroup: 1 });
    const schedule = { name: "constant", learningRate: 1e-6 } as const;
    const still = await course({ replicas: 1, batchPerReplica: 12, syncBatchNormGroup: 1, schedule });
    assert(Math.abs(still[3] - alone[3]) > 1e-3 * alone[3], `what is learnt must show: ${still[3]} and ${alone[3]}`);
    for (const [step, loss] of apart.entries()) {
      assert(Math.abs(loss - alone[step]) < 1e-4 * alone[step], `step ${step}: ${loss} and ${alone[step]}`);
    }
  });
});

Deno.test("SimCLR's loss falls on a small set of images, and mixed precision begins alike", sanitize, async () => {
  await withColours(async (place, at) => {
    const course = async (changes: TrainConfigInput) => {
      const config = place.config({
        ...simclr,
        loss: { temperature: 0.5 },
        optimizer: { name: "adamw" },
        schedule: { name: "constant", learningRate: 0.003 },
        augmentation: { jitterProbability: 0, blurProbability: 0, grayscaleProbability: 0 },
        replicas: 2,
        batchPerReplica: 12,
        ...changes,
      });
      const result = await run({ config: at(config), singleProcess: true });
      digestOf(result);
      return result.records.map(({ loss }) => loss);
    };
    const losses = await course({ steps: 16 });
    const mean = (from: number) => losses.slice(from, from + 4).reduce((sum, loss) => sum + loss / 4, 0);
    assert(mean(12) < 0.95 * mean(0), losses.map((loss) => loss.toFixed(3)).join(" "));
    const [first] = await course({ steps: 3, precision: "mixed" });
    assert(Math.abs(first - losses[0]) < 0.01 * losses[0], `${first} and ${losses[0]}`);
  });
});

Deno.test("a SwAV run's identity says nothing of methods, so that older checkpoints resume", async () => {
  await withRuns((place) => {
    const swav = place.config();
    assertEquals(mathsDigest(swav), mathsDigest({ ...swav, method: { ...swav.method, targets: "shared" } }));
    const other = place.config(simclr);
    assert(mathsDigest(other) !== mathsDigest({ ...other, method: { ...other.method, name: "swav" } }));
    return Promise.resolve();
  });
});
