/**
 * The scores of `similarity.ts` and the nearest items of `neighbours.ts` on a device: one matrix product per block of
 * queries and part of the gallery. It knows no label.
 */
import type { Device } from "../device/device.ts";
import { linear } from "../tensor/ops/linear.ts";
import { topItems } from "../tensor/ops/top_k.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../tensor/tensor.ts";
import type { Matrix } from "./matrix.ts";
import { type Near, type Neighbours, neighboursBy } from "./neighbours.ts";
import { BLOCK_FLOATS, requireSameColumns, type ScoreBlock, type Similarity } from "./similarity.ts";

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

/** A matrix product on the device: queries `[first, first + rows)` against part of the gallery. */
interface Product {
  readonly first: number;
  readonly rows: number;
  readonly part: { readonly first: number; readonly rows: number };
  /** `[rows, part.rows]`, until the next product is asked for. */
  readonly scores: Tensor;
}

/** All products, the parts of the gallery in turn for each block of `step` queries. */
async function* products(
  device: Device,
  { queries, gallery }: { queries: Matrix; gallery: Matrix },
  floatsMax: number,
): AsyncGenerator<Product> {
  requireSameColumns(queries, gallery);
  const { columns } = queries;
  const { bindingBytesMax } = device.adapter.limits;
  const partRows = Math.max(1, Math.floor(Math.min(PART_BYTES, bindingBytesMax) / (4 * columns)));
  const floats = Math.min(floatsMax, bindingBytesMax / 4);
  const step = Math.min(Math.max(1, Math.floor(floats / gallery.rows)), partRows);
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
      try {
        for (const part of parts) {
          const tape = new Tape(device, { gradients: false });
          try {
            yield { first, rows, part, scores: linear(tape, tensor, part.tensor) };
          } finally {
            tape.dispose();
          }
        }
      } finally {
        freeTensors([tensor]);
      }
    }
  } finally {
    freeTensors(parts.map(({ tensor }) => tensor));
  }
}

/** {@linkcode Similarity} on `device`, in f32. */
export function deviceSimilarity(device: Device): Similarity {
  return async function* (queries: Matrix, gallery: Matrix): AsyncIterable<ScoreBlock> {
    let scores = new Float32Array(0);
    for await (const product of products(device, { queries, gallery }, BLOCK_FLOATS)) {
      const { first, rows, part } = product;
      if (part.first === 0) scores = new Float32Array(rows * gallery.rows);
      const [values] = await readTensors([product.scores]);
      for (let row = 0; row < rows; row++) {
        scores.set(values.subarray(row * part.rows, (row + 1) * part.rows), row * gallery.rows + part.first);
      }
      if (part.first + part.rows === gallery.rows) yield { first, rows, scores };
    }
  };
}

/** The faster of both ways on `device`, with the same result: a software adapter selects more slowly than it is read. */
export function nearestOn(device: Device): Neighbours {
  return device.adapter.kind === "gpu" ? deviceNeighbours(device) : neighboursBy(deviceSimilarity(device));
}

/** Scores of a block that stay on the device: 64 MiB. */
const NEAR_FLOATS = 1 << 24;

/** {@linkcode Neighbours} on `device`: products and selection there, the nearest read back. */
export function deviceNeighbours(device: Device, options: { readonly floatsMax?: number } = {}): Neighbours {
  const { floatsMax = NEAR_FLOATS } = options;
  return async function* (queries, gallery, { count }): AsyncIterable<Near> {
    let found: { items: number[]; scores: number[] }[] = [];
    for await (const product of products(device, { queries, gallery }, floatsMax)) {
      const { first, rows, part } = product;
      if (part.first === 0) found = Array.from({ length: rows }, () => ({ items: [], scores: [] }));
      const selected = await topItems(product.scores, count);
      for (let row = 0; row < rows; row++) {
        const { items, scores } = found[row];
        for (const [item, score] of selected(row)) {
          items.push(part.first + item);
          scores.push(score);
        }
      }
      if (part.first + part.rows < gallery.rows) continue;
      for (const [row, { items, scores }] of found.entries()) {
        yield { query: first + row, items: Uint32Array.from(items), scores: Float32Array.from(scores) };
      }
    }
  };
}
