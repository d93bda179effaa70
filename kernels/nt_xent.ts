/**
 * NT-Xent, the loss of SimCLR (arXiv 2002.05709, equation 1), for the rows of one replica against those of the world: for
 * scores s `[rows, columns]` (cosines), temperature τ and a constant scale, row i loses
 * `scale · (log Σ_{k≠i} exp(s[i,k]/τ) − s[i,p]/τ)`. The replica's own rows are the first columns, the second half of them
 * the other views of the first: p = (i + rows/2) mod rows. The gradient is towards what both factors of the scores are
 * made of, so it counts every pair twice: once with row i as the anchor, once with column k as one, whose log-sum another
 * replica may have computed. It knows no replica and no embedding.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, once, pointwise } from "./wgsl.ts";

/** Static shape and constants of the loss. */
export interface NtXentShape {
  /** Rows of this replica: both views of its images. */
  readonly rows: number;
  /** Rows of the world. */
  readonly columns: number;
  readonly temperature: number;
  /** Factor of every row's loss: 1 / columns for this replica's share of the world's mean. */
  readonly scale: number;
}

const CHUNK = 128;
const nameOf = ({ rows, columns, temperature, scale }: NtXentShape) =>
  `${rows}x${columns} temperature ${temperature} scale ${scale}`;
const chunksOf = ({ columns }: NtXentShape) => Math.ceil(columns / CHUNK);

/** Floats of the buffer of partial results. */
export function ntXentPartials(shape: NtXentShape): number {
  return shape.rows * chunksOf(shape) * 2;
}

/** First pass. Buffers: scores, partials `[rows, chunks]` of (maximum m of s/τ, Σ exp(s/τ − m)), the row itself left out. */
export function ntXentPartial(shape: NtXentShape): Kernel {
  return once(`nt-xent partial ${nameOf(shape)}`, () => {
    const { rows, columns, temperature } = shape;
    const chunks = chunksOf(shape);
    return pointwise({
      label: `nt-xent partial ${rows}x${columns}`,
      storage: [["scores", "read"], ["partials", "write", "vec2f"]],
      invocations: rows * chunks,
      count: "arrayLength(&partials)",
      // Cosines lie above the first maximum; of the even number of columns none is alone in its chunk.
      body: `
  let row = i / ${chunks}u;
  let start = i % ${chunks}u * ${CHUNK}u;
  let first = row * ${columns}u + start;
  let end = first + min(${CHUNK}u, ${columns}u - start);
  let itself = row * ${columns}u + row;
  var maximum = -1e30;
  for (var at = first; at < end; at++) { maximum = select(max(maximum, scores[at]), maximum, at == itself); }${
        blockSums({
          element: "f32",
          first: "first",
          end: "end",
          sums: { total: `select(exp((scores[at] - maximum) * ${1 / temperature}), 0.0, at == itself)` },
        })
      }
  partials[i] = vec2f(maximum * ${1 / temperature}, total);`,
    });
  });
}

/** Second pass. Buffers: partials, scores, losses `[rows]`, log-sums `[rows]`: log Σ_{k≠i} exp(s[i,k]/τ). */
export function ntXentCombine(shape: NtXentShape): Kernel {
  return once(`nt-xent combine ${nameOf(shape)}`, () => {
    const { rows, columns, temperature, scale } = shape;
    const chunks = chunksOf(shape);
    return pointwise({
      label: `nt-xent combine ${rows}x${columns}`,
      storage: [["partials", "read", "vec2f"], ["scores", "read"], ["losses", "write"], ["logSums", "write"]],
      invocations: rows,
      count: "arrayLength(&losses)",
      body: `
  let first = i * ${chunks}u;
  let end = first + ${chunks}u;
  var maximum = partials[first].x;
  for (var at = first + 1u; at < end; at++) { maximum = max(maximum, partials[at].x); }
  var total = 0.0;
  for (var at = first; at < end; at++) { total += partials[at].y * exp(partials[at].x - maximum); }
  let logSum = maximum + log(total);
  let positive = (i + ${rows / 2}u) % ${rows}u;
  logSums[i] = logSum;
  losses[i] = ${scale} * (logSum - scores[i * ${columns}u + positive] * ${1 / temperature});`,
    });
  });
}

/**
 * Third pass. Buffers: scores, log-sums of the world `[columns]` in the order of the columns, and the result
 * `[rows, columns]`, whose product with the world's embeddings is the gradient towards this replica's embeddings.
 */
export function ntXentGradient(shape: NtXentShape): Kernel {
  return once(`nt-xent gradient ${nameOf(shape)}`, () => {
    const { rows, columns, temperature, scale } = shape;
    return pointwise({
      label: `nt-xent gradient ${rows}x${columns}`,
      storage: [["scores", "read"], ["logSums", "read"], ["result", "write"]],
      invocations: rows * columns,
      count: "arrayLength(&result)",
      body: `
  let row = i / ${columns}u;
  let column = i % ${columns}u;
  let a = scores[i] * ${1 / temperature};
  let positive = (row + ${rows / 2}u) % ${rows}u;
  let both = exp(a - logSums[row]) + exp(a - logSums[column]) - select(0.0, 2.0, column == positive);
  result[i] = select(both * ${scale / temperature}, 0.0, column == row);`,
    });
  });
}

/** CPU reference in double precision: losses and log-sums of the rows, and the third pass's result. */
export function ntXentReference(
  { scores, worldLogSums }: { scores: Float32Array; worldLogSums?: Float32Array },
  { rows, columns, temperature, scale }: NtXentShape,
): Record<"losses" | "logSums" | "gradient", Float32Array<ArrayBuffer>> {
  const losses = new Float32Array(rows), logSums = new Float32Array(rows);
  const gradient = new Float32Array(rows * columns);
  const scoreOf = (row: number, column: number) => scores[row * columns + column] / temperature;
  const positiveOf = (row: number) => (row + rows / 2) % rows;
  const exact = Array.from({ length: rows }, (_, row) => {
    let total = 0;
    for (let column = 0; column < columns; column++) if (column !== row) total += Math.exp(scoreOf(row, column));
    return Math.log(total);
  });
  for (let row = 0; row < rows; row++) {
    logSums[row] = exact[row];
    losses[row] = scale * (exact[row] - scoreOf(row, positiveOf(row)));
    for (let column = 0; column < columns && worldLogSums !== undefined; column++) {
      if (column === row) continue;
      const a = scoreOf(row, column);
      const both = Math.exp(a - exact[row]) + Math.exp(a - worldLogSums[column]) - (column === positiveOf(row) ? 2 : 0);
      gradient[row * columns + column] = both * scale / temperature;
    }
  }
  return { losses, logSums, gradient };
}
