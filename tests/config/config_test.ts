import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  ConfigError,
  configKeys,
  configReference,
  cropsPerImage,
  findPreset,
  globalBatch,
  parseConfig,
  presets,
  shortOptions,
  totalSteps,
} from "../../config.ts";

const source = "the test";

function messageOf(input: unknown): string {
  return assertThrows(() => parseConfig(input, { source }), ConfigError).message;
}

Deno.test("every preset is a valid configuration", () => {
  for (const name of Object.keys(presets)) parseConfig(findPreset(name), { source: name });
});

Deno.test("seer-256gf holds the hyperparameters of the paper", () => {
  const config = parseConfig(findPreset("seer-256gf"), { source });
  assertEquals(globalBatch(config), 8192);
  assertEquals(cropsPerImage(config), 6);
  assertEquals(config.head, { dims: [8192, 8192, 256], batchNorm: false, lastBatchNorm: false });
  assertEquals([config.prototypes.count, config.sinkhorn.iterations, config.sinkhorn.epsilon], [16000, 10, 0.05]);
  const { name, learningRate, warmupStart, warmupSteps, endFactor } = config.schedule;
  assertEquals([name, learningRate, warmupStart, warmupSteps], ["cosine", 9.6, 0.15, 8000]);
  assert(Math.abs(learningRate * endFactor - 0.0096) < 1e-12);
  assertEquals([config.optimizer.name, config.optimizer.weightDecay], ["larc", 1e-5]);
  assertEquals(config.optimizer.excludeBiasAndNorm, false);
  assertEquals([config.replicas, config.batchPerReplica, config.syncBatchNormGroup], [512, 16, 64]);
});

Deno.test("seer-128gf holds the hyperparameters of its run", () => {
  const config = parseConfig(findPreset("seer-128gf"), { source });
  assertEquals(globalBatch(config), 4096);
  assertEquals([config.schedule.name, config.schedule.learningRate], ["constant", 4.8]);
  assertEquals(config.model.name, "regnety_128gf");
});

Deno.test("a parsed configuration is frozen at every depth", () => {
  const config = parseConfig({ steps: 1 }, { source });
  assert(Object.isFrozen(config) && Object.isFrozen(config.crops) && Object.isFrozen(config.crops[0].scale));
  assert(Object.isFrozen(config.schedule.plateau));
});

Deno.test("parsing leaves the input as it was and unfrozen", () => {
  const input = { steps: 1, crops: [{ size: 8, count: 2, scale: [0.1, 1] }] };
  parseConfig(input, { source });
  assertEquals(input, { steps: 1, crops: [{ size: 8, count: 2, scale: [0.1, 1] }] });
  assert(!Object.isFrozen(input.crops));
});

Deno.test("an unknown key names the nearest right one by its full path", () => {
  const cases: [Record<string, unknown>, string, string][] = [
    [{ optimiser: {} }, "optimiser", "optimizer"],
    [{ optimizer: { momentun: 0.9 } }, "optimizer.momentun", "optimizer.momentum"],
    [{ schedule: { learning_rate: 1 } }, "schedule.learning_rate", "schedule.learningRate"],
    [{ learningRate: 1 }, "learningRate", "schedule.learningRate"],
    [{ lr: 1 }, "lr", "schedule.learningRate"],
    [{ schedule: { plateau: { windows: 3 } } }, "schedule.plateau.windows", "schedule.plateau.window"],
    [{ crops: [{ size: 8, count: 2, scale: [0.1, 1], sise: 8 }] }, "crops[0].sise", "crops[].size"],
  ];
  for (const [input, wrong, right] of cases) {
    assertStringIncludes(messageOf({ steps: 2, ...input }), `there is no key "${wrong}"; did you mean "${right}"?`);
  }
});

Deno.test("a value of the wrong type or range gives path, requirement and value", () => {
  assertEquals(messageOf({ steps: "ten" }), 'cannot use the test: steps must be a number, found "ten"');
  assertEquals(messageOf({ steps: 1.5 }), "cannot use the test: steps must be an integer, found 1.5");
  assertEquals(messageOf({ steps: 0 }), "cannot use the test: steps must be more than 0, found 0");
  assertEquals(
    messageOf({ steps: 2, optimizer: { name: "lars" } }),
    'cannot use the test: optimizer.name must be one of "larc", "sgd", "adamw", found "lars"',
  );
  assertEquals(
    messageOf({ steps: 2, crops: [{ size: 8, count: 2, scale: [0.1, 1] }, { size: -4, count: 1, scale: [0.1, 1] }] }),
    "cannot use the test: crops[1].size must be more than 0, found -4",
  );
  assertEquals(messageOf(7), "cannot use the test: it must be an object, found 7");
});

