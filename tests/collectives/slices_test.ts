import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { gatherSlice, planSlices, scatterSlice, SliceProgress, slicesOfShard } from "../../collectives/slices.ts";

const setups = fc.record({
  sizes: fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 }),
  sliceBytes: fc.integer({ min: 4, max: 200 }),
  shards: fc.integer({ min: 1, max: 5 }),
});

function parametersOf(sizes: readonly number[]): { name: string; size: number }[] {
  return sizes.map((size, index) => ({ name: `p${index}`, size }));
}

Deno.test("slices lie end to end, keep within their bytes, and go round the shards", () => {
  fc.assert(fc.property(setups, ({ sizes, sliceBytes, shards }) => {
    const plan = planSlices(parametersOf(sizes), { sliceBytes, shards });
    let offset = 0;
    plan.slices.forEach((slice, index) => {
      assertEquals([slice.index, slice.offset, slice.shard], [index, offset, index % shards]);
      assertEquals(slice.length * 4 <= sliceBytes && slice.length > 0, true);
      offset += slice.length;
    });
    assertEquals(offset, sizes.reduce((a, b) => a + b));
    const owned = Array.from({ length: shards }, (_, shard) => slicesOfShard(plan, shard)).flat().sort((a, b) => a - b);
    assertEquals(owned, plan.slices.map((slice) => slice.index));
  }));
});

Deno.test("gathering all slices gives the flat vector, and scattering them gives every parameter back", () => {
  fc.assert(fc.property(setups, ({ sizes, sliceBytes, shards }) => {
    const plan = planSlices(parametersOf(sizes), { sliceBytes, shards });
    let next = 0;
    const source = new Map(
      plan.parameters.map(({ name, size }) => [name, Float32Array.from({ length: size }, () => next++)]),
    );
    const target = new Map(plan.parameters.map(({ name, size }) => [name, new Float32Array(size)]));
    const arrayOf = (map: Map<string, Float32Array>) => (name: string) => map.get(name) ?? new Float32Array(0);
    const flat = plan.slices.flatMap((slice) => {
      const values = gatherSlice(plan, slice.index, arrayOf(source));
      scatterSlice(plan, slice.index, { values, arrayOf: arrayOf(target) });
      return [...values];
    });
    assertEquals(flat, Array.from({ length: next }, (_, index) => index));
    assertEquals(target, source);
  }));
});

Deno.test("a slice is ready exactly when the last of its parameters is finished", () => {
  const plan = planSlices(parametersOf([3, 2, 5, 1]), { sliceBytes: 16, shards: 2 });
  const progress = new SliceProgress(plan);
  assertEquals(progress.finish("p2"), []);
  assertEquals(progress.finish("p0"), []);
  assertEquals(progress.finish("p1"), [0, 1]);
  assertEquals(progress.complete, false);
  assertEquals(progress.finish("p3"), [2]);
  assertEquals(progress.complete, true);
  assertThrows(() => progress.finish("p3"), RangeError, "finished before");
  assertThrows(() => progress.finish("p9"), RangeError, "not in the slice plan");
});

Deno.test("in any order of finishing, each slice becomes ready once and never early", () => {
  fc.assert(fc.property(setups, fc.infiniteStream(fc.nat(1000)), ({ sizes, sliceBytes, shards }, order) => {
    const plan = planSlices(parametersOf(sizes), { sliceBytes, shards });
    const progress = new SliceProgress(plan);
    const rest = plan.parameters.map((_, index) => index);
    const ready = new Set<number>();
    while (rest.length > 0) {
      const [parameter] = rest.splice(order.next().value % rest.length, 1);
      for (const slice of progress.finish(`p${parameter}`)) {
        assertEquals(ready.has(slice), false);
        ready.add(slice);
      }
      for (const slice of plan.slices) {
        assertEquals(ready.has(slice.index), slice.pieces.every((piece) => !rest.includes(piece.parameter)));
      }
    }
    assertEquals(ready.size, plan.slices.length);
  }));
});

Deno.test("planSlices() refuses repeated names, empty parameters and slices below one element", () => {
  const options = { sliceBytes: 16, shards: 1 };
  assertThrows(() => planSlices([], options), RangeError, "at least one parameter");
  assertThrows(() => planSlices([{ name: "a", size: 1 }, { name: "a", size: 1 }], options), RangeError, "listed twice");
  assertThrows(() => planSlices([{ name: "a", size: 0 }], options), RangeError, "size ≥ 1");
  assertThrows(
    () => planSlices([{ name: "a", size: 1 }], { sliceBytes: 3, shards: 1 }),
    RangeError,
    "at least 4 bytes",
  );
  assertThrows(() => planSlices([{ name: "a", size: 1 }], { sliceBytes: 4, shards: 0 }), RangeError, "1 shard");
});

Deno.test("scatterSlice() refuses values of another length", () => {
  const plan = planSlices([{ name: "a", size: 3 }], { sliceBytes: 16, shards: 1 });
  const arrayOf = () => new Float32Array(3);
  assertThrows(() => scatterSlice(plan, 0, { values: new Float32Array(2), arrayOf }), RangeError, "needs 3 values");
  assertThrows(() => gatherSlice(plan, 1, arrayOf), RangeError, "outside");
  assertThrows(() => gatherSlice(plan, 0, () => new Float32Array(2)), RangeError, "needs 3 elements");
});
