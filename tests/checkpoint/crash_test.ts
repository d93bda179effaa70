import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { CheckpointError } from "../../checkpoint/error.ts";
import { sha256Hex } from "../../checkpoint/manifest.ts";
import { f32Of, f32Tensor } from "../../checkpoint/safetensors.ts";
import { type Checkpoint, DirectoryStore, type LoadedCheckpoint } from "../../checkpoint/store.ts";
import { SimulatedFiles } from "./simulated_files.ts";

const shares = [0, 0.5, 1];

function checkpointOf(step: number, value: number = step): Checkpoint {
  return {
    runId: "run-1",
    step,
    progress: { cursor: step * 64 },
    configDigest: sha256Hex("config"),
    createdAt: new Date(0),
    model: new Map([["weight", f32Tensor(new Float32Array([value, 1]))]]),
    optimizer: new Map([["weight.momentum", f32Tensor(new Float32Array([-value]))]]),
  };
}

function valueOf({ model, optimizer }: LoadedCheckpoint): number {
  const [weight, momentum] = [model.get("weight"), optimizer.get("weight.momentum")];
  assert(weight !== undefined && momentum !== undefined);
  assertEquals(f32Of(weight)[0], -f32Of(momentum)[0]);
  return f32Of(weight)[0];
}

const open = (files: SimulatedFiles) => new DirectoryStore("run", { keepLast: 2, files });

/** A disk with checkpoints of these steps, all durable. */
async function diskWith(steps: readonly number[]): Promise<SimulatedFiles> {
  const files = new SimulatedFiles();
  await files.makeFolder("run/checkpoints");
  for (const folder of ["run", "run/checkpoints"]) await files.syncFolder(folder);
  files.reopen(1);
  for (const step of steps) await open(files).save(checkpointOf(step));
  files.reopen(1);
  return files;
}

async function assertGoesOn(files: SimulatedFiles): Promise<void> {
  await open(files).save(checkpointOf(9));
  assertEquals(valueOf(await open(files).load("latest")), 9);
  const names = await files.list("run/checkpoints");
  assertEquals(names.filter((name) => !name.startsWith("step-")), ["latest"]);
}

for (
  const [what, next, allowed] of [["new", checkpointOf(3), [2, 3]], ["again", checkpointOf(2, 20), [2, 20]]] as const
) {
  Deno.test(`a power cut at any operation of a save (${what}) and its pruning leaves the old or the new state`, async () => {
    let points = 0;
    for (const share of shares) {
      for (let at = 1, saved = false; !saved; at++, points++) {
        const files = await diskWith([1, 2]);
        files.plan(at);
        saved = await open(files).save(next).then(() => true, () => false);
        files.reopen(share);
        const value = valueOf(await open(files).load("latest"));
        assert(
          (saved ? allowed.slice(1) : allowed).some((one) => one === value),
          `${value} at operation ${at}, share ${share}`,
        );
        await assertGoesOn(files);
      }
    }
    assert(points > 50, `${points} points`);
  });
}

for (const [code, reason] of [["ENOSPC", "the disk is full"], ["EIO", "Input/output error"]] as const) {
  Deno.test(`${code} at any operation is one clear error, the previous state stays, the next save tidies up`, async () => {
    let failures = 0;
    for (let at = 1, saved = false; !saved; at++) {
      const files = await diskWith([1, 2]);
      files.plan(at, code);
      const result = await open(files).save(checkpointOf(3)).then(() => undefined, (error: unknown) => error);
      saved = result === undefined;
      if (!saved) {
        failures++;
        assert(result instanceof CheckpointError);
        assertStringIncludes(result.message, reason);
      }
      files.plan(Infinity);
      assert([2, 3].includes(valueOf(await open(files).load("latest"))));
      await assertGoesOn(files);
    }
    assert(failures > 15, `${failures} failures`);
  });
}

const fileNames = ["model.safetensors", "optimizer.safetensors", "manifest.json"];

Deno.test("every flipped bit of every file is refused with the file's name, and the previous checkpoint loads", async () => {
  const files = await diskWith([1, 2]);
  for (const name of fileNames) {
    const { bytes } = files.file(`run/checkpoints/step-000002/${name}`);
    for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
      bytes[bit >> 3] ^= 1 << (bit & 7);
      const loaded = await open(files).load("latest");
      assertEquals(valueOf(loaded), 1, `${name} bit ${bit}`);
      assertStringIncludes(loaded.notes.join(), name);
      bytes[bit >> 3] ^= 1 << (bit & 7);
    }
  }
  const { bytes } = files.file("run/checkpoints/latest");
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    bytes[bit >> 3] ^= 1 << (bit & 7);
    assertEquals(valueOf(await open(files).load("latest")), 2, `latest bit ${bit}`);
    bytes[bit >> 3] ^= 1 << (bit & 7);
  }
});

Deno.test("a file cut at any length is refused with its name, and the previous checkpoint loads", async () => {
  const files = await diskWith([1, 2]);
  for (const name of fileNames) {
    const node = files.file(`run/checkpoints/step-000002/${name}`);
    const whole = node.bytes;
    for (let length = 0; length < whole.byteLength; length++) {
      node.bytes = whole.slice(0, length);
      const loaded = await open(files).load("latest");
      // Without its closing line break a manifest says all that it said.
      const same = name === "manifest.json" && length === whole.byteLength - 1;
      assertEquals(valueOf(loaded), same ? 2 : 1, `${name} cut to ${length}`);
      if (!same) assertStringIncludes(loaded.notes.join(), name);
    }
    node.bytes = whole;
    await assertRejects(() => open(files).load(7), CheckpointError, "has no step-000007");
  }
});

Deno.test("after any series of saves and power cuts the last finished save or a later one loads", async () => {
  const cut = fc.record({
    at: fc.integer({ min: 1, max: 60 }),
    share: fc.constantFrom(...shares),
    again: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 8 }), async (cuts) => {
      const files = await diskWith([1]);
      let [finished, step] = [1, 1];
      for (const { at, share, again } of cuts) {
        if (!again) step++;
        files.plan(at);
        if (await open(files).save(checkpointOf(step)).then(() => true, () => false)) finished = step;
        files.reopen(share);
        const value = valueOf(await open(files).load("latest"));
        assert(value >= finished && value <= step, `step ${value} loaded, ${finished} was finished, ${step} begun`);
      }
    }),
    { numRuns: 200, seed: 5 },
  );
});
