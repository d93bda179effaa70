import { assert, assertEquals, assertThrows } from "@std/assert";
import { assignWorld } from "../../swav/assign.ts";
import { sinkhornReference } from "../../kernels/sinkhorn.ts";
import { numbers } from "../kernels/run.ts";

const options = { crops: 2, prototypes: 5, epsilon: 0.1, iterations: 3 };

Deno.test("each assign crop is a Sinkhorn problem of its own over the rows of all replicas", () => {
  const first = { batch: 3, rows: 3, scores: numbers(2 * 3 * 5, 1) };
  const second = { batch: 2, rows: 2, scores: numbers(2 * 2 * 5, 2) };
  const { codes } = assignWorld([first, second], options);
  for (const crop of [0, 1]) {
    const world = new Float32Array([
      ...first.scores.subarray(crop * 15, crop * 15 + 15),
      ...second.scores.subarray(crop * 10, crop * 10 + 10),
    ]);
    const expected = sinkhornReference(world, { samples: 5, prototypes: 5, epsilon: 0.1, iterations: 3 });
    assertEquals(codes[0].subarray(crop * 15, crop * 15 + 15), expected.subarray(0, 15));
    assertEquals(codes[1].subarray(crop * 10, crop * 10 + 10), expected.subarray(15));
  }
});

Deno.test("rows of the queue take part in the assignment and get no codes", () => {
  const batch = numbers(2 * 3 * 5, 1), queue = numbers(2 * 4 * 5, 2);
  const rows = new Float32Array(2 * 7 * 5);
  for (const crop of [0, 1]) {
    rows.set(batch.subarray(crop * 15, crop * 15 + 15), crop * 35);
    rows.set(queue.subarray(crop * 20, crop * 20 + 20), crop * 35 + 15);
  }
  const [codes] = assignWorld([{ batch: 3, rows: 7, scores: rows }], options).codes;
  assertEquals(codes.length, 2 * 3 * 5);
  const expected = sinkhornReference(rows.slice(35), { samples: 7, prototypes: 5, epsilon: 0.1, iterations: 3 });
  assertEquals(codes.subarray(15), expected.subarray(0, 15));
  const [without] = assignWorld([{ batch: 3, rows: 3, scores: batch }], options).codes;
  assert(codes.some((code, i) => code !== without[i]), "the queue must matter");
});

Deno.test("hard codes are one-hot at the largest soft code", () => {
  const replica = { batch: 4, rows: 4, scores: numbers(2 * 4 * 5, 3) };
  const [soft] = assignWorld([replica], options).codes;
  const [hard] = assignWorld([replica], { ...options, hard: true }).codes;
  for (let row = 0; row < soft.length; row += 5) {
    const best = soft.subarray(row, row + 5).indexOf(Math.max(...soft.subarray(row, row + 5)));
    assertEquals([...hard.subarray(row, row + 5)], [0, 1, 2, 3, 4].map((k) => k === best ? 1 : 0));
  }
});

Deno.test("perplexity is the number of prototypes when all are used alike, and one when only one is", () => {
  const even = new Float32Array(5 * 5);
  for (let i = 0; i < 5; i++) even[i * 5 + i] = 1;
  const one = { crops: 1, prototypes: 5, epsilon: 0.05, iterations: 3 };
  assert(Math.abs(assignWorld([{ batch: 5, rows: 5, scores: even }], one).perplexity - 5) < 1e-3);
  const same = new Float32Array(5).map((_, k) => k === 2 ? 1 : 0);
  const alone = assignWorld([{ batch: 1, rows: 1, scores: same }], { ...one, hard: true });
  assert(Math.abs(alone.perplexity - 1) < 1e-6, `${alone.perplexity}`);
});

Deno.test("scores of a wrong length are refused with the replica and both numbers", () => {
  assertThrows(
    () => assignWorld([{ batch: 3, rows: 3, scores: new Float32Array(29) }], options),
    RangeError,
    "replica 0 must send 2 × 3 × 5 scores, it sent 29",
  );
});
