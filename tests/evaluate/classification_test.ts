import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { classificationResult, scoreRanks, wilsonInterval } from "../../evaluate/classification.ts";

Deno.test("wilsonInterval() gives published values, and a width at the ends", () => {
  // 81 of 263: Newcombe (1998), table I, method 3.
  const [low, high] = wilsonInterval(81, 263);
  assertAlmostEquals(low, 0.2553, 5e-5);
  assertAlmostEquals(high, 0.3662, 5e-5);
  const [zero, above] = wilsonInterval(0, 20);
  assertEquals(zero, 0);
  assertAlmostEquals(above, 0.1611, 5e-5);
});

Deno.test("classificationResult() counts first places, first fives and classes", () => {
  const ranks = Uint32Array.from([1, 1, 5, 6, 1, 2]), labels = Uint32Array.from([0, 0, 0, 1, 1, 5]);
  const result = classificationResult(ranks, labels, { classes: 7 });
  assertEquals([result.images, result.top1, result.top5], [6, 0.5, 5 / 6]);
  assertEquals(result.perClass, [2 / 3, 0.5, undefined, undefined, undefined, 0, undefined]);
  assertAlmostEquals(result.meanPerClass, (2 / 3 + 0.5) / 3, 1e-12);
  assert(result.interval[0] < 0.5 && result.interval[1] > 0.5);
  assertEquals(classificationResult(ranks, labels.map(() => 0), { classes: 3 }).top5, undefined);
  assertThrows(() => classificationResult(ranks, labels.subarray(1), { classes: 7 }), RangeError, "found 6 and 5");
});

Deno.test("scoreRanks() counts equal scores, and what is no number, against the row", () => {
  const scores = [3, 2, 1, 2, 2, 2, 0, NaN, 1], labels = Uint32Array.from([0, 1, 2]);
  assertEquals(Array.from(scoreRanks(scores, labels, 3)), [1, 3, 2]);
});
