/** `export` and `import` as a user calls them: no GPU, one line for each error, nothing overwritten. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { mathsDigest } from "../../actors/run_identity.ts";
import { DirectoryStore } from "../../checkpoint/store.ts";
import { loadConfig, modelSpec } from "../../config.ts";
import { openWeights } from "../../api/weights.ts";
import { weightsOf } from "../weights/networks.ts";
import { assertRefused, noGpu, run } from "./program.ts";

const golden = new URL("../golden/weights/", import.meta.url).pathname;

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "seer-weights-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs a command that must succeed; what it printed. */
async function succeed(...args: string[]): Promise<string> {
  const { code, output, errors } = await run(args, noGpu);
  assertEquals([code, errors], [0, ""]);
  return output;
}

Deno.test("a VISSL checkpoint is imported, exported to every library and imported again with the same bytes", async () => {
  await withFolder(async (folder) => {
    const imported = `${folder}/seer.safetensors`;
    const output = await succeed("import", `${golden}regnet_vissl.torch`, "--out", imported);
    assertStringIncludes(output, "vissl's names, 86 tensors match");
    for (
      const [format, out] of [["timm", "timm"], ["hf", "hf"], ["torchvision", "a.pth"], ["vissl", "b.torch"], [
        "onnx",
        "c.onnx",
      ]]
    ) {
      await succeed("export", "--weights", imported, "--format", format, "--out", `${folder}/${out}`);
      await succeed("import", `${folder}/${out}`, "--format", format, "--out", `${folder}/${format}.safetensors`);
      const again = await Deno.readFile(`${folder}/${format}.safetensors`);
      // ONNX has no counters of batches, which nothing reads.
      if (format === "onnx") assertEquals((await openWeights(`${folder}/onnx.safetensors`)).tensors.size, 74);
      else assertEquals(again, await Deno.readFile(imported), format);
    }
    const { model_type } = JSON.parse(await Deno.readTextFile(`${folder}/hf/config.json`));
    assertEquals(model_type, "regnet");
  });
});

Deno.test("a run's newest checkpoint is exported with what the library has no place for told", async () => {
  await withFolder(async (folder) => {
    const loaded = await loadConfig({ preset: "test-tiny", overrides: [] });
    const config = { ...loaded, run: { folder, name: "mine" } };
    const path = `${folder}/mine`;
    await Deno.mkdir(path);
    await Deno.writeTextFile(`${path}/run.json`, JSON.stringify({ config }));
    const model = weightsOf(modelSpec(config), { head: config.head.dims, counters: false });
    for (const step of [4, 8]) {
      await new DirectoryStore(path).save({
        runId: "mine",
        step,
        progress: {},
        configDigest: mathsDigest(config),
        createdAt: new Date(0),
        model,
        optimizer: new Map(),
      });
    }
    const output = await succeed("export", "--weights", path, "--format", "timm", "--out", `${folder}/timm`);
    assertStringIncludes(output, "step-000008");
    assertStringIncludes(output, "tensors that timm has no place for: head.0.weight");
    const again = await openWeights(`${folder}/timm`);
    assertEquals(again.tensors.get("trunk.stem.0.weight"), model.get("trunk.stem.0.weight"));
    const { pretrained_cfg } = JSON.parse(await Deno.readTextFile(`${folder}/timm/config.json`));
    assertEquals(pretrained_cfg.input_size[1], Math.max(...config.crops.map(({ size }) => size)));
    const older = await openWeights(`${path}/checkpoints/step-000004`);
    assertEquals(older.config?.run.name, "mine");
    assert(older.tensors.has("prototypes.weight"));
  });
});

Deno.test("wrong options and weights that cannot be used are refused in one line, and nothing is written", async () => {
  await withFolder(async (folder) => {
    const out = `${folder}/out.safetensors`;
    const file = `${golden}regnet_torchvision.pth`;
    const cases: [string[], string[]][] = [
      [["import", file], ["import needs --out FILE"]],
      [["import", "--out", out], ["import needs one file"]],
      [["import", file, "--out", out, "--formt", "timm"], ["no option --formt", "--format?"]],
      [["import", file, "--out", out, "--format", "tim"], ["--format must be seer, torchvision", '"tim"']],
      [["import", file, "--out", out, "--format", "timm"], ["names are torchvision's"]],
      [["import", file, "--out", out, "--network", "regnety_8g"], ['"regnety_8gf"']],
      [["import", file, "--out", out, "--network", "regnety_8gf"], ["missing", "of another shape"]],
      [["import", `${golden}plain_zip.pth`, "--out", out], ["found no stem"]],
      [["import", `${folder}/none`, "--out", out], ["does not exist"]],
      [["import", folder, "--out", out], ["holds no model.safetensors"]],
      [["import", file, "--out", `${folder}/a.onnx`], ["found onnx"]],
      [["export", file, "--format", "onnx", "--out", `${folder}/a`], ["must be onnx; found none"]],
      [["export", file, "--format", "timm", "--out", `${folder}/a.onnx`], ["found onnx"]],
      [["export", "--format", "timm"], ["export needs one run or file"]],
      [["export", file], ["export needs --format"]],
      [["export", file, "--format", "seer"], ["--format must be torchvision, timm, vissl, hf, onnx"]],
    ];
    for (const [args, expected] of cases) assertRefused(await run(args, noGpu), expected);
    assertEquals([...Deno.readDirSync(folder)], []);
    await Deno.writeTextFile(out, "mine");
    assertRefused(await run(["import", file, "--out", out], noGpu), ["it exists"]);
    assertEquals(await Deno.readTextFile(out), "mine");
  });
});
