/** Folders and links where files should be, paths that lead out, and file systems that take no more: on a real disk. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CheckpointError } from "../../checkpoint/error.ts";
import { f32Tensor } from "../../checkpoint/safetensors.ts";
import { DirectoryStore, stepName } from "../../checkpoint/store.ts";

const checkpoint = (step: number, size = 3) => ({
  runId: "run",
  step,
  progress: {},
  configDigest: "c".repeat(64),
  createdAt: new Date(0),
  model: new Map([["w", f32Tensor(new Float32Array(size).fill(step), [size])]]),
  optimizer: new Map(),
});

/** A run with the checkpoints of steps 1 and 2. */
async function withStore(
  test: (place: { store: DirectoryStore; folder: string; outside: string }) => Promise<void>,
): Promise<void> {
  const outside = await Deno.makeTempDir({ prefix: "odd-files-" });
  try {
    const store = new DirectoryStore(`${outside}/run`);
    await store.save(checkpoint(1));
    await store.save(checkpoint(2));
    await test({ store, folder: `${outside}/run/checkpoints`, outside });
  } finally {
    await Deno.remove(outside, { recursive: true });
  }
}

for (const name of ["model.safetensors", "optimizer.safetensors", "manifest.json"]) {
  Deno.test(`a folder where ${name} should be, or a link to nothing, makes a checkpoint unusable, and the one before is taken`, async () => {
    await withStore(async ({ store, folder }) => {
      const path = `${folder}/${stepName(2)}/${name}`;
      const odd = [() => Deno.mkdir(path), () => Deno.symlink("/nowhere/at/all", path)];
      for (const make of odd) {
        await Deno.remove(path);
        await make();
        await assertRejects(() => store.load(2), CheckpointError, name);
        const loaded = await store.load("latest");
        assertEquals([loaded.manifest.step, loaded.notes.length], [1, 1]);
        assertStringIncludes(loaded.notes[0], name);
      }
      // It is written over like any other.
      await store.save(checkpoint(2));
      assertEquals((await store.load("latest")).manifest.step, 2);
    });
  });
}

Deno.test("a folder where the file latest should be is told, and the newest checkpoint is taken", async () => {
  await withStore(async ({ store, folder }) => {
    await Deno.remove(`${folder}/latest`);
    await Deno.mkdir(`${folder}/latest`);
    const loaded = await store.load("latest");
    assertEquals(loaded.manifest.step, 2);
    assertStringIncludes(loaded.notes.join(), "the file latest cannot be read");
    await assertRejects(() => store.save(checkpoint(3)), CheckpointError, "saving step 3");
    assertEquals((await store.load(3)).manifest.step, 3, "what was renamed before is whole");
  });
});

Deno.test("a file where a checkpoint's folder should be is passed over", async () => {
  await withStore(async ({ store, folder }) => {
    await Deno.writeTextFile(`${folder}/${stepName(9)}`, "no folder");
    await Deno.writeTextFile(`${folder}/latest`, `${stepName(9)}\n`);
    const loaded = await store.load("latest");
    assertEquals([loaded.manifest.step, loaded.notes.length], [2, 1]);
    assertEquals((await store.save(checkpoint(9))).manifest.step, 9);
    assertEquals((await store.load("latest")).manifest.step, 9);
  });
});

Deno.test("links to checkpoints elsewhere are read, and what they point at is never written to or removed", async () => {
  await withStore(async ({ folder, outside }) => {
    for (const step of [1, 2]) {
      await Deno.rename(`${folder}/${stepName(step)}`, `${outside}/${step}`);
      await Deno.symlink(`${outside}/${step}`, `${folder}/${stepName(step)}`);
    }
    const store = new DirectoryStore(`${outside}/run`, { keepLast: 1 });
    assertEquals((await store.load("latest")).manifest.step, 2);
    await store.save(checkpoint(2));
    await store.save(checkpoint(3));
    assertEquals(await store.steps(), [3]);
    for (const step of [1, 2]) {
      const names = [...Deno.readDirSync(`${outside}/${step}`)].map(({ name }) => name).sort();
      assertEquals(names, ["manifest.json", "model.safetensors", "optimizer.safetensors"]);
    }
  });
});

