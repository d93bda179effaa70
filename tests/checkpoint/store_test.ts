import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CheckpointError } from "../../checkpoint/error.ts";
import { diskFiles, type Files } from "../../checkpoint/files.ts";
import { sha256Hex } from "../../checkpoint/manifest.ts";
import { f32Of, f32Tensor } from "../../checkpoint/safetensors.ts";
import { type Checkpoint, DirectoryStore, type LoadedCheckpoint, stepName } from "../../checkpoint/store.ts";

function checkpointOf(step: number, value: number = step): Checkpoint {
  return {
    runId: "run-1",
    step,
    progress: { epoch: 0, cursor: step * 64 },
    configDigest: sha256Hex("config"),
    createdAt: new Date(0),
    model: new Map([["weight", f32Tensor(new Float32Array([value, 1, 2, 3]), [2, 2])]]),
    optimizer: new Map([["weight.momentum", f32Tensor(new Float32Array([-value]))]]),
  };
}

/** The number that {@linkcode checkpointOf} put into the tensors, after checking that both files agree. */
function valueOf(loaded: LoadedCheckpoint): number {
  const [model, optimizer] = [loaded.model.get("weight"), loaded.optimizer.get("weight.momentum")];
  assert(model !== undefined && optimizer !== undefined);
  assertEquals(f32Of(model)[0], -f32Of(optimizer)[0]);
  return f32Of(model)[0];
}

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Changes one file of a checkpoint. */
async function damage(file: string, change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array): Promise<void> {
  await Deno.writeFile(file, change(await Deno.readFile(file)));
}

Deno.test("load() gives back what save() took, by step and as latest", async () => {
  await withFolder(async (folder) => {
    const store = new DirectoryStore(folder);
    const saved = await store.save(checkpointOf(123));
    assertEquals(saved.folder, `${folder}/checkpoints/step-000123`);
    assertEquals(await Deno.readTextFile(`${folder}/checkpoints/latest`), "step-000123\n");
    for (const which of [123, "latest"] as const) {
      const loaded = await new DirectoryStore(folder).load(which);
      assertEquals([valueOf(loaded), loaded.notes, loaded.manifest], [123, [], saved.manifest]);
      assertEquals(loaded.manifest.progress, { epoch: 0, cursor: 123 * 64 });
    }
    const model = await Deno.readFile(`${folder}/checkpoints/step-000123/model.safetensors`);
    assertEquals(saved.manifest.files["model.safetensors"].sha256, sha256Hex(model));
  });
});

Deno.test("save() keeps the newest N and removes the rest", async () => {
  await withFolder(async (folder) => {
    const store = new DirectoryStore(folder, { keepLast: 2 });
    for (const step of [1, 2, 10, 1_000_000]) await store.save(checkpointOf(step));
    assertEquals(await store.steps(), [10, 1_000_000]);
    assertEquals(valueOf(await store.load("latest")), 1_000_000);
    const names = [...Deno.readDirSync(`${folder}/checkpoints`)].map((entry) => entry.name).sort();
    assertEquals(names, ["latest", "step-000010", "step-1000000"]);
  });
});

Deno.test("saving a step again replaces it", async () => {
  await withFolder(async (folder) => {
    const store = new DirectoryStore(folder);
    await store.save(checkpointOf(5, 1));
    await store.save(checkpointOf(5, 2));
    assertEquals(await store.steps(), [5]);
    assertEquals(valueOf(await store.load(5)), 2);
  });
});

Deno.test("after any damage to the latest checkpoint, load() takes the one before and says why", async () => {
  const files = ["model.safetensors", "optimizer.safetensors", "manifest.json"];
  await withFolder(async (folder) => {
    for (const file of files) {
      const path = `${folder}/checkpoints/step-000002/${file}`;
      const flip = (at: (length: number) => number) => (bytes: Uint8Array<ArrayBuffer>) => {
        bytes[at(bytes.length)] ^= 0x10;
        return bytes;
      };
      const damages: [string, () => Promise<void>][] = [
        ["first byte", () => damage(path, flip(() => 0))],
        ["middle byte", () => damage(path, flip((length) => length >> 1))],
        ["last byte but one", () => damage(path, flip((length) => length - 2))],
        ["cut", () => damage(path, (bytes) => bytes.slice(0, -2))],
        ["emptied", () => damage(path, () => new Uint8Array())],
        ["extended", () => damage(path, (bytes) => new Uint8Array([...bytes, 65]))],
        ["removed", () => Deno.remove(path)],
      ];
      for (const [what, apply] of damages) {
        const store = new DirectoryStore(folder);
        await store.save(checkpointOf(1));
        await store.save(checkpointOf(2));
        await apply();
        const loaded = await store.load("latest");
        assertEquals(valueOf(loaded), 1, `${file} ${what}`);
        assertStringIncludes(loaded.notes.join(), "step-000002 is not usable");
        await assertRejects(() => store.load(2), CheckpointError, "step-000002 is not usable");
      }
    }
  });
});

