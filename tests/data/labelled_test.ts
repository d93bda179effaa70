import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { decodeImage } from "../../data/decode.ts";
import { FASHION_MNIST_CLASSES, isIdxFolder, openIdx, readIdx } from "../../data/idx_source.ts";
import { LabelError } from "../../data/labelled.ts";
import { openList } from "../../data/list_source.ts";
import { isVocFolder, openVoc } from "../../data/voc_source.ts";
import { withFolder } from "./images.ts";

const listed = (set: { size: number; name(i: number): string; labelsOf(i: number): readonly number[] }) =>
  Array.from({ length: set.size }, (_, i) => [set.name(i), ...set.labelsOf(i)]);

Deno.test("a CSV names its columns; splits are read; numeric classes are in the order of their numbers", async () => {
  const csv = 'label,path,split\n10,a.png,train\n9,"b, c.png",val\n10,d/e.png,\n';
  await withFolder({ "set.csv": csv, "b, c.png": "pixels" }, async (path) => {
    const set = await openList(`${path}/set.csv`);
    assertEquals([set.labelling, set.classes], ["single", ["9", "10"]]);
    assertEquals(listed(set), [["a.png", 1], ["b, c.png", 0], ["d/e.png", 1]]);
    assertEquals([0, 1, 2].map((i) => set.splitOf(i)), ["train", "test", undefined]);
    assertEquals(new TextDecoder().decode(await set.read(1)), "pixels");
  });
});

Deno.test("a CSV with a column labels has any number of classes per image", async () => {
  await withFolder({ "tags.csv": "path,labels\na.png,dog;cat\nb.png,\nc.png,cat; cat\n" }, async (path) => {
    const set = await openList(`${path}/tags.csv`);
    assertEquals([set.labelling, set.classes], ["multi", ["cat", "dog"]]);
    assertEquals(listed(set), [["a.png", 0, 1], ["b.png"], ["c.png", 0]]);
  });
});

Deno.test("a text list has a path and a class in each line, and may start elsewhere", async () => {
  await withFolder({ "train.txt": "a b.png 1\nc.png\t0\n\n", "images/c.png": "c" }, async (path) => {
    const set = await openList(`${path}/train.txt`, { root: `${path}/images` });
    assertEquals(listed(set), [["a b.png", 1], ["c.png", 0]]);
    assertEquals(new TextDecoder().decode(await set.read(1)), "c");
  });
});

Deno.test("a list that is none ends in one clear error", async () => {
  const files = {
    "head.csv": "file,label\na.png,1\n",
    "cells.csv": "path,label\na.png\n",
    "twice.csv": "path,label\na.png,1\na.png,2\n",
    "split.csv": "path,label,split\na.png,1,holdout\n",
    "unlabelled.csv": "path,label\na.png,\n",
    "one.txt": "a.png\n",
    "empty.csv": "path,label\n",
  };
  await withFolder(files, async (path) => {
    const refused = (name: string, message: string) =>
      assertRejects(() => openList(`${path}/${name}`), LabelError, message);
    await refused("head.csv", "must name the columns path and label (or labels), found file, label");
    await refused("cells.csv", "line 2 must have 2 cells, found 1");
    await refused("twice.csv", '"a.png" is listed twice');
    await refused("split.csv", "line 2: a split must be train, val or test, found holdout");
    await refused("unlabelled.csv", "line 2 has no label");
    await refused("one.txt", 'line 1 must have a path and a class, found "a.png"');
    await refused("empty.csv", "it lists no image");
    await refused("none.csv", "it does not exist; check the path");
  });
});

const voc = {
  "ImageSets/Main/trainval.txt": "000001\n000002\n",
  "ImageSets/Main/test.txt": "000003\n",
  "JPEGImages/000003.jpg": "jpeg",
};

Deno.test("PASCAL VOC: marks come from the files of the classes", async () => {
  const files = {
    ...voc,
    "ImageSets/Main/cat_trainval.txt": "000001  1\n000002 -1\n",
    "ImageSets/Main/dog_trainval.txt": "000001  0\n000002  1\n",
    "ImageSets/Main/cat_test.txt": "000003  1\n",
    "ImageSets/Main/dog_test.txt": "000003  0\n",
  };
  await withFolder(files, async (path) => {
    assertEquals([await isVocFolder(path), await isVocFolder(`${path}/JPEGImages`)], [true, false]);
    const set = await openVoc(path);
    assertEquals([set.labelling, set.classes], ["multi", ["cat", "dog"]]);
    assertEquals([0, 1, 2].map((i) => set.labelsOf(i)), [[0], [1], [0]]);
    assertEquals([0, 1, 2].map((i) => set.difficultOf?.(i)), [[1], [], [1]]);
    assertEquals([0, 1, 2].map((i) => set.splitOf(i)), ["train", "train", "test"]);
    assertEquals(new TextDecoder().decode(await set.read(2)), "jpeg");
  });
});