Deno.test("rules that join several keys are told with the key at fault", () => {
  const crop = (size: number, count: number) => ({ size, count, scale: [0.1, 1] });
  const cases: [Record<string, unknown>, string][] = [
    [{ replicas: 2, cluster: { trainers: 3 } }, "cluster.trainers must be at most replicas (2)"],
    [{ replicas: 6, syncBatchNormGroup: 4 }, "syncBatchNormGroup must divide replicas (6)"],
    [{ assignCrops: [0, 4] }, "assignCrops must name crops from 0 to 3"],
    [{ assignCrops: [1, 2] }, "assignCrops must name crops of one size (these have 48 and 24 pixels)"],
    [{ assignCrops: [1, 1] }, "assignCrops must name each crop once"],
    [{ crops: [crop(8, 1)], assignCrops: [0] }, "crops must add up to at least 2 crops per image"],
    [{ prototypes: { frozenSteps: 5 } }, "prototypes.frozenSteps must be less than steps (5)"],
    [{ schedule: { warmupSteps: 9 } }, "schedule.warmupSteps must be less than steps (5)"],
    [
      { optimizer: { excludeBiasAndNorm: true } },
      "optimizer.excludeBiasAndNorm must be false unless optimizer.name is larc",
    ],
    [{ epochs: 2 }, "epochs must not be given beside steps"],
    [{ queue: { length: 10 } }, "queue.length must be a multiple of replicas (4)"],
    [{ augmentation: { blurSigma: [2, 0.1] } }, "augmentation.blurSigma must be [smallest, largest]"],
    [{ model: { name: "regnety_16g" } }, 'did you mean "regnety_16gf"?'],
    [{ model: { name: "regnety_16gf", widths: [8] } }, "model.widths must not be given beside model.name"],
    [{ model: { widths: [8] } }, "model.stemWidth must be given where there is no model.name"],
    [
      { model: { stemWidth: 8, widths: [12], depths: [1, 1], groupWidth: 4 } },
      "model.depths must have as many stages as model.widths (1)",
    ],
    [
      { model: { stemWidth: 8, widths: [12], depths: [1], groupWidth: 8 } },
      "model.groupWidth must divide every one of model.widths (not 12)",
    ],
    [
      { checkpointing: { segments: ["1"] } },
      'checkpointing.segments must list units where checkpointing.mode is "listed"',
    ],
    [{ checkpointing: { mode: "listed" } }, "checkpointing.segments must list units"],
    [
      { checkpointing: { mode: "listed", segments: ["0-1", "1-3"] } },
      "checkpointing.segments must be in order, apart, and within 0-3 (the stem and its blocks)",
    ],
    [
      { checkpointing: { memoryBudgetBytes: 1e9 } },
      'memoryBudgetBytes must be given with checkpointing.mode "auto" only',
    ],
  ];
  for (const [input, text] of cases) assertStringIncludes(messageOf({ steps: 5, ...input }), text);
});

Deno.test("a run without steps or epochs is refused", () => {
  assertStringIncludes(messageOf({}), "steps must be given (or epochs), found nothing");
});

Deno.test("an unknown preset names the nearest one", () => {
  assertThrows(() => findPreset("seer-265gf"), ConfigError, 'did you mean "seer-256gf"?');
  assertThrows(() => findPreset("toString"), ConfigError);
});

Deno.test("epochs become whole batches, and too few images are refused", () => {
  const config = parseConfig({ epochs: 1.5, replicas: 2, batchPerReplica: 5 }, { source });
  assertEquals(totalSteps(config, 47), 7);
  assertThrows(() => totalSteps(config, 6), RangeError, "found 6 images");
});

Deno.test("every key is described, and short options stand for real keys", () => {
  const nameless = configKeys.filter((key) => key.description === "").map((key) => key.path);
  assertEquals(nameless, []);
  for (const path of Object.values(shortOptions)) assert(configKeys.some((key) => key.path === path), path);
});

Deno.test("docs/config.md is what configReference() writes", async () => {
  const page = await Deno.readTextFile(new URL("../../docs/config.md", import.meta.url));
  assertEquals(page, configReference(), "write it anew with tools/write_config_reference.ts");
});
