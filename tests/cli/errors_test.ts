/** Bad input ends in one clear line and a non-zero exit code, before a GPU is looked for wherever that is possible. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { mathsDigest } from "../../actors/run_identity.ts";
import { openSocketNetwork } from "../../actors/runtime/network.ts";
import { f32Tensor } from "../../checkpoint/safetensors.ts";
import { DirectoryStore } from "../../checkpoint/store.ts";
import { loadConfig } from "../../config.ts";
import { makeImages } from "../examples/images.ts";
import { assertRefused, noGpu, run } from "./program.ts";

/** Gives `test` a temporary folder with `images/` (unlabelled), `labelled/`, `empty/` and `broken/`. */
async function withFolders(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "seer-errors-" });
  try {
    await makeImages(`${folder}/images`, { count: 12 });
    await makeImages(`${folder}/labelled`, { count: 12, categories: 2 });
    for (const name of ["empty", "broken"]) await Deno.mkdir(`${folder}/${name}`);
    for (let i = 0; i < 3; i++) await Deno.writeTextFile(`${folder}/broken/${i}.png`, "no image");
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A run's folder with one checkpoint, made without training. */
async function makeRun(folder: string, options: { images: string; digest?: string }): Promise<string> {
  const loaded = await loadConfig({ preset: "test-tiny", overrides: [["data", options.images]] });
  const config = { ...loaded, run: { folder, name: "old" } };
  const path = `${folder}/old`;
  await Deno.mkdir(path);
  await Deno.writeTextFile(`${path}/run.json`, JSON.stringify({ config }));
  await new DirectoryStore(path).save({
    runId: "old",
    step: 4,
    progress: {},
    configDigest: options.digest ?? mathsDigest(config),
    createdAt: new Date(0),
    model: new Map([["a", f32Tensor(new Float32Array(64), [64])]]),
    optimizer: new Map(),
  });
  return path;
}

Deno.test("an unknown command, key or preset names the nearest right one", async () => {
  assertRefused(await run(["pretain"], noGpu), ['there is no command "pretain"', '"pretrain"']);
  const key = await run(["pretrain", "--schedule.learningrate", "1"], noGpu);
  assertRefused(key, ['no key "schedule.learningrate"', '"schedule.learningRate"']);
  assertRefused(await run(["quickstart", "--stpes", "1"], noGpu), ['no key "stpes"', '"steps"']);
  assertRefused(await run(["plan", "--preset", "seer-256"], noGpu), ['preset "seer-256"', '"seer-256gf"']);
  assertRefused(await run(["evaluate", "x", "--dta", "y"], noGpu), ["evaluate has no option --dta"]);
  assertRefused(await run(["pretrain", "--preset"], noGpu), ["--preset needs a value"]);
  const value = await run(["pretrain", "--preset", "test-tiny", "--steps", "many"], noGpu);
  assertRefused(value, ["steps must be", '"many"']);
});

Deno.test("--help prints the commands, for each command too", async () => {
  for (const args of [["--help"], ["pretrain", "--help"], []]) {
    const { code, output } = await run(args, noGpu);
    assertEquals(code, 0);
    for (const text of ["quickstart", "evaluate RUN", "host --join", "plan --preset"]) {
      assertStringIncludes(output, text);
    }
  }
});

Deno.test("images that cannot be used are refused before the GPU is looked for", async () => {
  await withFolders(async (folder) => {
    const pretrain = (data: string, more: string[] = []) =>
      run(["pretrain", "--preset", "test-tiny", "--run.folder", folder, "--data", `${folder}/${data}`, ...more], noGpu);
    assertRefused(await pretrain("missing"), ["/missing", "does not exist"]);
    assertRefused(await pretrain("empty"), ["/empty", "holds no image"]);
    assertRefused(await pretrain("broken"), [
      "/broken",
      "at least one image must be readable",
      "found none in 3 tried",
    ]);
    assertRefused(await pretrain("images/0.png"), ["it is a file"]);
    assertRefused(await pretrain("images", ["--batchPerReplica", "100"]), ["400", "12"]);
    assertRefused(await run(["quickstart", "--data", `${folder}/missing`], noGpu), ["does not exist"]);
    const left = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assertEquals(left, ["broken", "empty", "images", "labelled"], "a refused run leaves no folder");
  });
});

Deno.test("a port in use, a name in use and a name with a slash are refused before the GPU is looked for", async () => {
  await withFolders(async (folder) => {
    const pretrain = (...more: string[]) =>
      run([
        "pretrain",
        "--preset",
        "test-tiny",
        "--run.folder",
        folder,
        "--data",
        `${folder}/images`,
        ...more,
      ], noGpu);
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    assertRefused(await pretrain("--port", String(listener.addr.port)), [
      `127.0.0.1:${listener.addr.port}`,
      "the port is in use",
    ]);
    listener.close();
    assertRefused(await pretrain("--name", "images"), ["/images exists", "--resume"]);
    assertRefused(await pretrain("--name", "a/b"), ["run.name", '"a/b"']);
  });
});

Deno.test("a missing, broken or foreign run is refused before the GPU is looked for", async () => {
  await withFolders(async (folder) => {
    const resume = (...more: string[]) => run(["pretrain", "--resume", ...more], noGpu);
    assertRefused(await resume(`${folder}/nothing`), ["/nothing is no run", "run.json"]);
    assertRefused(await run(["evaluate", `${folder}/nothing`], noGpu), ["/nothing is no run"]);
    assertRefused(await run(["evaluate"], noGpu), ["needs the folder of a run"]);

    const old = await makeRun(folder, { images: `${folder}/images` });
    assertRefused(await resume(old, "--seed", "3"), ["cannot resume", "seed"]);
    assertRefused(await run(["evaluate", old], noGpu), ["one sub-folder per category", "12 images outside"]);

    const weights = `${old}/checkpoints/step-000004/model.safetensors`;
    const bytes = await Deno.readFile(weights);
    bytes[bytes.length - 1] ^= 1;
    await Deno.writeFile(weights, bytes);
    assertRefused(await resume(old), ["none of 1 is intact", "does not match its SHA-256"]);
    await Deno.writeTextFile(`${old}/run.json`, "{");
    assertRefused(await resume(old), ["run.json", "damaged"]);
    await Deno.remove(old, { recursive: true });

    const foreign = await makeRun(folder, { images: `${folder}/images`, digest: "0".repeat(64) });
    assertRefused(await resume(foreign), ["belongs to another run"]);
    await Deno.remove(`${foreign}/checkpoints`, { recursive: true });
    assertRefused(await resume(foreign), ["has none"]);
  });
});

Deno.test("a host is refused with a wrong token, at a wrong address, and without either", async () => {
  const opened = openSocketNetwork({ id: "controller", token: "right", listen: { hostname: "127.0.0.1", port: 0 } });
  const lost: string[] = [];
  opened.network.onMessage = () => {};
  opened.network.onPeerDown = (peer) => lost.push(peer);
  const url = opened.url ?? "";
  try {
    assertRefused(await run(["host", "--join", url], { SEER_TOKEN: "wrong" }), ["the token was refused"]);
    assertEquals(lost, [], "the controller does not notice");
  } finally {
    await opened.close("the test is over");
  }
  assertRefused(await run(["host", "--join", url], { SEER_TOKEN: "right" }), ["nobody listens there"]);
  assertRefused(await run(["host", "--join", url], noGpu), ["--token-file FILE"]);
  assertRefused(await run(["host", "--join", url, "--token", "x"], noGpu), ["other users", "--token-file"]);
  assertRefused(await run(["host", "--join", "10.0.0.5:1"], { ...noGpu, SEER_TOKEN: "x" }), ["ws://"]);
});

Deno.test("an adapter that is too small is refused with what does not fit, and no run is left behind", async () => {
  await withFolders(async (folder) => {
    const args = ["pretrain", "--preset", "test-tiny", "--run.folder", folder, "--data", `${folder}/images`];
    const refused = await run([...args, "--name", "big", "--prototypes.count", "900000000"]);
    assertRefused(refused, ["is too small", "prototypes.weight needs a buffer of", "lower prototypes.count"]);
    assertEquals(await Deno.stat(`${folder}/big`).then(() => true, () => false), false);
  });
});

Deno.test("evaluate by a protocol refuses what it cannot use before a GPU is looked for", async () => {
  await withFolders(async (folder) => {
    const images = `${folder}/labelled`;
    const weights = "tests/golden/weights/regnet_torchvision.pth";
    const refused = async (args: readonly string[], expected: readonly string[]) =>
      assertRefused(await run(["evaluate", ...args], noGpu), expected);
    await refused(["kn", "--weights", weights, "--data", images], ['no protocol "kn"', '"knn"', "low-shot-svm"]);
    await refused(["knn", "--weights", weights], ["a protocol needs --data"]);
    await refused(["knn", "--weight", weights, "--data", images], ["no option --weight", "--weights"]);
    await refused(["knn", "--weights", weights, "--data", `${folder}/images`], ["one sub-folder per category"]);
    await refused(["knn", "--weights", `${folder}/none.pth`, "--data", images], ["does not exist"]);
    await refused(["low-shot", "--weights", weights, "--data", images, "--share", "2"], ['--share cannot be "2"']);
    await refused(["low-shot", "--weights", weights, "--data", images, "--per-class", "99"], ["images per class"]);
    await Deno.writeTextFile(`${folder}/tags.csv`, "path,labels\na.png,x;y\nb.png,y\nc.png,x;y\nd.png,x;y\n");
    await refused(["knn", "--weights", weights, "--data", `${folder}/tags.csv`], ["it needs one class per image"]);
  });
});
