/** The largest numbers of each row of a tensor, read back without the others. It has no gradient. */
import { topBand } from "../../kernels/top_k.ts";
import { readTensors, type Tensor } from "../tensor.ts";

/** Places for numbers tied with the k-th; rows with more ties are read whole. */
const TIES = 56;

/**
 * Of `scores [rows, columns]`, for each row its `count` largest numbers with their columns, ascending by column, and all
 * others within 2e-6 of the smallest of these; a row with many ties gives more.
 */
export async function topItems(scores: Tensor, count: number): Promise<(row: number) => Iterable<[number, number]>> {
  const { device, shape: [rows, columns] } = scores;
  const k = Math.min(count, columns), capacity = Math.min(columns, k + TIES);
  const buffers = [rows * capacity, rows * capacity, rows].map((numbers) => device.allocate(4 * numbers));
  try {
    device.run(topBand({ rows, columns, k, capacity }), [scores.buffer, ...buffers]);
    const [items, values, counts] = await device.read(
      buffers.map((buffer, i) => ({ buffer, byteLength: 4 * rows * (i < 2 ? capacity : 1) })),
    );
    const places = new Uint32Array(items.slice().buffer), found = new Float32Array(values.slice().buffer);
    const totals = new Uint32Array(counts.slice().buffer);
    const [all] = totals.some((total) => total > capacity) ? await readTensors([scores]) : [];
    return function* (row) {
      if (all !== undefined && totals[row] > capacity) {
        yield* all.subarray(row * columns, (row + 1) * columns).entries();
        return;
      }
      for (let at = row * capacity; at < row * capacity + totals[row]; at++) yield [places[at], found[at]];
    };
  } finally {
    for (const buffer of buffers) device.free(buffer);
  }
}
