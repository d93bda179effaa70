/** Tuning on the command line, and the record that a run keeps of its kernels. */
import { assert, assertEquals } from "@std/assert";
import { parseCommandLine } from "../../cli/arguments.ts";
import { pretrain } from "../../api/pretrain.ts";
import { makeImages } from "../examples/images.ts";
import { assertRefused, noGpu, run } from "./program.ts";

Deno.test("--no-tune is cluster.tune off, wherever it stands", () => {
  const { overrides, operands } = parseCommandLine(["pretrain", "--no-tune", "--steps", "3"]);
  assertEquals([overrides, operands], [[["cluster.tune", "off"], ["steps", "3"]], []]);
  const last = parseCommandLine(["pretrain", "--tune", "on", "--no-tune"]);
  assertEquals(last.overrides, [["tune", "on"], ["cluster.tune", "off"]]);
  assertEquals(parseCommandLine(["tune", "--again"]).options.again, true);
});

Deno.test("tune refuses what it does not know before a GPU is looked for", async () => {
  assertRefused(await run(["tune", "quickstart"], noGpu), ['options only, found "quickstart"']);
  assertRefused(await run(["tune", "--stpes", "1"], noGpu), ['no key "stpes"', '"steps"']);
  assertRefused(await run(["pretrain", "--tune", "often"], noGpu), ["cluster.tune must be", '"often"']);
});

Deno.test("a run records its kernels in run.json; resumed, it keeps to them or refuses in one line", async () => {
  const folder = await Deno.makeTempDir({ prefix: "seer-tune-" });
  await makeImages(`${folder}/images`, { count: 24, categories: 2 });
  const path = `${folder}/tuned`;
  const read = async () => JSON.parse(await Deno.readTextFile(`${path}/run.json`));
  const write = (description: unknown) => Deno.writeTextFile(`${path}/run.json`, JSON.stringify(description));
  try {
    const stop = new AbortController();
    const { outcome } = await pretrain({
      preset: "test-tiny",
      data: { folder: `${folder}/images` },
      run: { folder, name: "tuned" },
      cluster: { tune: "off" },
    }, { quiet: true, signal: stop.signal, onStep: () => stop.abort() });
    assertEquals(outcome, "interrupted");
    const description = await read();
    const { choices, adapter } = description.kernels;
    const keys = Object.keys(choices);
    assert(keys.some((key) => key.startsWith("conv2d weight gradient: 3x3/2 3→8, 6×16×16")), keys.join("\n"));
    assert(adapter.length > 0);

    await write({ ...description, kernels: { adapter, choices: { ...choices, [keys[0]]: "gone" } } });
    const refused = await run(["pretrain", "--resume", path]);
    assertRefused(refused, ["do not run here", `the first is "gone" for "${keys[0]}"`, "this version has no such"]);
    await write({ ...description, kernels: { choices: 7 } });
    assertRefused(await run(["pretrain", "--resume", path]), ["its kernels must name variants"]);

    // As recorded on an adapter of another name that can run the same.
    await write({ ...description, kernels: { adapter: "other", choices } });
    const { code, errors, output } = await run(["pretrain", "--resume", path, "--tune", "on"]);
    assertEquals(code, 0, errors);
    assert(!output.includes("tuning"), output);
    assertEquals((await read()).kernels, { adapter: "other", choices });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
