import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { imageFiles } from "../../api/embed.ts";
import { galleryOf } from "../../api/gallery.ts";
import { npyOf } from "../../api/npy.ts";
import { matrixFrom } from "../../evaluate/matrix.ts";
import { withFolder } from "../data/images.ts";

Deno.test("npyOf() writes NumPy's header, padded to 64 bytes, and little-endian rows", () => {
  const bytes = npyOf(matrixFrom(Float32Array.of(1, 2, 3, 4, 5, -6.5), 3));
  assertEquals([...bytes.subarray(0, 8)], [0x93, 78, 85, 77, 80, 89, 1, 0]);
  const length = 10 + bytes[8] + 256 * bytes[9];
  assertEquals([length % 64, bytes.length - length], [0, 24]);
  const header = new TextDecoder().decode(bytes.subarray(10, length));
  assertStringIncludes(header, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
  assert(header.endsWith("\n"));
  assertEquals([...new Float32Array(bytes.slice(length).buffer)], [1, 2, 3, 4, 5, -6.5]);
});

Deno.test("imageFiles() takes files as they are and folders in order, and names what is missing", async () => {
  await withFolder({ "b.png": "b", "set/z.png": "z", "set/deep/a.jpg": "a", "set/notes.txt": "-" }, async (path) => {
    const found = await imageFiles([`${path}/b.png`, `${path}/set`]);
    assertEquals(found.map((file) => file.slice(path.length)), ["/b.png", "/set/deep/a.jpg", "/set/z.png"]);
    await assertRejects(() => imageFiles([`${path}/c.png`]), Error, "c.png: it does not exist; check the path");
    await assertRejects(() => imageFiles([]), Error, "at least one image");
  });
});

Deno.test("a gallery links images by their files and shows names as text", () => {
  const files = ["/images/a b.png", "/images/<i>.png"];
  const page = galleryOf([{ query: "/q/x&y.png", found: [{ index: 1, similarity: 0.51234 }] }], {
    files,
    title: "Near <b>",
  });
  assertStringIncludes(page, 'src="file:///images/%3Ci%3E.png"');
  assertStringIncludes(page, "<figcaption>0.512</figcaption>");
  assertStringIncludes(page, "Near &lt;b&gt;");
  assert(!page.includes("<i>") && !page.includes("a b.png"));
});
