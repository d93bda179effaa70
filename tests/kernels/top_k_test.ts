import { assertEquals } from "@std/assert";
import { topBand, topBandReference, type TopBandShape } from "../../kernels/top_k.ts";
import { eachDevice } from "../devices.ts";
import { numbers, runKernel } from "./run.ts";

/** Random scores, a row of ties, a row of near ties, zeros of both signs. */
function scoresOf({ rows, columns }: TopBandShape): Float32Array<ArrayBuffer> {
  const scores = numbers(rows * columns, rows + columns);
  for (let i = 0; i < columns; i++) {
    if (rows > 1) scores[columns + i] = 0.25;
    if (rows > 2) scores[2 * columns + i] = -0.5 + (i % 7) * 6e-7;
    if (rows > 3) scores[3 * columns + i] = i % 3 === 0 ? -0 : i % 3 === 1 ? 0 : -1;
  }
  return scores;
}

eachDevice("topBand() finds the reference's items, in order, with their scores and their number", async (device) => {
  const shapes = [
    { rows: 5, columns: 1, k: 1, capacity: 1 },
    { rows: 4, columns: 63, k: 20, capacity: 63 },
    { rows: 6, columns: 200, k: 200, capacity: 200 },
    { rows: 70, columns: 1003, k: 20, capacity: 32 },
  ];
  for (const shape of shapes) {
    const scores = scoresOf(shape);
    const { rows, capacity } = shape;
    const [, items, values, counts] = await runKernel(device, topBand(shape), [
      scores,
      new Float32Array(rows * capacity),
      new Float32Array(rows * capacity),
      new Float32Array(rows),
    ]);
    const expected = topBandReference(scores, shape);
    const name = JSON.stringify(shape);
    assertEquals(new Uint32Array(counts.slice().buffer), expected.counts, name);
    assertEquals(new Uint32Array(items.slice().buffer), expected.items, name);
    assertEquals(values.slice(), expected.values, name);
  }
});
