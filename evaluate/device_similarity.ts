/**
 * The scores of `similarity.ts` on a device: one matrix product per block of queries and part of the gallery. It knows no
 * label.
 */
import type { Device } from "../device/device.ts";
import { linear } from "../tensor/ops/linear.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../tensor/tensor.ts";
import type { Matrix } from "./matrix.ts";
import { blockRows, requireSameColumns, type ScoreBlock, type Similarity } from "./similarity.ts";

/** Bytes of the gallery in one product, at most; the device's own limit may be lower. */
const PART_BYTES = 64 * 2 ** 20;

/** Rows `[first, first + rows)` as the columns of a `[columns, rows]` tensor. */
function uploadTransposed(device: Device, matrix: Matrix, { first, rows }: { first: number; rows: number }): Tensor {
  const { data, columns } = matrix;
  const turned = new Float32Array(columns * rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      turned[column * rows + row] = data[(first + row) * columns + column];
    }
  }
  return tensorFrom(device, turned, [columns, rows]);
}

async function multiply(queries: Tensor, gallery: Tensor): Promise<Float32Array<ArrayBuffer>> {
  const tape = new Tape(queries.device, { gradients: false });
  try {
    return (await readTensors([linear(tape, queries, gallery)]))[0];
  } finally {
    tape.dispose();
  }
}

/** {@linkcode Similarity} on `device`, in f32. */
export function deviceSimilarity(device: Device): Similarity {
  return async function* (queries: Matrix, gallery: Matrix): AsyncIterable<ScoreBlock> {
    requireSameColumns(queries, gallery);
    const { columns } = queries;
    const bytesMax = Math.min(PART_BYTES, device.adapter.limits.bindingBytesMax);
    const partRows = Math.max(1, Math.floor(bytesMax / (4 * columns)));
    const step = Math.min(blockRows(gallery), partRows);
    const parts: { first: number; rows: number; tensor: Tensor }[] = [];
    try {
      for (let first = 0; first < gallery.rows; first += partRows) {
        const rows = Math.min(partRows, gallery.rows - first);
        parts.push({ first, rows, tensor: uploadTransposed(device, gallery, { first, rows }) });
      }
      for (let first = 0; first < queries.rows; first += step) {
        const rows = Math.min(step, queries.rows - first);
        const block = queries.data.slice(first * columns, (first + rows) * columns);
        const tensor = tensorFrom(device, block, [rows, columns]);
        const scores = new Float32Array(rows * gallery.rows);
        for (const part of parts) {
          const product = await multiply(tensor, part.tensor);
          for (let row = 0; row < rows; row++) {
            const from = product.subarray(row * part.rows, (row + 1) * part.rows);
            scores.set(from, row * gallery.rows + part.first);
          }
        }
        freeTensors([tensor]);
        yield { first, rows, scores };
      }
    } finally {
      freeTensors(parts.map(({ tensor }) => tensor));
    }
  };
}
