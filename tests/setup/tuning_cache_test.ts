import { assert, assertEquals, assertMatch } from "@std/assert";
import type { TunedChoice } from "../../device/tuner.ts";
import { TuningCache, tuningIdentity } from "../../setup/tuning_cache.ts";
import { adapter } from "../device/adapter.ts";

const choice: TunedChoice = {
  key: "matmul: 3×4 · 4×5",
  variant: "tile 64x64",
  usual: "tile 128x64",
  medianMs: 1.5,
  usualMs: 3,
  flops: 120,
  digest: "0123456789abcdef",
  skipped: [],
  complete: true,
};

function unasked(): string {
  throw new Error("without an entry no digest is asked for");
}

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "tuning-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("what was tuned is read back, for the same adapter and the same kernels only", async () => {
  await withFolder(async (folder) => {
    const cache = await TuningCache.open(adapter(), { folder });
    assertEquals(cache.size, 0);
    cache.add(choice);
    await cache.save();
    assertEquals([...Deno.readDirSync(folder)].length, 1, "nothing but the file is left");
    const again = await TuningCache.open(adapter(), { folder, log: (line) => assert(false, line) });
    assertEquals(again.file, cache.file);
    const { variant, digest, medianMs, usualMs } = choice;
    assertEquals(again.find(choice.key, () => digest), { variant, digest, medianMs, usualMs });
    assertEquals(again.find(choice.key, () => "other kernels"), undefined);
    assertEquals(again.find("matmul: 9×9 · 9×9", unasked), undefined);
    for (const other of [adapter({ provider: "dawn" }), adapter({ name: "other" }), adapter({ features: ["f16"] })]) {
      const empty = await TuningCache.open(other, { folder });
      assertEquals(empty.size, 0);
      assert(empty.file !== cache.file);
    }
    assert(tuningIdentity(adapter(), "2.0.0") !== tuningIdentity(adapter(), "2.0.1"));
  });
});

Deno.test("a broken file is ignored with a line that names it, and written anew", async () => {
  for (
    const broken of ["{", "[]", '{"format":2,"identity":"","entries":{}}', '{"format":1,"identity":"x","entries":{}}']
  ) {
    await withFolder(async (folder) => {
      const lines: string[] = [];
      const { file } = await TuningCache.open(adapter(), { folder });
      await Deno.writeTextFile(file, broken);
      const cache = await TuningCache.open(adapter(), { folder, log: (line) => lines.push(line) });
      assertEquals(cache.size, 0);
      assertEquals(lines.length, 1, broken);
      assertMatch(lines[0], /^ignoring .*\.json: .*; `deno task tune` writes it anew$/);
      cache.add(choice);
      await cache.save();
      assertEquals((await TuningCache.open(adapter(), { folder, log: (line) => assert(false, line) })).size, 1);
    });
  }
});
