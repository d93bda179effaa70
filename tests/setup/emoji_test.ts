import { assert, assertEquals } from "@std/assert";
import sharp from "sharp";
import { openFolder } from "../../data/folder_source.ts";
import { emojiName, renderEmoji } from "../../setup/emoji.ts";

Deno.test("renderEmoji() renders both sets once, on white, without skin tones, with names that match", async () => {
  const directory = await Deno.makeTempDir({ prefix: "seer-test-" });
  try {
    const seen: number[] = [];
    const options = { directory, pixels: 32, imagesPerSetMax: 12, progress: (done: number) => void seen.push(done) };
    const first = await renderEmoji(options);
    assertEquals([first.rendered, first.sets.twemoji.images, first.sets.noto.images], [true, 12, 12]);
    assertEquals(seen.at(-1), 24);
    assertEquals(first.path, `${directory}/emoji-32px-v1`);
    assertEquals(Array.from(Deno.readDirSync(directory), (entry) => entry.name), ["emoji-32px-v1"]);

    const sets = await Promise.all([openFolder(first.sets.twemoji.path), openFolder(first.sets.noto.path)]);
    const [twemoji, noto] = sets.map((source) => Array.from({ length: source.size }, (_, i) => source.name(i)));
    assertEquals(twemoji.map(emojiName), noto.map(emojiName));
    assert(twemoji.every((name) => !name.includes("skin-tone")));
    const { width, height, channels } = await sharp(await sets[0].read(0)).metadata();
    assertEquals([width, height, channels], [32, 32, 3]);
    const corners = await Promise.all(
      twemoji.map(async (_, i) => (await sharp(await sets[0].read(i)).raw().toBuffer())[0]),
    );
    assert(corners.filter((red) => red === 255).length > 6, `red of the corners: ${corners}`);
    const readme = await Deno.readTextFile(`${first.path}/README.txt`);
    assert(readme.includes("CC BY 4.0") && readme.includes("Apache License 2.0"));

    const second = await renderEmoji(options);
    assertEquals(second, { ...first, rendered: false });
    assertEquals(seen.length, 24);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("renderEmoji() leaves nothing behind when it is interrupted", async () => {
  const directory = await Deno.makeTempDir({ prefix: "seer-test-" });
  try {
    const failing = renderEmoji({
      directory,
      pixels: 16,
      imagesPerSetMax: 4,
      progress: () => {
        throw new Error("interrupted");
      },
    });
    assertEquals(await failing.then(() => "rendered", (error: Error) => error.message), "interrupted");
    assertEquals(Array.from(Deno.readDirSync(directory), (entry) => entry.name), []);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
