import { assertEquals } from "@std/assert";
import { loadConfig } from "../../config.ts";
import { checkProbe } from "../../api/preflight.ts";
import { writeImages } from "../actors/runs.ts";
import { assertRefused, noGpu, run } from "./program.ts";

Deno.test("--probe takes names with commas, --every their steps", async () => {
  const config = await loadConfig({ preset: "test-tiny", overrides: [["probe", "knn,linear"], ["every", "7"]] });
  assertEquals(config.probe.protocols, ["knn", "linear"]);
  assertEquals(config.probe.everySteps, 7);
  const json = await loadConfig({ preset: "test-tiny", overrides: [["probe.protocols", '["knn"]']] });
  assertEquals(json.probe.protocols, ["knn"]);
});

Deno.test("images without labels are refused for probes in one line, before a GPU is looked for", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${folder}/images`);
    await writeImages(`${folder}/images`, 12);
    const common = ["pretrain", "--preset", "test-tiny", "--run.folder", folder, "--data", `${folder}/images`];
    const refused = await run([...common, "--probe", "knn"], noGpu);
    assertRefused(refused, ["snapshots by knn", "one sub-folder per category", "--probe.data DIR"]);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["images"]);
    await checkProbe(await loadConfig({ preset: "test-tiny", overrides: { "data.folder": `${folder}/images` } }));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
