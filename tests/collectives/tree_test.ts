import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TreeAccumulator, treeCover, treePartials, treeSum } from "../../collectives/tree.ts";

/** A string of the tree's shape: how slots are bracketed. */
function brackets(low: number, high: number): string {
  if (high - low === 1) return String(low);
  const middle = low + 2 ** Math.ceil(Math.log2(high - low) - 1);
  return `(${brackets(low, middle)}+${brackets(middle, high)})`;
}

/** The same sum by the definition, one element, independent of the implementation. */
function byDefinition(values: readonly number[], low: number, high: number): number {
  if (high - low === 1) return Math.fround(values[low]);
  const middle = low + 2 ** Math.ceil(Math.log2(high - low) - 1);
  return Math.fround(byDefinition(values, low, middle) + byDefinition(values, middle, high));
}

const slotValues = fc.array(
  fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, max: 2 ** 100, min: -(2 ** 100) }), {
    minLength: 3,
    maxLength: 3,
  }),
  { minLength: 1, maxLength: 40 },
);

Deno.test("the tree splits at the largest power of two below the node's size", () => {
  assertEquals(brackets(0, 5), "(((0+1)+(2+3))+4)");
  assertEquals(treeCover(5, 0, 4), [{ low: 0, high: 4 }]);
  assertEquals(treeCover(6, 1, 6), [{ low: 1, high: 2 }, { low: 2, high: 4 }, { low: 4, high: 6 }]);
  assertEquals(treeCover(7, 0, 7), [{ low: 0, high: 7 }]);
});

Deno.test("treeSum() adds in the order of the definition", () => {
  fc.assert(fc.property(slotValues, (rows) => {
    const sum = treeSum(rows.map((row) => new Float32Array(row)));
    const expected = [0, 1, 2].map((column) => byDefinition(rows.map((row) => row[column]), 0, rows.length));
    assertEquals([...sum], expected);
  }));
});

Deno.test("treeSum() differs from adding left to right, so order is really tested", () => {
  const values = [1, 2 ** -24, 2 ** -24, 2 ** -24].map((value) => new Float32Array([value]));
  let leftToRight = 0;
  for (const [value] of values) leftToRight = Math.fround(leftToRight + value);
  assertEquals(treeSum(values)[0], 1 + 2 ** -23);
  assertEquals(leftToRight, 1);
});

Deno.test("any partition of slots to trainers, in any order of arrival, gives the bits of treeSum()", () => {
  const scenario = slotValues.chain((rows) => {
    const cuts = fc.uniqueArray(fc.integer({ min: 0, max: rows.length }), { maxLength: 6 });
    return fc.record({ rows: fc.constant(rows), cuts, order: fc.infiniteStream(fc.nat(1000)) });
  });
  fc.assert(
    fc.property(scenario, ({ rows, cuts, order }) => {
      const vectors = rows.map((row) => new Float32Array(row));
      const borders = [...new Set([0, ...cuts, rows.length])].sort((a, b) => a - b);
      const parts = borders.slice(1).flatMap((high, index) =>
        treePartials(rows.length, borders[index], vectors.slice(borders[index], high))
      );
      const accumulator = new TreeAccumulator(rows.length, 3);
      let root: Float32Array | undefined;
      while (parts.length > 0) {
        const [part] = parts.splice(order.next().value % parts.length, 1);
        assertEquals(root, undefined);
        root = accumulator.add(part.range, part.sum);
      }
      assertEquals(root && new Uint32Array(root.buffer), new Uint32Array(treeSum(vectors).buffer));
      assertEquals(accumulator.result, root);
      assertEquals(accumulator.covered, rows.length);
    }),
    { numRuns: 300 },
  );
});

Deno.test("treeCover() gives disjoint nodes in order that fill the range", () => {
  const ranges = fc.integer({ min: 1, max: 600 }).chain((slots) =>
    fc.tuple(fc.constant(slots), fc.integer({ min: 0, max: slots - 1 })).chain(([slots, low]) =>
      fc.tuple(fc.constant(slots), fc.constant(low), fc.integer({ min: low + 1, max: slots }))
    )
  );
  fc.assert(fc.property(ranges, ([slots, low, high]) => {
    let next = low;
    for (const node of treeCover(slots, low, high)) {
      assertEquals(node.low, next);
      next = node.high;
      // Throws for what is no complete node.
      new TreeAccumulator(slots, 0).add(node, new Float32Array(0));
    }
    assertEquals(next, high);
  }));
});

Deno.test("treeSum() leaves its inputs as they are", () => {
  const vectors = [new Float32Array([1]), new Float32Array([2]), new Float32Array([3])];
  assertEquals([...treeSum(vectors)], [6]);
  assertEquals(vectors.map(([value]) => value), [1, 2, 3]);
});

Deno.test("TreeAccumulator refuses overlaps, repeats, crooked ranges and wrong lengths, and stays usable", () => {
  const accumulator = new TreeAccumulator(4, 1);
  const one = () => new Float32Array([1]);
  accumulator.add({ low: 0, high: 2 }, one());
  for (const [low, high] of [[0, 1], [0, 2], [1, 2], [0, 4]]) {
    assertThrows(() => accumulator.add({ low, high }, one()), RangeError, "were given already");
  }
  assertThrows(() => accumulator.add({ low: 1, high: 3 }, one()), RangeError, "no complete node");
  assertThrows(() => accumulator.add({ low: 2, high: 5 }, one()), RangeError, "must be a range inside");
  assertThrows(() => accumulator.add({ low: 2, high: 2 }, one()), RangeError, "must be a range inside");
  assertThrows(() => accumulator.add({ low: 2, high: 4 }, new Float32Array(2)), RangeError, "need 1 values, got 2");
  assertEquals(accumulator.covered, 2);
  assertEquals([...accumulator.add({ low: 2, high: 4 }, one()) ?? []], [2]);
  assertThrows(() => accumulator.add({ low: 0, high: 4 }, one()), RangeError, "were given already");
});

Deno.test("treeSum() refuses no vectors and vectors of different lengths", () => {
  assertThrows(() => treeSum([]), RangeError, "at least one vector");
  assertThrows(() => treeSum([new Float32Array(2), new Float32Array(3)]), RangeError, "slot 1 has 3");
});