Deno.test("swapped files, swapped folders and a wrong latest are noticed", async () => {
  await withFolder(async (folder) => {
    const store = new DirectoryStore(folder);
    for (const step of [1, 2, 3]) await store.save(checkpointOf(step));
    const checkpoints = `${folder}/checkpoints`;
    await Deno.copyFile(`${checkpoints}/step-000001/model.safetensors`, `${checkpoints}/step-000003/model.safetensors`);
    await assertRejects(() => store.load(3), CheckpointError, "does not match its SHA-256");
    await Deno.rename(`${checkpoints}/step-000002`, `${checkpoints}/step-000007`);
    await assertRejects(() => store.load(7), CheckpointError, "manifest.json is of step 2");
    await Deno.writeTextFile(`${checkpoints}/latest`, "../../etc\n");
    const loaded = await store.load("latest");
    assertEquals(valueOf(loaded), 1);
    assertStringIncludes(loaded.notes.join(), "the file latest names no checkpoint");
  });
});

Deno.test("a folder without checkpoints, a missing step, and nothing intact are one clear error each", async () => {
  await withFolder(async (folder) => {
    const store = new DirectoryStore(folder);
    await assertRejects(() => store.load("latest"), CheckpointError, "has none");
    await store.save(checkpointOf(1));
    await assertRejects(() => store.load(4), CheckpointError, "has no step-000004");
    await Deno.remove(`${folder}/checkpoints/step-000001/manifest.json`);
    await assertRejects(() => store.load("latest"), CheckpointError, "none of 1 is intact");
    await Deno.writeTextFile(`${folder}/checkpoints/step-000001/manifest.json`, '{"format":"pytorch"}');
    await assertRejects(() => store.load("latest"), CheckpointError, "format pytorch, this program reads 1");
  });
});

/** Files on disk that stop working at the n-th change, as if the process had been killed before, in or after it. */
class KillableFiles implements Files {
  changes = 0;

  constructor(private readonly killAt: number, private readonly moment: "before" | "torn" | "after") {}

  makeFolder = (path: string) => this.#change(() => diskFiles.makeFolder(path));
  rename = (from: string, to: string) => this.#change(() => diskFiles.rename(from, to));
  syncFolder = (path: string) => this.#change(() => diskFiles.syncFolder(path));
  readFile = (path: string) => diskFiles.readFile(path);
  list = (path: string) => diskFiles.list(path);
  remove = (path: string) =>
    this.#change(() => diskFiles.remove(path), async () => {
      const names = await diskFiles.list(path).catch(() => []);
      if (names.length > 0) await diskFiles.remove(`${path}/${names[0]}`);
    });
  writeFile: Files["writeFile"] = (path, pieces) =>
    this.#change(() => diskFiles.writeFile(path, pieces), async () => {
      const [first] = pieces;
      await diskFiles.writeFile(path, [first.slice(0, first.byteLength >> 1)]);
    });

  async #change<T>(action: () => Promise<T>, torn?: () => Promise<void>): Promise<T> {
    if (++this.changes !== this.killAt) {
      if (this.changes > this.killAt) throw new Error("killed");
      return await action();
    }
    if (this.moment === "torn") await torn?.();
    if (this.moment === "after") await action();
    throw new Error("killed");
  }
}

async function killEverywhere(next: Checkpoint, check: (folder: string) => Promise<void>): Promise<number> {
  let points = 0;
  for (const moment of ["before", "torn", "after"] as const) {
    for (let killAt = 1;; killAt++) {
      const folder = await Deno.makeTempDir();
      const before = new DirectoryStore(folder, { keepLast: 2 });
      for (const step of [1, 2]) await before.save(checkpointOf(step));
      const files = new KillableFiles(killAt, moment);
      const finished = await new DirectoryStore(folder, { keepLast: 2, files }).save(next).then(
        () => true,
        () => false,
      );
      await check(folder);
      // Whatever was left behind, the next save works and tidies up.
      const after = new DirectoryStore(folder, { keepLast: 2 });
      await after.save(checkpointOf(9));
      assertEquals(valueOf(await after.load("latest")), 9);
      const names = await diskFiles.list(`${folder}/checkpoints`);
      assertEquals(names.filter((name) => !name.startsWith("step-")), ["latest"]);
      await Deno.remove(folder, { recursive: true });
      if (finished) break;
      points++;
    }
  }
  return points;
}

Deno.test("a writer killed at any point leaves the old or the new checkpoint as latest, whole", async () => {
  const points = await killEverywhere(checkpointOf(3), async (folder) => {
    const loaded = await new DirectoryStore(folder).load("latest");
    assert([2, 3].includes(valueOf(loaded)));
    assertEquals(loaded.manifest.step, valueOf(loaded));
  });
  assert(points > 25, `${points} kill points`);
});

Deno.test("a writer killed while it replaces a step leaves the old or the new one, whole", async () => {
  await killEverywhere(checkpointOf(2, 20), async (folder) => {
    const loaded = await new DirectoryStore(folder).load("latest");
    assert([2, 20].includes(valueOf(loaded)));
    assertEquals(loaded.manifest.step, 2);
  });
});

Deno.test("a full disk is one clear error and leaves earlier checkpoints", async () => {
  await withFolder(async (folder) => {
    await new DirectoryStore(folder).save(checkpointOf(1));
    const writeFile: Files["writeFile"] = () => {
      throw Object.assign(new Error("No space left on device (os error 28)"), { code: "ENOSPC" });
    };
    const store = new DirectoryStore(folder, { files: { ...diskFiles, writeFile } });
    await assertRejects(() => store.save(checkpointOf(2)), CheckpointError, "the disk is full");
    assertEquals(valueOf(await store.load("latest")), 1);
  });
});

Deno.test("stepName() pads to six digits and sorts beyond", () => {
  assertEquals([stepName(0), stepName(123), stepName(1_234_567)], ["step-000000", "step-000123", "step-1234567"]);
});
