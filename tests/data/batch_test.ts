import { assert, assertEquals, assertRejects } from "@std/assert";
import { createBatchLoader } from "../../data/batch.ts";
import { ImageCache } from "../../data/image_cache.ts";
import { createSampler } from "../../data/sampler.ts";
import { type ImageSource, UnreadableImageError } from "../../data/source.ts";
import { flatPng } from "./images.ts";

const SIZE = 24;
const pngs = await Promise.all(
  Array.from({ length: SIZE }, (_, i) => flatPng({ width: 3 + (i % 3), height: 2, colour: [i, 2 * i, 255] })),
);

/** Images whose red is their id; those in `bad` are no images, those in `gone` cannot be read. */
function sourceWith(
  { bad = [], gone = [] }: { bad?: number[]; gone?: number[] } = {},
): ImageSource & { reads: number } {
  return {
    size: SIZE,
    reads: 0,
    name: (i) => `${i}.png`,
    async read(i) {
      this.reads++;
      await Promise.resolve();
      if (gone.includes(i)) throw new UnreadableImageError(`${i}.png`, "the file is gone");
      return bad.includes(i) ? new TextEncoder().encode("rubbish") : new Uint8Array(pngs[i]);
    },
  };
}

const sampler = createSampler({ seed: 9, size: SIZE, replicas: 2, samplesPerReplica: 4 });
const order = Array.from({ length: SIZE }, (_, i) => sampler.order(0).at(i));

Deno.test("load() packs the sampled images with their sizes and offsets", async () => {
  const { load } = createBatchLoader({ source: sourceWith(), sampler });
  const batch = await load({ epoch: 0, step: 1, replica: 1 });
  assertEquals([...batch.ids], order.slice(12, 16));
  assertEquals(batch.replaced, []);
  for (const [i, id] of batch.ids.entries()) {
    assertEquals([batch.widths[i], batch.heights[i], batch.offsets[i] % 4], [3 + (id % 3), 2, 0]);
    assertEquals([...batch.images.subarray(batch.offsets[i], batch.offsets[i] + 3)], [id, 2 * id, 255]);
  }
  assertEquals(batch.images.byteLength % 4, 0);
});

Deno.test("a bad image is replaced by the nearest earlier good one, counted and named", async () => {
  const source = sourceWith({ bad: [order[5]], gone: [order[6]] });
  const loader = createBatchLoader({ source, sampler });
  const batch = await loader.load({ epoch: 0, step: 0, replica: 1 });
  assertEquals([...batch.ids], order.slice(4, 8));
  assertEquals(batch.images[batch.offsets[1]], order[4]);
  assertEquals(batch.images[batch.offsets[2]], order[4]);
  assertEquals(batch.replaced.map(({ id, replacedBy }) => [id, replacedBy]), [[order[5], order[4]], [
    order[6],
    order[4],
  ]]);
  assertEquals(batch.replaced[1].reason, "the file is gone");
  assertEquals([...loader.bad.keys()].sort(), [order[5], order[6]].sort());
});

Deno.test("a bad image at the start of the epoch is replaced by the next good one", async () => {
  const { load } = createBatchLoader({ source: sourceWith({ bad: [order[0], order[1]] }), sampler });
  const { replaced } = await load({ epoch: 0, step: 0, replica: 0 });
  assertEquals(replaced.map(({ replacedBy }) => replacedBy), [order[2], order[2]]);
});

Deno.test("a batch does not depend on what was loaded before, nor on the cache", async () => {
  const bad = [order[8], order[9], order[10], order[3]];
  const alone = await createBatchLoader({ source: sourceWith({ bad }), sampler }).load({
    epoch: 0,
    step: 1,
    replica: 0,
  });
  for (const cacheBytes of [0, 30, 1_000_000]) {
    const loader = createBatchLoader({ source: sourceWith({ bad }), sampler, cacheBytes });
    await Promise.all([
      loader.load({ epoch: 1, step: 0, replica: 0 }),
      loader.load({ epoch: 0, step: 1, replica: 1 }),
      loader.load({ epoch: 0, step: 0, replica: 1 }),
    ]);
    assertEquals(await loader.load({ epoch: 0, step: 1, replica: 0 }), alone);
  }
});

Deno.test("the cache spares reading again", async () => {
  const source = sourceWith();
  const { load } = createBatchLoader({ source, sampler });
  await Promise.all([load({ epoch: 0, step: 0, replica: 0 }), load({ epoch: 0, step: 0, replica: 0 })]);
  assertEquals(source.reads, 4);
});

Deno.test("a source with no readable image ends in one error that says so", async () => {
  const source = sourceWith({ bad: Array.from({ length: SIZE }, (_, i) => i) });
  const { load } = createBatchLoader({ source, sampler });
  await assertRejects(
    () => load({ epoch: 0, step: 0, replica: 0 }),
    Error,
    "24 of 24 images have proved unreadable, check that the folder holds images",
  );
});

Deno.test("an error of the source itself is passed on and not taken for a bad image", async () => {
  const source = { ...sourceWith(), read: () => Promise.reject(new Error("disk on fire")) };
  const loader = createBatchLoader({ source, sampler });
  await assertRejects(() => loader.load({ epoch: 0, step: 0, replica: 0 }), Error, "disk on fire");
  assertEquals(loader.bad.size, 0);
});

Deno.test("ImageCache keeps the recently used within its bytes", () => {
  const image = (bytes: number) => ({ width: 1, height: 1, pixels: new Uint8Array(bytes) });
  const cache = new ImageCache(30);
  cache.set(1, image(10));
  cache.set(2, image(10));
  cache.set(3, image(10));
  cache.get(1);
  cache.set(4, image(15));
  assertEquals([1, 2, 3, 4].map((id) => cache.get(id) !== undefined), [true, false, false, true]);
  assertEquals(cache.bytes, 25);
  cache.set(5, image(31));
  assert(cache.get(5) === undefined && cache.bytes === 25);
});
