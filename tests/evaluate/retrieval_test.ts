import { assert, assertEquals, assertRejects } from "@std/assert";
import { retrieval, worstRank } from "../../evaluate/retrieval.ts";
import { clusters, collapsed, rows } from "./sets.ts";

Deno.test("retrieval() ranks by cosine in a case worked by hand", async () => {
  const gallery = rows([1, 0], [0, 1], [1, 1]);
  const queries = rows([10, 1], [1, 3], [3, 2]);
  // Ranks of the answers 0, 1 and 0: 1; 2 behind (1, 1); 2 behind (1, 1).
  const { top1, top5, meanReciprocalRank } = await retrieval(queries, gallery, { answers: Uint32Array.of(0, 1, 0) });
  assertEquals([top1, top5], [2 / 3, 1]);
  assert(Math.abs(meanReciprocalRank - (1 + 1 + 0.5) / 3) < 1e-12);
});

Deno.test("a rank counts everything that scores as well as the right answer", () => {
  assertEquals(worstRank(Float32Array.from([0.5, 0.9, 0.1]), 1), 1);
  assertEquals(worstRank(Float32Array.from([0.5, 0.5, 0.1]), 0), 2);
  assertEquals(worstRank(Float32Array.from([0.5, 0.5 - 1e-7, 0.1]), 0), 2);
  assertEquals(worstRank(Float32Array.from([0.5, 0.9, 0.1]), 2), 3);
});

Deno.test("collapsed features retrieve nothing", async () => {
  const { features } = collapsed(100, 4);
  const answers = Uint32Array.from({ length: 100 }, (_, i) => i);
  const { top1, top5, meanReciprocalRank } = await retrieval(features, features, { answers });
  assertEquals([top1, top5], [0, 0]);
  assert(Math.abs(meanReciprocalRank - 1 / 100) < 1e-12);
});

Deno.test("features of their own find themselves, over several blocks of queries", async () => {
  const { features } = clusters({ count: 1500, classes: 1500, columns: 8, spread: 0.1, seed: 4 });
  const answers = Uint32Array.from({ length: 1500 }, (_, i) => i);
  assertEquals((await retrieval(features, features, { answers })).top1, 1);
});

Deno.test("queries without an answer in the gallery are refused", async () => {
  const two = rows([1, 0], [0, 1]);
  await assertRejects(() => retrieval(two, two, { answers: Uint32Array.of(0) }), RangeError, "found 1 for 2");
  await assertRejects(() => retrieval(two, two, { answers: Uint32Array.of(0, 2) }), RangeError, "found 2");
});
