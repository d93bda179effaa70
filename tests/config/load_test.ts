import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { ConfigError, configKeys, loadConfig, parseConfig } from "../../config.ts";
import { editDistance, nearest } from "../../config/nearest.ts";

async function withFile(name: string, text: string, use: (path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/${name}`;
    await Deno.writeTextFile(path, text);
    await use(path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("the file wins over the preset and an option over both", async () => {
  const text = 'steps = 9\nseed = 3\n[schedule]\nlearningRate = 0.25\nname = "plateau"\n';
  await withFile("run.toml", text, async (file) => {
    const config = await loadConfig({ preset: "test-tiny", file, overrides: [["schedule.learningRate", "0.125"]] });
    assertEquals([config.steps, config.seed, config.prototypes.count], [9, 3, 12]);
    assertEquals([config.schedule.learningRate, config.schedule.name, config.schedule.warmupSteps], [
      0.125,
      "plateau",
      2,
    ]);
  });
});

Deno.test("a TypeScript file gives the configuration as its default export", async () => {
  const text = "const size: number = 12;\nexport default { steps: 4, crops: [{ size, count: 3, scale: [0.2, 1] }] };\n";
  await withFile("run.ts", text, async (file) => {
    const config = await loadConfig({ file });
    assertEquals([config.steps, config.crops.length, config.crops[0].size], [4, 1, 12]);
  });
});

Deno.test("options are typed by the schema", async () => {
  const config = await loadConfig({
    preset: "test-tiny",
    overrides: [
      ["steps", "1_000"],
      ["head.batchNorm", "true"],
      ["head.dims", "64,32"],
      ["assignCrops", "[1]"],
      ["crops", '[{"size": 20, "count": 2, "scale": [0.5, 1]}]'],
      ["run.name", "12"],
      ["cluster.adapters", '[{"name": "llvmpipe", "environment": {"A": "b"}}]'],
      ["data", "/images"],
    ],
  });
  assertEquals([config.steps, config.head.batchNorm, config.run.name], [1000, true, "12"]);
  assertEquals([config.head.dims, config.assignCrops], [[64, 32], [1]]);
  assertEquals(config.crops, [{ size: 20, count: 2, scale: [0.5, 1] }]);
  assertEquals(config.cluster.adapters, [{ name: "llvmpipe", environment: { A: "b" } }]);
  assertEquals(config.data.folder, "/images");
});

Deno.test("overrides may be a record of values, with groups", async () => {
  const overrides = { "schedule.learningRate": 0.5, cluster: { trainers: 2 }, seed: "9", epochs: undefined };
  const config = await loadConfig({ preset: "test-tiny", overrides });
  assertEquals([config.schedule.learningRate, config.cluster.trainers, config.seed], [0.5, 2, 9]);
});

Deno.test("naming a model withdraws the preset's stages, and epochs withdraw its steps", async () => {
  const config = await loadConfig({
    preset: "test-tiny",
    overrides: [["model.name", "regnety_200mf"], ["epochs", "2"]],
  });
  assertEquals([config.model.name, config.model.widths], ["regnety_200mf", undefined]);
  assertEquals([config.epochs, config.steps], [2, undefined]);
  const back = await loadConfig({
    preset: "seer-256gf",
    overrides: [["model.stemWidth", "8"], ["model.widths", "16"], ["model.depths", "1"], ["model.groupWidth", "8"]],
  });
  assertEquals([back.model.name, back.model.widths], [undefined, [16]]);
});

Deno.test("loading does not change a preset", async () => {
  const before = JSON.stringify(await loadConfig({ preset: "test-tiny" }));
  await loadConfig({ preset: "test-tiny", overrides: [["model.name", "regnety_200mf"], ["head.dims", "8,8"]] });
  assertEquals(JSON.stringify(await loadConfig({ preset: "test-tiny" })), before);
});

Deno.test("a bad option names the key, its type and the text found", async () => {
  const cases: [string, string, string][] = [
    ["lr", "1", 'there is no key "lr"; did you mean "schedule.learningRate"?'],
    ["schedule", "1", 'there is no key "schedule"'],
    ["steps", "ten", 'steps must be an integer, found "ten"'],
    ["steps", "", 'steps must be an integer, found ""'],
    ["steps", "1.5", "steps must be an integer, found 1.5"],
    ["head.batchNorm", "yes", 'head.batchNorm must be a boolean, found "yes"; write it as true or false'],
    ["head.dims", "a,b", 'head.dims must be a list of integers, found "a,b"'],
    ["crops", "[{]", "crops must be a list of objects"],
    ["cluster.gpu", "metal", 'cluster.gpu must be one of "auto", "deno", "dawn", found "metal"'],
    ["__proto__.x", "1", 'there is no key "__proto__.x"'],
  ];
  for (const [path, text, message] of cases) {
    const action = () => loadConfig({ preset: "test-tiny", overrides: [[path, text]] });
    assertStringIncludes((await assertRejects(action, ConfigError)).message, message);
  }
});

Deno.test("a bad file is told with its name", async () => {
  await assertRejects(() => loadConfig({ file: "no/such.toml" }), ConfigError, "no/such.toml must be a file");
  await withFile("run.toml", "steps = = 3", async (file) => {
    await assertRejects(() => loadConfig({ file }), ConfigError, "run.toml: it must be TOML");
  });
  await withFile("run.toml", "stpes = 3\nsteps = 3", async (file) => {
    const action = () => loadConfig({ file, overrides: [["seed", "1"]] });
    await assertRejects(action, ConfigError, 'run.toml: there is no key "stpes"; did you mean "steps"?');
  });
  await withFile("run.yaml", "steps: 3", async (file) => {
    await assertRejects(() => loadConfig({ file }), ConfigError, "must end in .ts or .toml");
  });
  await withFile("run.ts", "export const steps = 3;", async (file) => {
    await assertRejects(() => loadConfig({ file }), ConfigError, "as its default");
  });
});

Deno.test("edit distance counts insertions, deletions, changes and swaps", () => {
  assertEquals(editDistance("", "abc"), 3);
  assertEquals(editDistance("steps", "stesp"), 1);
  assertEquals(editDistance("optimiser", "optimizer"), 1);
  assertEquals(editDistance("kitten", "sitting"), 3);
});

Deno.test("one typing slip in any key finds that key, or one as near", () => {
  const paths = configKeys.map((key) => key.path).filter((path) => path.includes(".") && !path.includes("["));
  fc.assert(fc.property(fc.constantFrom(...paths), fc.nat(), (path, place) => {
    // Dropping one letter of the last word.
    const at = path.length - 1 - place % (path.length - 1 - path.lastIndexOf("."));
    const slip = path.slice(0, at) + path.slice(at + 1);
    // "optimizer.beta" is as near to beta1 as to beta2: either answer is right.
    const near = paths.filter((other) => editDistance(other, slip) <= 1);
    assertEquals(near.includes(nearest(slip, paths)), true, `${slip}: one of ${near.join(", ")}`);
  }));
});

Deno.test("a configuration that went through JSON is the same configuration", async () => {
  for (const preset of ["quickstart", "seer-256gf", "test-tiny"]) {
    const config = await loadConfig({ preset });
    const again = parseConfig(JSON.parse(JSON.stringify(config)), { source: "run.json" });
    assertEquals(again, config);
    assert(Object.isFrozen(again));
  }
});
