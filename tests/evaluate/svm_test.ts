import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { averagePrecision } from "../../evaluate/average_precision.ts";
import { matrixFrom, takeRows } from "../../evaluate/matrix.ts";
import { svmScores, trainSvm } from "../../evaluate/svm.ts";
import {
  drawMarks,
  lowShotSvm,
  marksOf,
  stratifiedFolds,
  svmEvaluation,
  unitRows,
} from "../../evaluate/svm_protocol.ts";
import golden from "../golden/svm.json" with { type: "json" };

const count = golden.classes.length;
const train = {
  features: matrixFrom(Float32Array.from(golden.train), golden.columns),
  marks: Int8Array.from(golden.trainMarks),
  classes: count,
};
const test = {
  features: matrixFrom(Float32Array.from(golden.test), golden.columns),
  marks: Int8Array.from(golden.testMarks),
  classes: count,
};
const column = (marks: Int8Array, c: number) => marks.filter((_, at) => at % count === c);

function twoClass(c: number) {
  const marks = column(train.marks, c);
  const rows = Array.from(marks.keys()).filter((row) => marks[row] >= 0);
  return {
    features: takeRows(unitRows(train.features), rows),
    labels: Int8Array.from(rows, (row) => marks[row] > 0 ? 1 : -1),
  };
}

Deno.test("trainSvm() gives scikit-learn's scores and average precision within half a point", () => {
  golden.classes.forEach(({ scores, averagePrecision: wanted }, c) => {
    const { features, labels } = twoClass(c);
    golden.costs.forEach((cost, at) => {
      const found = svmScores(unitRows(test.features), trainSvm(features, labels, { cost, iterationsMax: 1e6 }));
      assertAlmostEquals(averagePrecision(found, column(test.marks, c)), wanted[at], 0.005, `class ${c}, cost ${cost}`);
      const listed = [0.1, 1, 10].indexOf(cost);
      if (listed >= 0) scores[listed].forEach((score, row) => assertAlmostEquals(found[row], score, 5e-3));
    });
  });
});

Deno.test("stratifiedFolds() deals rows out as scikit-learn's StratifiedKFold", () => {
  golden.classes.forEach(({ folds }, c) => assertEquals(Array.from(stratifiedFolds(twoClass(c).labels, 3)), folds));
});

Deno.test("svmEvaluation() chooses costs that scikit-learn's cross-validation finds as good", () => {
  // Up to 20: beyond, 2000 passes do not reach the optimum, here or there.
  const costs = golden.costs.slice(0, 8);
  const { perClass, area, elevenPoint } = svmEvaluation(train, test, { costs });
  perClass.forEach(({ cost }, c) => {
    const crossValidation = golden.classes[c].crossValidation.slice(0, costs.length);
    const best = Math.max(...crossValidation);
    assert(crossValidation[costs.indexOf(cost)] > best - 0.005, `class ${c}: cost ${cost}`);
  });
  assert(area > 0.3 && area < 1 && elevenPoint > 0.3 && elevenPoint < 1, `${area}, ${elevenPoint}`);
});

Deno.test("an SVM's weights depend on its rows and seed only, and reach the optimum", () => {
  const { features, labels } = twoClass(0);
  const once = trainSvm(features, labels, { cost: 1 }), again = trainSvm(features, labels, { cost: 1 });
  assertEquals(once, again);
  assert(once.converged);
  const other = trainSvm(features, labels, { cost: 1, seed: 1, tolerance: 1e-8 });
  once.weights.forEach((weight, k) => assertAlmostEquals(weight, other.weights[k], 1e-3));
});

Deno.test("a draw has k images with each class and k for every other class without it", () => {
  const drawn = drawMarks(train, { shots: 5, draw: 0, seed: 0 });
  for (let c = 0; c < count; c++) {
    const marks = column(drawn, c), full = column(train.marks, c);
    assertEquals(marks.filter((mark) => mark === 1).length, 5);
    assertEquals(marks.filter((mark) => mark === 0).length, 15);
    marks.forEach((mark, row) => assert(mark === -1 || mark === full[row]));
  }
  assert(drawMarks(train, { shots: 5, draw: 1, seed: 0 }).some((mark, at) => mark !== drawn[at]));
});

Deno.test("lowShotSvm() learns more from more images", () => {
  const few = lowShotSvm(train, test, { shots: [1, 20], draws: 3, costs: [1, 10] });
  assertEquals(few.map(({ shots, draws }) => [shots, draws.length]), [[1, 3], [20, 3]]);
  assert(few[1].mean > few[0].mean, `${few[0].mean} and ${few[1].mean}`);
});

Deno.test("an SVM is refused what it cannot learn from", () => {
  const { features } = twoClass(0);
  const ones = new Int8Array(features.rows).fill(1);
  assertThrows(() => trainSvm(features, ones, { cost: 1 }), RangeError, "found one class only");
  assertThrows(() => trainSvm(features, ones.subarray(1), { cost: 1 }), RangeError, "one label per row");
  assertThrows(() => trainSvm(features, twoClass(0).labels, { cost: 0 }), RangeError, "cost must be positive, found 0");
  const empty = { ...train, marks: train.marks.map((mark, at) => at % count === 2 ? 0 : mark) };
  assertThrows(() => svmEvaluation(empty, test), RangeError, "found 0 and 150 for class 2");
  assertThrows(() => lowShotSvm(train, test, { shots: [149] }), RangeError, "at least 149 training images");
});

Deno.test("marksOf() marks a row's class and no other", () => {
  assertEquals(Array.from(marksOf([1, 0], 3)), [0, 1, 0, 1, 0, 0]);
});