Deno.test("a manifest or latest that names files outside of its folder is refused", async () => {
  await withStore(async ({ store, folder, outside }) => {
    await Deno.copyFile(`${folder}/${stepName(2)}/model.safetensors`, `${outside}/stolen`);
    const path = `${folder}/${stepName(2)}/manifest.json`;
    const text = await Deno.readTextFile(path);
    await Deno.writeTextFile(path, text.replaceAll("model.safetensors", "../../../stolen"));
    await assertRejects(() => store.load(2), CheckpointError, "manifest");
    for (const name of ["../../../elsewhere", "/etc", "step-000001/../../..", "step-000001\n/etc"]) {
      await Deno.writeTextFile(`${folder}/latest`, name);
      const loaded = await store.load("latest");
      assertEquals(loaded.manifest.step, 1);
      assertStringIncludes(loaded.notes[0], "the file latest names no checkpoint");
    }
  });
});

/** Whether a file system can be mounted here, in a namespace of one's own. */
function mayMount(): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    const args = ["--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"];
    return new Deno.Command("unshare", { args, stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

/** Saves steps 3 of 256 KiB in a process of its own, after the shell's `before`; what it printed. */
async function saveElsewhere(folder: string, { before, namespace }: { before: string; namespace: boolean }) {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const program = `
    import { DirectoryStore } from ${url("../../checkpoint/store.ts")};
    import { f32Tensor } from ${url("../../checkpoint/safetensors.ts")};
    const model = new Map([["w", f32Tensor(new Float32Array(65_536), [65_536])]]);
    const state = { runId: "run", step: 3, progress: {}, configDigest: "c".repeat(64), createdAt: new Date(0) };
    const store = new DirectoryStore(${JSON.stringify(`${folder}/run`)});
    console.log(await store.save({ ...state, model, optimizer: new Map() }).then(() => "saved", (error) => error.name + " " + error.message));
    console.log((await store.load("latest")).manifest.step);`;
  await Deno.writeTextFile(`${folder}/save.ts`, program);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const deno = [Deno.execPath(), "run", "-A", "--no-check", "--config", config, `${folder}/save.ts`];
  const shell = ["sh", "-c", `${before} && exec "$@"`, "sh", ...deno];
  const [command, ...args] = namespace ? ["unshare", "--user", "--map-root-user", "--mount", ...shell] : shell;
  const { stdout, stderr } = await new Deno.Command(command, { args, stdout: "piped", stderr: "piped" }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

/** What the shell does before, with `$PLACE` for the checkpoints' folder, whether in a namespace, and the reason. */
const limits: readonly (readonly [name: string, before: string, namespace: boolean, reason: string])[] = [
  ["files may not grow further", "trap '' XFSZ && ulimit -f 128", false, "File too large"],
  [
    "the file system is read-only",
    "mount --bind $PLACE $PLACE && mount -o remount,ro,bind $PLACE",
    true,
    "Read-only file system",
  ],
  [
    "the disk is full",
    "cp -r $PLACE $PLACE.kept && mount -t tmpfs -o size=128k tmpfs $PLACE && cp -r $PLACE.kept/. $PLACE",
    true,
    "the disk is full",
  ],
];

for (const [name, before, namespace, reason] of limits) {
  Deno.test({
    name: `when ${name}, saving is one error that says so, and the earlier checkpoint is taken`,
    ignore: Deno.build.os !== "linux" || namespace && !mayMount(),
    async fn() {
      await withStore(async ({ outside, folder }) => {
        const output = await saveElsewhere(outside, { before: before.replaceAll("$PLACE", folder), namespace });
        const [first, second] = output.split("\n");
        assert(first.startsWith("CheckpointError saving step 3 under "), output);
        assertStringIncludes(first, reason);
        assertEquals(second, "2", output);
      });
    },
  });
}
