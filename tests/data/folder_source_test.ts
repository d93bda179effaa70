import { assertEquals, assertRejects } from "@std/assert";
import { openFolder } from "../../data/folder_source.ts";
import { UnreadableImageError } from "../../data/source.ts";
import { withFolder } from "./images.ts";

Deno.test("openFolder() lists images of all sub-folders in a fixed order, with the first sub-folder as label", async () => {
  const files = {
    "dog/b.JPG": "b",
    "cat/deep/a.png": "a",
    "cat/z.webp": "z",
    "top.jpeg": "t",
    "dog/notes.txt": "-",
    ".hidden/x.png": "-",
    "cat/.x.png": "-",
  };
  await withFolder(files, async (path) => {
    const source = await openFolder(path);
    const names = Array.from({ length: source.size }, (_, i) => source.name(i));
    assertEquals(names, ["cat/deep/a.png", "cat/z.webp", "dog/b.JPG", "top.jpeg"]);
    assertEquals(source.classes, ["", "cat", "dog"]);
    assertEquals(names.map((_, i) => source.classes[source.label(i)]), ["cat", "cat", "dog", ""]);
    assertEquals(new TextDecoder().decode(await source.read(2)), "b");
  });
});

Deno.test("openFolder() follows links and is not caught in a loop of them", async () => {
  await withFolder({ "real/a.png": "a", "other/b.png": "b" }, async (path) => {
    await Deno.symlink(`${path}/other`, `${path}/real/linked`);
    await Deno.symlink(`${path}/real`, `${path}/real/loop`);
    await Deno.symlink(`${path}/nowhere.png`, `${path}/real/dangling.png`);
    const source = await openFolder(`${path}/real`);
    assertEquals([source.name(0), source.name(1), source.size], ["a.png", "linked/b.png", 2]);
  });
});

Deno.test("openFolder() says what is wrong with a missing folder, a file and a folder without images", async () => {
  await withFolder({ "notes.txt": "-" }, async (path) => {
    await assertRejects(() => openFolder(`${path}/none`), Error, `none": it does not exist; check the path`);
    await assertRejects(() => openFolder(`${path}/notes.txt`), Error, "it is a file; give the folder that holds it");
    await assertRejects(() => openFolder(path), Error, "it holds no image; files ending in avif, gif");
  });
});

Deno.test("read() reports a vanished or oversized file as one unreadable image", async () => {
  await withFolder({ "a.png": "a", "b.png": "bbbbbb" }, async (path) => {
    const source = await openFolder(path, { fileBytesMax: 5 });
    await Deno.remove(`${path}/a.png`);
    await assertRejects(() => source.read(0), UnreadableImageError, 'Cannot read image "a.png": the file is gone');
    await assertRejects(() => source.read(1), UnreadableImageError, "the file has 6 bytes, more than 5");
  });
});
