import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { classRetrieval, retrieval, worstRank } from "../../evaluate/retrieval.ts";
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

Deno.test("classRetrieval() gives mean average precision and recall in a case worked by hand", async () => {
  const gallery = rows([1, 0], [1, 0.5], [0, 1], [-1, 0]);
  const queries = rows([1, 0.1], [0, 2]);
  const options = { queryLabels: Uint32Array.of(0, 1), galleryLabels: Uint32Array.of(0, 1, 0, 1), recallAt: [1, 2] };
  // Query 0 ranks 0 1 2 3, its own at 1 and 3; query 1 ranks 2, 1, then 0 and 3 tied, its own at 2 and 4.
  const result = await classRetrieval(queries, gallery, options);
  assertAlmostEquals(result.meanAveragePrecision, ((1 + 2 / 3) / 2 + (1 / 2 + 2 / 4) / 2) / 2, 1e-12);
  assertEquals([result.queries, result.recall], [2, [{ k: 1, share: 0.5 }, { k: 2, share: 1 }]]);
});

Deno.test("classRetrieval() leaves a query out of its own results, and queries alone in their class out of the count", async () => {
  const images = rows([1, 0], [0, 1], [1, 0.2], [1, 1]);
  const labels = Uint32Array.of(0, 1, 0, 2);
  const selfOf = Int32Array.of(0, 1, 2, 3);
  const result = await classRetrieval(images, images, { queryLabels: labels, galleryLabels: labels, selfOf });
  assertEquals([result.queries, result.meanAveragePrecision, result.recall[0].share], [2, 1, 1]);
  const alone = { queryLabels: Uint32Array.of(7), galleryLabels: labels };
  await assertRejects(
    () => classRetrieval(rows([1, 0]), images, alone),
    RangeError,
    "no query has an image of its class",
  );
});

Deno.test("collapsed features retrieve nothing first", async () => {
  const { features, labels } = collapsed(40, 4);
  const { recall, meanAveragePrecision } = await classRetrieval(features, features, {
    queryLabels: labels,
    galleryLabels: labels,
  });
  assertEquals(recall.map(({ share }) => share), [0, 0, 0]);
  assertAlmostEquals(meanAveragePrecision, 0.25, 1e-9);
});
