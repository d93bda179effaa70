import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { BufferPool, sizeClass, type Slot } from "../../device/buffer_pool.ts";

function pool(spareBytes: number): { pool: BufferPool<string>; destroyed: number[] } {
  const destroyed: number[] = [];
  return {
    destroyed,
    pool: new BufferPool<string>({
      create: (byteLength) => `${byteLength} bytes`,
      destroy: (slot) => destroyed.push(slot.byteLength),
      classBytesMax: 2 ** 20,
      spareBytes,
    }),
  };
}

Deno.test("sizeClass() is a multiple of 4, never smaller than the request, and wastes at most a fifth", () => {
  fc.assert(fc.property(fc.integer({ min: 257, max: 2 ** 30 }), (byteLength) => {
    const size = sizeClass(byteLength, 2 ** 31);
    assert(size >= byteLength && size % 4 === 0 && byteLength >= size * 0.8 - 1, `${byteLength} became ${size}`);
  }));
  assertEquals(sizeClass(1_000_001, 1_000_500), 1_000_004);
});

Deno.test("take() hands out the slot of its class that was freed last", () => {
  const { pool: p } = pool(1024);
  const [first, second] = [p.take(1000), p.take(1000)];
  p.giveBack(first);
  p.giveBack(second);
  assertEquals(p.take(900).id, second.id);
  assertEquals(p.take(900).id, first.id);
});

Deno.test("the pool counts live, peak and reserved bytes", () => {
  const { pool: p } = pool(0);
  const slots = [p.take(256), p.take(512)];
  p.giveBack(slots[0]);
  assertEquals(p.memory, { liveBytes: 512, peakBytes: 768, reservedBytes: 768 });
  p.trim();
  assertEquals(p.memory, { liveBytes: 512, peakBytes: 768, reservedBytes: 512 });
});

Deno.test("the pool gives up the slots used longest ago when classes it no longer needs fill it", () => {
  const { pool: p, destroyed } = pool(0);
  let last: Slot<string> | undefined;
  for (const size of [1024, 2048, 4096, 8192]) {
    last = p.take(size);
    p.giveBack(last);
  }
  assertEquals(destroyed, [1024, 2048]);
  assertEquals(p.memory.reservedBytes, 4096 + 8192);
});
