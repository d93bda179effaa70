import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { isSurelyRight, knnAccuracy, knnRanks, type KnnSetting, type Labelled } from "../../evaluate/knn.ts";
import { kthLargest } from "../../evaluate/kth_largest.ts";
import { normalizeRows } from "../../evaluate/matrix.ts";
import { clusters, collapsed, rows } from "./sets.ts";

const labels = (...values: number[]) => Uint32Array.from(values);

Deno.test("knnAccuracy() finds the class of the nearest neighbours in a case worked by hand", async () => {
  const train = { features: rows([1, 0], [1, 0.1], [0, 1], [0.1, 1]), labels: labels(0, 0, 1, 1) };
  const test = { features: rows([5, 1], [1, 5], [5, 2]), labels: labels(0, 1, 1) };
  assertEquals(await knnAccuracy(train, test, { neighbours: 2 }), 2 / 3);
});

Deno.test("near neighbours outvote more numerous far ones, by exp(cosine / T)", () => {
  const scores = Float32Array.from([0.9, 0.5, 0.5001]);
  const vote = { labels: labels(0, 1, 1), classes: 2, label: 0, neighbours: 3 };
  // exp(0.9 / 0.07) > 2 exp(0.5 / 0.07), but exp(0.9) < 2 exp(0.5).
  assert(isSurelyRight(scores, { ...vote, temperature: 0.07 }));
  assert(!isSurelyRight(scores, { ...vote, temperature: 1 }));
  assert(isSurelyRight(scores, { ...vote, label: 1, temperature: 1 }));
});

Deno.test("a tie of votes is not right for either class", () => {
  const scores = Float32Array.from([0.5, 0.5]);
  for (const label of [0, 1]) {
    assert(!isSurelyRight(scores, { labels: labels(0, 1), classes: 2, label, neighbours: 2, temperature: 0.07 }));
  }
});

Deno.test("items tied at the edge of the neighbourhood are chosen against the query", () => {
  // One seat for three tied items, two of the right class.
  const vote = { labels: labels(0, 0, 1), classes: 2, neighbours: 1, temperature: 0.07 };
  assert(!isSurelyRight(Float32Array.from([0.5, 0.5, 0.5]), { ...vote, label: 0 }));
  assert(isSurelyRight(Float32Array.from([0.6, 0.5, 0.5]), { ...vote, label: 0 }));
  // Three seats: whichever rival takes one, two remain for class 0.
  assert(isSurelyRight(Float32Array.from([0.5, 0.5, 0.5]), { ...vote, neighbours: 3, label: 0 }));
});

Deno.test("cosines that differ by rounding alone are tied", () => {
  const scores = Float32Array.from([0.5 + 1e-7, 0.5, 0.5 - 1e-7]);
  assert(!isSurelyRight(scores, { labels: labels(0, 1, 1), classes: 2, label: 0, neighbours: 1, temperature: 0.07 }));
});

Deno.test("collapsed features score nothing, in equal or unequal classes", async () => {
  assertEquals(await knnAccuracy(collapsed(90, 9), collapsed(45, 9)), 0);
  const skewed = collapsed(90, 9);
  skewed.labels.fill(0, 0, 60);
  assertEquals(await knnAccuracy(skewed, skewed), 0);
});

Deno.test("collapsed features with rounding noise score nothing", async () => {
  const train = collapsed(60, 3), test = collapsed(30, 3);
  train.features.data.forEach((value, at) => train.features.data[at] = value + (at % 7) * 1e-8);
  test.features.data.forEach((value, at) => test.features.data[at] = value + (at % 5) * 1e-8);
  assertEquals(await knnAccuracy(train, test), 0);
});

Deno.test("separate clusters are all found, and labels without meaning are not", async () => {
  const train = clusters({ count: 120, classes: 4, columns: 16, spread: 0.1, seed: 2 });
  const test = clusters({ count: 40, classes: 4, columns: 16, spread: 0.1, seed: 3 });
  assertEquals(await knnAccuracy(train, test), 1);
  const noise = { features: test.features, labels: test.labels.map((label) => (label + 1) % 4) };
  assertEquals(await knnAccuracy(train, noise), 0);
});

Deno.test("more neighbours than rows means all rows", async () => {
  const train = { features: rows([1, 0], [1, 0.1], [0, 1]), labels: labels(0, 0, 1) };
  assertEquals(await knnAccuracy(train, train, { neighbours: 100, temperature: 10 }), 2 / 3);
});

Deno.test("kthLargest() is what sorting gives", () => {
  const values = fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 40 });
  fc.assert(fc.property(values, fc.nat(), (list, place) => {
    const k = 1 + place % list.length;
    assertEquals(kthLargest(Float32Array.from(list), k), list.toSorted((a, b) => b - a)[k - 1]);
  }));
});

Deno.test("empty sets, missing labels and features that are no numbers are refused", async () => {
  const good = { features: rows([1, 0]), labels: labels(0) };
  const few = { features: rows([1, 0], [0, 1]), labels: labels(0) };
  await assertRejects(() => knnAccuracy(few, good), RangeError, "one label per row, found 1 for 2");
  const broken = { features: rows([1, NaN]), labels: labels(0) };
  await assertRejects(() => knnAccuracy(good, broken), RangeError, "found NaN in row 0");
  const wide = { features: rows([1, 0, 0]), labels: labels(0) };
  await assertRejects(() => knnAccuracy(good, wide), RangeError, "found 3 and 2");
});

/** The ranks by sorting all neighbours, for features without ties. */
function bruteRanks(train: Labelled, test: Labelled, { neighbours, temperature }: KnnSetting): number[] {
  const gallery = normalizeRows(train.features), queries = normalizeRows(test.features);
  const row = (matrix: typeof gallery, i: number) => matrix.data.subarray(i * matrix.columns, (i + 1) * matrix.columns);
  return Array.from(test.labels, (label, i) => {
    const query = row(queries, i);
    const near = Array.from({ length: gallery.rows }, (_, j) => ({
      score: row(gallery, j).reduce((sum, value, k) => sum + value * query[k], 0),
      label: train.labels[j],
    })).sort((a, b) => b.score - a.score).slice(0, neighbours);
    const votes = new Map<number, number>();
    for (const item of near) {
      votes.set(item.label, (votes.get(item.label) ?? 0) + Math.exp((item.score - near[0].score) / temperature));
    }
    const mine = votes.get(label) ?? 0;
    return [0, 1, 2, 3, 4, 5].filter((c) => (votes.get(c) ?? 0) >= mine).length;
  });
}

Deno.test("knnRanks() equals brute force at the papers' settings", async () => {
  const train = clusters({ count: 300, classes: 6, columns: 8, spread: 1.5, seed: 4 });
  const test = clusters({ count: 60, classes: 6, columns: 8, spread: 1.5, seed: 5 });
  const settings = [{ neighbours: 20, temperature: 0.07 }, { neighbours: 200, temperature: 0.1 }];
  const ranks = await knnRanks(train, test, { settings });
  settings.forEach((setting, s) => assertEquals(Array.from(ranks[s]), bruteRanks(train, test, setting)));
  assert(ranks[0].some((rank) => rank > 1) && ranks[0].some((rank) => rank === 1));
});
