import { assert, assertEquals, assertRejects } from "@std/assert";
import sharp from "sharp";
import { decodeImage } from "../../data/decode.ts";
import { UnreadableImageError } from "../../data/source.ts";
import { flatPng } from "./images.ts";

/** An image with noise, which no encoder makes small. */
async function noise(width: number, height: number) {
  let state = 1;
  const pixels = Uint8Array.from(
    { length: width * height * 3 },
    () => (state = (state * 48_271) % 2_147_483_647) & 255,
  );
  return await Promise.resolve(sharp(pixels, { raw: { width, height, channels: 3 } }));
}

Deno.test("decodeImage() gives RGB rows from the top", async () => {
  const pixels = Uint8Array.from({ length: 2 * 3 * 3 }, (_, i) => i * 10);
  const png = await sharp(pixels, { raw: { width: 3, height: 2, channels: 3 } }).png().toBuffer();
  const image = await decodeImage(png);
  assertEquals([image.width, image.height], [3, 2]);
  assertEquals([...image.pixels], [...pixels]);
});

Deno.test("decodeImage() lays transparency over the background", async () => {
  const half = Uint8Array.from([200, 100, 0, 0, 200, 100, 0, 255]);
  const png = await sharp(half, { raw: { width: 2, height: 1, channels: 4 } }).png().toBuffer();
  assertEquals([...(await decodeImage(png)).pixels], [255, 255, 255, 200, 100, 0]);
  const onBlue = await decodeImage(png, { background: [0, 0, 255] });
  assertEquals([...onBlue.pixels], [0, 0, 255, 200, 100, 0]);
});

Deno.test("decodeImage() makes RGB of gray, palette, 16-bit and CMYK images", async () => {
  const flat = await flatPng({ width: 8, height: 8, colour: [90, 90, 90] });
  const variants = {
    gray: await sharp(flat).toColourspace("b-w").png().toBuffer(),
    palette: await sharp(flat).png({ palette: true }).toBuffer(),
    deep: await sharp(flat).toColourspace("rgb16").png().toBuffer(),
    cmyk: await sharp(flat).toColourspace("cmyk").jpeg({ quality: 100 }).toBuffer(),
  };
  for (const [name, bytes] of Object.entries(variants)) {
    const { pixels } = await decodeImage(bytes);
    assertEquals(pixels.length, 8 * 8 * 3, name);
    const tolerance = name === "cmyk" ? 16 : 2; // the way to ink and back costs a little
    assert(pixels.every((value) => Math.abs(value - 90) <= tolerance), `${name}: ${pixels.slice(0, 3)}`);
  }
});

Deno.test("decodeImage() turns the image as EXIF says", async () => {
  const jpeg = await sharp(await flatPng({ width: 20, height: 10, colour: [1, 2, 3] })).withMetadata({ orientation: 6 })
    .jpeg().toBuffer();
  const image = await decodeImage(jpeg);
  assertEquals([image.width, image.height], [10, 20]);
});

Deno.test("decodeImage() shrinks a large image and leaves a small one", async () => {
  const large = await (await noise(400, 200)).jpeg().toBuffer();
  const image = await decodeImage(large, { sideMax: 100 });
  assertEquals([image.width, image.height, image.pixels.length], [100, 50, 15_000]);
  const small = await decodeImage(await flatPng({ width: 30, height: 20, colour: [0, 0, 0] }), { sideMax: 100 });
  assertEquals([small.width, small.height], [30, 20]);
});

Deno.test("decodeImage() refuses too many pixels from the header alone", async () => {
  const png = await flatPng({ width: 300, height: 300, colour: [0, 0, 0] });
  await assertRejects(
    () => decodeImage(png, { name: "big.png", pixelsMax: 80_000 }),
    UnreadableImageError,
    'Cannot read image "big.png": Input image exceeds pixel limit',
  );
});

Deno.test("decodeImage() refuses what is cut short or no image", async () => {
  const jpeg = await (await noise(64, 64)).jpeg().toBuffer();
  const png = await (await noise(64, 64)).png().toBuffer();
  await assertRejects(() => decodeImage(jpeg.subarray(0, jpeg.length / 2), { name: "half.jpg" }), UnreadableImageError);
  await assertRejects(() => decodeImage(png.subarray(0, png.length / 2), { name: "half.png" }), UnreadableImageError);
  await assertRejects(() => decodeImage(new TextEncoder().encode("no image")), UnreadableImageError);
  await assertRejects(() => decodeImage(new Uint8Array(0)), UnreadableImageError);
});

Deno.test("decodeImage() survives mutated files with an image or an UnreadableImageError", async () => {
  const files = [await (await noise(24, 24)).jpeg().toBuffer(), await (await noise(24, 24)).png().toBuffer()];
  let state = 7;
  const random = (below: number): number => (state = (state * 48_271) % 2_147_483_647) % below;
  let refused = 0;
  for (let trial = 0; trial < 200; trial++) {
    const bytes = new Uint8Array(files[trial % files.length]);
    for (let change = 0; change < 1 + trial % 8; change++) bytes[random(bytes.length)] = random(256);
    try {
      const { pixels, width, height } = await decodeImage(bytes, { pixelsMax: 1_000_000 });
      assertEquals(pixels.length, width * height * 3);
    } catch (error) {
      assert(error instanceof UnreadableImageError, String(error));
      refused++;
    }
  }
  assert(refused > 20, `only ${refused} of 200 were refused`);
});
