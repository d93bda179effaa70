import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { LabelError } from "../../data/labelled.ts";
import { openEvaluationSet } from "../../evaluate/labelled_set.ts";
import { withFolder } from "../data/images.ts";

function csv(rows: readonly string[]): string {
  return ["path,label,split", ...rows].join("\n");
}

Deno.test("a list's own split is kept", async () => {
  const rows = ["a.png,cat,train", "b.png,dog,train", "c.png,dog,test", "d.png,cat,test"];
  await withFolder({ "set.csv": csv(rows) }, async (path) => {
    const { protocol } = await openEvaluationSet(`${path}/set.csv`);
    assertEquals([protocol.train.ids, protocol.test.ids, protocol.classes], [[0, 1], [2, 3], ["cat", "dog"]]);
    assertEquals([0, 1].map((id) => protocol.labelOf(id)), [0, 1]);
    assertEquals(Array.from(protocol.marksOf?.(1) ?? []), [0, 1]);
  });
});

Deno.test("a list without a split is split within each class by its names", async () => {
  const rows = ["cat", "dog"].flatMap((name) => Array.from({ length: 20 }, (_, i) => `${name}${i}.png,${name},`));
  await withFolder({ "set.csv": csv(rows), "turned.csv": csv(rows.toReversed()) }, async (path) => {
    const tested = async (file: string) => {
      const { protocol, source } = await openEvaluationSet(`${path}/${file}`);
      assertEquals(protocol.train.ids.length, 32);
      return protocol.test.ids.map((id) => source.name(id)).sort();
    };
    const names = await tested("set.csv");
    assertEquals(names.filter((name) => name.startsWith("cat")).length, 4);
    assertEquals(await tested("turned.csv"), names);
  });
});

Deno.test("images of several classes have marks, and no single label", async () => {
  await withFolder({ "set.csv": "path,labels,split\na.png,x;y,train\nb.png,y;x,test\nc.png,,train" }, async (path) => {
    const { protocol } = await openEvaluationSet(`${path}/set.csv`);
    assertEquals([0, 2].map((id) => Array.from(protocol.marksOf?.(id) ?? [])), [[1, 1], [0, 0]]);
    assertThrows(() => protocol.labelOf(0), TypeError, "it may show several classes; use a multi-label protocol");
  });
});

Deno.test("labels that no evaluation can use end in one clear error", async () => {
  const sets = {
    "one.csv": csv(["a.png,cat,train", "b.png,cat,test"]),
    "untested.csv": csv(["a.png,cat,train", "b.png,dog,train", "c.png,cat,test"]),
    "untrained.csv": csv(["a.png,cat,train", "b.png,dog,test", "c.png,cat,test"]),
    "all-train.csv": csv(["a.png,cat,train", "b.png,dog,train"]),
  };
  await withFolder(sets, async (path) => {
    const refused = (name: string, message: string) =>
      assertRejects(() => openEvaluationSet(`${path}/${name}`), LabelError, message);
    await refused("one.csv", "at least 2 classes are needed, found cat");
    await refused("untested.csv", 'class "dog" has no test image');
    await refused("untrained.csv", 'class "dog" has no training image');
    await refused("all-train.csv", "there must be test images, found none");
  });
});

Deno.test("folders of train and val must have the same classes; test is taken before val", async () => {
  const names = ["train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png"];
  await withFolder(Object.fromEntries(names.map((name) => [name, "-"])), async (path) => {
    const first = await openEvaluationSet(path);
    assertEquals([first.protocol.train.name, first.protocol.test.name], ["train", "val"]);
    await Deno.mkdir(`${path}/test/cat`, { recursive: true });
    await Deno.writeTextFile(`${path}/test/cat/3.png`, "-");
    await assertRejects(() => openEvaluationSet(path), Error, '"dog" has no test images');
    await Deno.mkdir(`${path}/test/dog`);
    await Deno.writeTextFile(`${path}/test/dog/3.png`, "-");
    const { protocol } = await openEvaluationSet(path);
    assertEquals(protocol.test.name, "test");
    assert(protocol.train.ids.length === 2 && protocol.test.ids.length === 2);
  });
});
