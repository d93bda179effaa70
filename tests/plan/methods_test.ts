import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { buildMethod } from "../../actors/engine/method.ts";
import { stepUses } from "../../actors/engine/shapes.ts";
import { largestTensor } from "../../api/preflight.ts";
import { choiceCount, ConfigError, findPreset, parseConfig, type TrainConfigInput } from "../../config.ts";
import { RecordingDevice } from "../../device/tune_shapes.ts";
import { formatPlan, planRun } from "../../plan.ts";
import { adapter } from "../device/adapter.ts";

const methods: Readonly<Record<string, TrainConfigInput>> = {
  swav: {},
  simclr: {
    method: { name: "simclr" },
    head: { dims: [32, 24, 16], batchNorm: true, lastBatchNorm: true },
    crops: [{ size: 16, count: 2, scale: [0.1, 1] }],
  },
  supervised: { method: { name: "supervised", classes: 7 }, crops: [{ size: 16, count: 1, scale: [0.1, 1] }] },
  hashtag: { method: { name: "hashtag", classes: 11 }, crops: [{ size: 16, count: 1, scale: [0.1, 1] }] },
};
const configOf = (changes: TrainConfigInput) =>
  parseConfig({ ...findPreset("test-tiny"), ...changes }, { source: "the test" });

for (const [name, changes] of Object.entries(methods)) {
  Deno.test(`the plan counts the parameters that a run of ${name} trains, and a step of it can be recorded`, async () => {
    const config = configOf(changes);
    const { model } = buildMethod(new RecordingDevice(adapter()), config, { blank: true });
    const counted = model.parameters.reduce((sum, { tensor }) => sum + tensor.size, 0);
    const plan = planRun(config);
    assertEquals(plan.network.parameters.total, counted);
    const sinkhorn = plan.links.some(({ to }) => to === "sinkhorn");
    assertEquals(sinkhorn, name === "swav");
    assertStringIncludes(formatPlan(plan), `head ${plan.network.headDims.join("-")}`);
    assert(largestTensor(config).bytes > 0);
    assert((await stepUses(config, adapter())).uses.length > 0);
  });
}

Deno.test("SimCLR tells one crop from all others of the step, whose embeddings every trainer sends and gets", () => {
  const config = configOf({ ...methods.simclr, cluster: { trainers: 4 } });
  assertEquals(choiceCount(config), 2 * 12 - 1);
  const link = planRun(config).links.find(({ what }) => what === "embeddings and log-sums");
  assertEquals([link?.messages, link?.bytes], [2, 4 * 24 * (16 + 1)]);
});

Deno.test("a run by labels is not planned before its classes are known, and other methods have none", () => {
  const uncounted = configOf({ ...methods.supervised, method: { name: "supervised" } });
  assertThrows(() => planRun(uncounted), ConfigError, "method.classes must be given");
  assertThrows(() => configOf({ method: { name: "swav", classes: 3 } }), ConfigError, "be left out unless");
  assertThrows(() => configOf({ method: { name: "simclr" } }), ConfigError, "2 crops of one size");
  assertThrows(() => configOf({ method: { name: "hashtag" } }), ConfigError, "be one crop");
});
