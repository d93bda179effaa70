import { assert, assertEquals } from "@std/assert";
import { deviceNeighbours, deviceSimilarity } from "../../evaluate/device_similarity.ts";
import { knnRanks, type Labelled, worstClassRank } from "../../evaluate/knn.ts";
import { matrixFrom, normalizeRows } from "../../evaluate/matrix.ts";
import { neighboursBy } from "../../evaluate/neighbours.ts";
import type { Similarity } from "../../evaluate/similarity.ts";
import { eachDevice } from "../devices.ts";
import { clusters, collapsed } from "./sets.ts";

const settings = [{ neighbours: 20, temperature: 0.07 }, { neighbours: 5, temperature: 0.1 }];

/** Ranks by votes over whole rows of scores. */
async function bruteForce(train: Labelled, test: Labelled, similarity: Similarity): Promise<number[][]> {
  const gallery = normalizeRows(train.features), ranks: number[][] = settings.map(() => []);
  const classes = Math.max(...train.labels, ...test.labels) + 1;
  for await (const { first, rows, scores } of similarity(normalizeRows(test.features), gallery)) {
    for (let row = 0; row < rows; row++) {
      const line = scores.subarray(row * gallery.rows, (row + 1) * gallery.rows);
      const label = test.labels[first + row];
      settings.forEach((setting, s) =>
        ranks[s].push(worstClassRank(line, { labels: train.labels, classes, label, ...setting }))
      );
    }
  }
  return ranks;
}

/** Each row three times over, for ties at every edge. */
function tripled({ features, labels }: Labelled): Labelled {
  const { data, columns } = features;
  const repeated = new Float32Array(3 * data.length);
  for (const copy of [0, 1, 2]) repeated.set(data, copy * data.length);
  return { features: matrixFrom(repeated, columns), labels: Uint32Array.from([...labels, ...labels, ...labels]) };
}

eachDevice(
  "k-NN by the nearest items alone is exactly k-NN by all scores, ties and collapse included",
  async (device) => {
    const train = clusters({ count: 150, classes: 6, columns: 9, spread: 1.2, seed: 8 });
    const test = clusters({ count: 67, classes: 6, columns: 9, spread: 1.2, seed: 9 });
    const cases: [string, Labelled, Labelled][] = [
      ["clusters", train, test],
      ["ties", tripled(train), test],
      ["collapsed", collapsed(150, 6), collapsed(10, 6)],
      ["few", clusters({ count: 7, classes: 3, columns: 9, spread: 1, seed: 3 }), test],
    ];
    const before = device.memory.liveBytes;
    for (const [name, gallery, queries] of cases) {
      const expected = await bruteForce(gallery, queries, deviceSimilarity(device));
      for (const nearest of [deviceNeighbours(device), deviceNeighbours(device, { floatsMax: 1000 }), neighboursBy()]) {
        const found = await knnRanks(gallery, queries, { settings, nearest });
        assertEquals(found.map((ranks) => [...ranks]), expected, name);
      }
    }
    assertEquals(device.memory.liveBytes, before);
    assert(new Set((await bruteForce(train, test, deviceSimilarity(device))).flat()).size > 2, "ranks vary");
  },
);
