import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { nearestNeighbours } from "../../api/search.ts";
import { matrixFrom } from "../../evaluate/matrix.ts";

const rows = matrixFrom(new Float32Array([1, 0, 0, 2, 3, 0.3, -1, 0]), 2);

Deno.test("nearestNeighbours() orders by angle, whatever the lengths", async () => {
  const [first] = await nearestNeighbours(rows, rows, { count: 4 });
  assertEquals(first.map(({ index }) => index), [0, 2, 1, 3]);
  assertAlmostEquals(first[3].similarity, -1, 1e-6);
});

Deno.test("nearestNeighbours() leaves out the query itself when asked", async () => {
  const found = await nearestNeighbours(rows, rows, { count: 1, excludeSelf: true });
  assertEquals(found.map(([{ index }]) => index), [2, 2, 0, 1]);
});

Deno.test("nearestNeighbours() gives equal rows in their own order, and refuses rows of other lengths", async () => {
  const gallery = matrixFrom(new Float32Array([0, 1, 1, 0, 1, 0]), 2);
  const [found] = await nearestNeighbours(matrixFrom(new Float32Array([1, 0]), 2), gallery, { count: 2 });
  assertEquals(found.map(({ index }) => index), [1, 2]);
  await assertRejects(() => nearestNeighbours(rows, matrixFrom(new Float32Array(3), 3)), RangeError, "same columns");
  await assertRejects(() => nearestNeighbours(rows, rows, { count: 0 }), RangeError, "positive integer");
});
