import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { Engine } from "../../actors/engine/engine.ts";
import { checkChoices, stepUses } from "../../actors/engine/shapes.ts";
import { configKeys, findPreset, loadConfig, parseConfig, type TrainConfig } from "../../config.ts";
import { RecordingDevice } from "../../device/tune_shapes.ts";
import { toWire } from "../../wire/tensor.ts";
import { adapter } from "../device/adapter.ts";
import { digestOf, run, withRuns } from "./runs.ts";

const tiny = parseConfig(findPreset("test-tiny"), { source: "the test" });

Deno.test("a step asks for every pass of every convolution at both crop sizes, each shape once", async () => {
  const { uses, unfit } = await stepUses(tiny, adapter());
  const keys = uses.map(({ key }) => key);
  assertEquals(new Set(keys).size, keys.length);
  assertEquals(unfit, []);
  // 2 crops of 16 px and 2 of 8 px, 3 images a replica.
  for (const part of ["conv2d forward: 3x3/2 3→8, 6×16×16", "conv2d forward: 3x3/2 3→8, 6×8×8"]) {
    assert(keys.some((key) => key.startsWith(part)), `no ${part} among\n${keys.join("\n")}`);
  }
  for (const pass of ["conv2d forward", "conv2d input gradient", "conv2d weight gradient"]) {
    assert(keys.some((key) => key.startsWith(`${pass}: 3x3/2 16→16 in 2 groups, 6×8×8`)), pass);
  }
});

Deno.test("the shapes of the largest network are known without drawing its weights", async () => {
  const { uses } = await stepUses(await loadConfig({ preset: "seer-256gf" }), adapter());
  assert(uses.some(({ key }) => key.includes("in 28 groups")), "widths of 10,444 in groups of 373");
});

/** An adapter that runs every precision. */
const capable = () => ({ ...adapter(), features: ["f16" as const] });

/** Takes one step on an engine whose device computes nothing: what its choices were asked for. */
async function engineUses(config: TrainConfig): Promise<string[]> {
  const device = new RecordingDevice(capable());
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  const count = config.batchPerReplica;
  const codes = new Float32Array(config.assignCrops.length * count * config.prototypes.count);
  const engine = new Engine({
    id: "trainer-0",
    now: () => 0,
    openDevice: () => Promise.resolve(device),
    send(message) {
      if (message.type === "failed") reject(new Error(message.error));
      if (message.type === "ready") engine.receive({ type: "step", epoch: 0, step: 0, learningRate: 0.1 });
      if (message.type === "want-batch") {
        const each = (value: number) => new Array<number>(count).fill(value);
        const { step, replica } = message;
        const images = { ids: each(0), offsets: each(0), widths: each(1), heights: each(1), replaced: [] };
        engine.receive({ type: "batch", step, replica, ...images, pixels: toWire(new Uint8Array(4)) });
      }
      if (message.type === "scores") {
        engine.receive({
          type: "codes",
          epoch: 0,
          step: message.step,
          replica: message.replica,
          values: toWire(codes),
        });
      }
      if (message.type === "prepared") resolve();
    },
  });
  const trainers = [{ id: "trainer-0", low: 0, high: 1 }];
  engine.receive({ type: "configure", config: { ...structuredClone(config) }, trainers, shards: ["sync-0"] });
  await done;
  return device.uses.map(({ key }) => key).sort();
}

/** Options that change what a step asks for, where this version has them. */
const known = (path: string) => configKeys.some((key) => key.path === path);
const changes: Readonly<Record<string, object>> = {
  "as it is": {},
  "crop groups of one size in a row": {
    crops: [{ size: 16, count: 1, scale: [0.2, 1] }, { size: 16, count: 2, scale: [0.1, 1] }],
  },
  ...(known("precision") ? { "mixed precision": { precision: "mixed" } } : {}),
  ...(known("checkpointSegments") ? { "activation checkpointing": { checkpointSegments: 2 } } : {}),
};

for (const [name, change] of Object.entries(changes)) {
  Deno.test(`what stepUses() tells is what a trainer's step asks for: ${name}`, async () => {
    const config = parseConfig(
      { ...findPreset("test-tiny"), replicas: 1, syncBatchNormGroup: 1, ...change },
      { source: "the test" },
    );
    const { uses } = await stepUses(config, capable());
    assertEquals(uses.map(({ key }) => key).sort(), await engineUses(config));
  });
}

Deno.test("checkChoices() names the adapter, how many variants do not run, the first, and the remedy", async () => {
  const { uses } = await stepUses(tiny, adapter());
  const usual = Object.fromEntries(
    uses.map(({ key, operation, shape }) => {
      const { kind, features, subgroupSizes, matrices, limits } = adapter();
      return [key, operation.usual(shape, { kind, features, subgroupSizes, matrices, ...limits }).name];
    }),
  );
  await checkChoices(adapter(), { config: tiny, choices: usual });
  const choices = { ...usual, [uses[1].key]: "matrix 99" };
  const error = await assertRejects(() => checkChoices(adapter(), { config: tiny, choices }), RangeError);
  assertStringIncludes(error.message, `on "made-up adapter": 1 of ${uses.length} recorded variants do not run`);
  assertStringIncludes(error.message, `"matrix 99" for "${uses[1].key}": this version has no such variant`);
  assertStringIncludes(error.message, "cluster.adapters");
});

Deno.test("a trainer that cannot run a recorded variant ends the run by its name before the first step", async () => {
  await withRuns(async (place) => {
    const config = place.config();
    const { uses } = await stepUses(config, adapter());
    const { outcome, records } = await run({ config, singleProcess: true, choices: { [uses[0].key]: "matrix 99" } });
    assert(outcome.outcome === "failed");
    assertEquals([outcome.failure.actor, records.length], ["trainer-0", 0]);
    assertMatch(outcome.failure.error, /cannot run this run's kernels on ".+": 1 of \d+ recorded variants/);
  });
});

Deno.test("recorded defaults give the same bits as no record", async () => {
  await withRuns(async (place) => {
    const config = place.config({ steps: 3 });
    const { uses } = await stepUses(config, adapter());
    const { kind, features, subgroupSizes, matrices, limits } = adapter();
    const device = { kind, features, subgroupSizes, matrices, ...limits };
    const choices = Object.fromEntries(
      uses.map(({ key, operation, shape }) => [key, operation.usual(shape, device).name]),
    );
    const plain = digestOf(await run({ config, singleProcess: true }));
    assertEquals(digestOf(await run({ config: place.config({ steps: 3 }), singleProcess: true, choices })), plain);
  });
});
