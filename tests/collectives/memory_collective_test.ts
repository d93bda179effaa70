import { assertEquals, assertRejects } from "@std/assert";
import { memoryGroup, solo } from "../../collectives/memory_collective.ts";
import { treeSum } from "../../collectives/tree.ts";

Deno.test("memoryGroup() gives every member the bits of treeSum(), whatever the order of calls", async () => {
  const vectors = [1, 2 ** -24, 2 ** -24, 2 ** -24, -1, 3].map((value) => new Float32Array([value, 1 / value]));
  const expected = [...treeSum(vectors)];
  for (const order of [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]]) {
    const group = memoryGroup(6);
    const sums = await Promise.all(order.map((slot) => group[slot].allReduce("a", vectors[slot])));
    for (const sum of sums) assertEquals([...sum], expected);
    sums[0][0] = 99;
    assertEquals([...sums[1]], expected);
  }
});

Deno.test("memoryGroup() keeps sums of different keys apart and lets a key be used again", async () => {
  const [first, second] = memoryGroup(2);
  const value = (x: number) => new Float32Array([x]);
  const [a, b] = [first.allReduce("a", value(1)), first.allReduce("b", value(10))];
  assertEquals([...await second.allReduce("b", value(20))], [30]);
  assertEquals([...await second.allReduce("a", value(2))], [3]);
  assertEquals([...await a, ...await b], [3, 30]);
  const again = first.allReduce("a", value(5));
  assertEquals([...await second.allReduce("a", value(6))], [11]);
  assertEquals([...await again], [11]);
});

Deno.test("a member that calls twice or with another length fails the sum for all", async () => {
  const [first, second] = memoryGroup(2);
  const waiting = first.allReduce("a", new Float32Array(2));
  const late = second.allReduce("a", new Float32Array(3));
  await assertRejects(() => waiting, RangeError, "2 and 3 values");
  await assertRejects(() => late, RangeError, "2 and 3 values");
  const [once, twice] = [first.allReduce("b", new Float32Array(1)), first.allReduce("b", new Float32Array(1))];
  await assertRejects(() => once, RangeError, "called twice");
  await assertRejects(() => twice, RangeError, "called twice");
});

Deno.test("solo returns a copy of what it is given", async () => {
  const values = new Float32Array([1, 2]);
  const sum = await solo.allReduce("a", values);
  sum[0] = 9;
  assertEquals([...values], [1, 2]);
});
