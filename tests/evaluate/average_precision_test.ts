import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { averagePrecision, meanAveragePrecision, precisionRecall } from "../../evaluate/average_precision.ts";

// Ranked: 1 0 1 1 0. Precision at the hits: 1, 2/3, 3/4; recall 1/3, 2/3, 1.
const scores = [0.9, 0.8, 0.7, 0.6, 0.1], marks = [1, 0, 1, 1, 0];

Deno.test("averagePrecision() gives the three definitions' values in a case worked by hand", () => {
  assertAlmostEquals(averagePrecision(scores, marks), (1 + 2 / 3 + 3 / 4) / 3, 1e-12);
  assertAlmostEquals(averagePrecision(scores, marks, { rule: "area" }), (1 + 3 / 4 + 3 / 4) / 3, 1e-12);
  // Recall 0 to 0.3 has precision 1 (four points), 0.4 to 1 has 3/4 (seven).
  assertAlmostEquals(averagePrecision(scores, marks, { rule: "eleven-point" }), (4 + 7 * 0.75) / 11, 1e-12);
});

Deno.test("equal scores are one threshold, whatever their order", () => {
  const tied = [0.5, 0.5, 0.5, 0.1];
  for (const order of [[1, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1]]) {
    assertAlmostEquals(averagePrecision(tied, order), 0.5 * (1 / 3) + 0.5 * (2 / 4), 1e-12);
  }
  assertEquals(precisionRecall(tied, [0, 1, 0, 1]), { recall: [0.5, 1], precision: [1 / 3, 0.5] });
});

Deno.test("images marked difficult are left out", () => {
  assertEquals(averagePrecision([0.95, ...scores], [-1, ...marks]), averagePrecision(scores, marks));
});

Deno.test("meanAveragePrecision() averages over the classes that are shown", () => {
  const table = scores.flatMap((score) => [score, -score, 0]);
  const shown = marks.flatMap((mark) => [mark, mark, 0]);
  const first = averagePrecision(scores, marks), second = averagePrecision(scores.map((score) => -score), marks);
  const { mean, perClass } = meanAveragePrecision(table, shown, { classes: 3 });
  assertEquals(perClass, [first, second, undefined]);
  assertAlmostEquals(mean, (first + second) / 2, 1e-12);
});

Deno.test("what has no average precision is refused", () => {
  assertThrows(() => averagePrecision([1, 2], [0, -1]), RangeError, "at least one image must show the class");
  assertThrows(() => averagePrecision([1, 2], [1]), RangeError, "one mark per score, found 1 for 2");
  assertThrows(() => averagePrecision([NaN, 2], [1, 0]), RangeError, "score 0 is not a number");
  assertThrows(() => meanAveragePrecision([1, 2], [0, 0], { classes: 2 }), RangeError, "none of 2 classes");
});
