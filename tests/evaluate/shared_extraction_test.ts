import { assert, assertEquals, assertRejects } from "@std/assert";
import sharp from "sharp";
import { type ImageSource, UnreadableImageError } from "../../data/source.ts";
import { extractFeatures, extractReadable, moduleEmbedding, openImages } from "../../evaluate/features.ts";
import { matrixFrom } from "../../evaluate/matrix.ts";
import { chunksOfIds, type ExtractWorker, shareExtraction } from "../../evaluate/shared_extraction.ts";
import { regnetY } from "../../nn/regnet.ts";
import { eachDevice } from "../devices.ts";

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** One feature an image: its number. */
const counting = (name: string, taken: string[] = []): ExtractWorker => ({
  name,
  extract(ids) {
    taken.push(name);
    return Promise.resolve({ features: matrixFrom(Float32Array.from(ids), 1), ids });
  },
});

Deno.test("chunks are whole batches in order, whatever the number of workers", () => {
  for (const [count, workers] of [[1, 3], [64, 1], [65, 2], [1000, 3], [10_000, 7]]) {
    const chunks = chunksOfIds(range(count), { batch: 64, workers });
    assertEquals(chunks.flat(), range(count));
    assert(chunks.slice(0, -1).every((chunk) => chunk.length % 64 === 0 && chunk.length <= 512));
  }
});

Deno.test("a worker that fails is told, one that is silent is not waited for, and the order stays", async () => {
  const told: string[] = [];
  let calls = 0;
  const flaky: ExtractWorker = {
    name: "flaky",
    extract: (ids) => calls++ === 0 ? counting("flaky").extract(ids) : Promise.reject(new Error("ended")),
  };
  const silent: ExtractWorker = { name: "silent", extract: () => new Promise(() => {}) };
  const done: number[] = [];
  const { features, ids } = await shareExtraction(range(100), {
    workers: [counting("here"), flaky, silent],
    batch: 4,
    onLoss: (worker) => told.push(worker),
    progress: (count) => done.push(count),
  });
  assertEquals([...features.data], range(100));
  assertEquals(ids, range(100));
  assertEquals(told, ["flaky"]);
  assertEquals(done.at(-1), 100);
  const none: ExtractWorker = { name: "none", extract: () => Promise.resolve(undefined) };
  await assertRejects(() => shareExtraction(range(9), { workers: [none], batch: 4 }), Error, "none");
  const broken: ExtractWorker = { name: "here", extract: () => Promise.reject(new Error("no device")) };
  await assertRejects(() => shareExtraction(range(9), { workers: [broken], batch: 4 }), Error, "no device");
});

async function noisy(count: number, broken: readonly number[]): Promise<ImageSource> {
  const files = await Promise.all(
    range(count).map(async (index) => {
      const pixels = Uint8Array.from({ length: 300 }, (_, i) => (i * (7 + index) + index * 31) & 255);
      return new Uint8Array(await sharp(pixels, { raw: { width: 10, height: 10, channels: 3 } }).png().toBuffer());
    }),
  );
  return {
    size: count,
    name: (i) => `${i}.png`,
    read: (i) =>
      broken.includes(i) ? Promise.reject(new UnreadableImageError(`${i}.png`, "cut")) : Promise.resolve(files[i]),
  };
}

eachDevice(
  "features by three workers have the bits of one, unreadable images and an unreadable chunk included",
  async (device) => {
    const trunk = regnetY({ stemWidth: 8, widths: [8, 16], depths: [1, 1], groupWidth: 8, seRatio: 0.25 }, {
      device,
      seed: 3,
      prefix: "trunk.",
    });
    const source = await noisy(30, [2, 8, 9, 10, 11, 29]);
    const options = { device, embed: moduleEmbedding(trunk), size: 16, batch: 4 };
    const alone = await extractFeatures({ ...options, images: openImages(source), ids: range(30) });
    const worker = (name: string): ExtractWorker => {
      const images = openImages(source);
      return { name, extract: (ids) => extractReadable({ ...options, images, ids }) };
    };
    const shared = await shareExtraction(range(30), { workers: [worker("a"), worker("b"), worker("c")], batch: 4 });
    assertEquals(shared.ids, alone.ids);
    assertEquals(new Uint8Array(shared.features.data.buffer), new Uint8Array(alone.features.data.buffer));
  },
);
