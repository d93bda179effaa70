import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { checkChoices, stepUses } from "../../actors/engine/shapes.ts";
import { findPreset, loadConfig, parseConfig } from "../../config.ts";
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