const annotation = (...objects: readonly [name: string, difficult: 0 | 1][]) =>
  `<annotation><filename>x</filename>${
    objects.map(([name, difficult]) =>
      `<object><name>${name}</name><difficult>${difficult}</difficult><part><name>head</name></part></object>`
    ).join("")
  }</annotation>`;

Deno.test("PASCAL VOC without files of the classes: marks come from the annotations", async () => {
  const files = {
    ...voc,
    "Annotations/000001.xml": annotation(["person", 0], ["person", 1], ["chair", 1]),
    "Annotations/000002.xml": annotation(["chair", 0]),
    "Annotations/000003.xml": annotation(),
  };
  await withFolder(files, async (path) => {
    const set = await openVoc(path);
    assertEquals(set.classes, ["chair", "person"]);
    assertEquals([0, 1, 2].map((i) => [set.labelsOf(i), set.difficultOf?.(i)]), [[[1], [0]], [[0], []], [[], []]]);
    await Deno.remove(`${path}/Annotations/000002.xml`);
    await assertRejects(() => openVoc(path), LabelError, "Annotations/000002.xml is missing");
  });
});

Deno.test("PASCAL VOC refuses an image that trains and tests", async () => {
  await withFolder({ ...voc, "ImageSets/Main/test.txt": "000002\n" }, async (path) => {
    await assertRejects(() => openVoc(path), LabelError, "image 000002 is in trainval.txt and in test.txt");
  });
});

/** An idx file of bytes. */
function idx(shape: readonly number[], bytes: readonly number[]): Uint8Array<ArrayBuffer> {
  const sizes = shape.flatMap((size) => [size >>> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255]);
  return Uint8Array.from([0, 0, 8, shape.length, ...sizes, ...bytes]);
}

async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const idxFiles = async () => ({
  "train-images-idx3-ubyte.gz": await gzip(idx([2, 1, 2], [0, 255, 10, 20])),
  "train-labels-idx1-ubyte.gz": await gzip(idx([2], [9, 3])),
  "t10k-images-idx3-ubyte": idx([1, 1, 2], [7, 8]),
  "t10k-labels-idx1-ubyte": idx([1], [0]),
});

Deno.test("idx files are images with labels and a split, gzipped or not", async () => {
  await withFolder(await idxFiles(), async (path) => {
    assertEquals([await isIdxFolder(path), await isIdxFolder("/")], [true, false]);
    const set = await openIdx(path);
    assertEquals(listed(set), [["train/00000-9", 9], ["train/00001-3", 3], ["test/00000-0", 0]]);
    assertEquals([0, 1, 2].map((i) => set.splitOf(i)), ["train", "train", "test"]);
    assertEquals(set.classes, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    const { width, height, pixels } = await decodeImage(await set.read(0));
    assertEquals([width, height, ...pixels], [2, 1, 0, 0, 0, 255, 255, 255]);
  });
});

Deno.test("a folder called after Fashion-MNIST has its classes' names", async () => {
  const files = Object.fromEntries(Object.entries(await idxFiles()).map(([name, file]) => [`fashion/${name}`, file]));
  await withFolder(files, async (path) => {
    assertEquals((await openIdx(`${path}/fashion`)).classes, FASHION_MNIST_CLASSES);
  });
});

Deno.test("damaged idx files end in one clear error", async () => {
  assertThrows(() => readIdx(idx([2], [1]), { name: "f", rank: 1 }), LabelError, "its head tells 10 bytes, it has 9");
  assertThrows(() => readIdx(idx([1], [1]), { name: "f", rank: 3 }), LabelError, "with 3 dimensions is needed");
  const files = await idxFiles();
  await withFolder({ ...files, "t10k-labels-idx1-ubyte": idx([2], [0, 1]) }, async (path) => {
    await assertRejects(() => openIdx(path), LabelError, "has 1 images, t10k-labels-idx1-ubyte 2 labels");
    await Deno.remove(`${path}/t10k-labels-idx1-ubyte`);
    await assertRejects(() => openIdx(path), LabelError, "t10k-labels-idx1-ubyte.gz is missing");
    await Deno.writeFile(`${path}/train-labels-idx1-ubyte.gz`, new Uint8Array([1, 2, 3]));
    await assertRejects(() => openIdx(path), LabelError, "it is no gzip file");
  });
});
