/**
 * Multi-head self-attention over packed projections `qkv [N, T, 3, H, D]` (torchvision's `in_proj` order: all queries,
 * then keys, then values): softmax(QKᵀ/√D)·V per image and head, `[N, T, H, D]`, and its gradient. The probabilities
 * `[N, H, T, T]` are kept. Every sum has one invocation and a fixed order. It does not know what a token stands for.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, once, pointwise } from "./wgsl.ts";

/** N images of T tokens, H heads of D features. */
export interface AttentionShape {
  readonly images: number;
  readonly tokens: number;
  readonly heads: number;
  readonly features: number;
}

const nameOf = ({ images, tokens, heads, features }: AttentionShape) => `${images}x${tokens}x${heads}x${features}`;

/** Floats of the probabilities. */
export function attentionProbabilities({ images, tokens, heads }: AttentionShape): number {
  return images * heads * tokens * tokens;
}

/** WGSL: image, head and token of row `i` of `[N, H, T]`. */
const rowIndices = ({ tokens, heads }: AttentionShape) => `
  let image = i / ${heads * tokens}u;
  let head = i / ${tokens}u % ${heads}u;
  let own = image * ${tokens}u + i % ${tokens}u;
  let row = i * ${tokens}u;
  let row_end = row + ${tokens}u;`;

/** Softmax of the scaled products of queries and keys. Buffers: qkv, probabilities. */
export function attentionSoftmax(shape: AttentionShape): Kernel {
  const { images, tokens, heads, features } = shape;
  const token = 3 * heads * features;
  return once(`attention softmax ${nameOf(shape)}`, () =>
    pointwise({
      label: `attention softmax ${nameOf(shape)}`,
      storage: [["qkv", "read"], ["probabilities", "write"]],
      invocations: images * heads * tokens,
      count: `arrayLength(&probabilities) / ${tokens}u`,
      body: `${rowIndices(shape)}
  let q = own * ${token}u + head * ${features}u;
  var maximum = -3e38;
  for (var e = row; e < row_end; e++) {
    let other = image * ${tokens}u + e - row;
    let k = other * ${token}u + ${heads * features}u + head * ${features}u;${
        blockSums({ element: "f32", first: "q", end: `q + ${features}u`, sums: { total: "qkv[at] * qkv[k + at - q]" } })
      }
    let score = total * ${1 / Math.sqrt(features)};
    probabilities[e] = score;
    maximum = max(maximum, score);
  }
  var mass = 0.0;
  for (var e = row; e < row_end; e++) {
    let weight = exp(probabilities[e] - maximum);
    probabilities[e] = weight;
    mass += weight;
  }
  for (var e = row; e < row_end; e++) { probabilities[e] = probabilities[e] / mass; }`,
    }));
}

/** Values averaged by the probabilities. Buffers: qkv, probabilities, result `[N, T, H, D]`. */
export function attentionOutput(shape: AttentionShape): Kernel {
  const { images, tokens, heads, features } = shape;
  const width = heads * features;
  return once(`attention output ${nameOf(shape)}`, () =>
    pointwise({
      label: `attention output ${nameOf(shape)}`,
      storage: [["qkv", "read"], ["probabilities", "read"], ["result", "write"]],
      invocations: images * tokens * width,
      count: "arrayLength(&result)",
      body: `
  let image = i / ${tokens * width}u;
  let t = i / ${width}u % ${tokens}u;
  let inside = i % ${width}u;
  let row = ((image * ${heads}u + inside / ${features}u) * ${tokens}u + t) * ${tokens}u;
  let v = image * ${3 * tokens * width}u + ${2 * width}u + inside;${
        blockSums({
          element: "f32",
          first: "row",
          end: `row + ${tokens}u`,
          sums: { total: `probabilities[at] * qkv[v + (at - row) * ${3 * width}u]` },
        })
      }
  result[i] = total;`,
    }));
}

/**
 * Gradient towards the products of queries and keys. Buffers: upstream gradient `[N, T, H, D]`, qkv, probabilities,
 * result `[N, H, T, T]`.
 */
export function attentionScoreGradient(shape: AttentionShape): Kernel {
  const { images, tokens, heads, features } = shape;
  const width = heads * features;
  return once(`attention score gradient ${nameOf(shape)}`, () =>
    pointwise({
      label: `attention score gradient ${nameOf(shape)}`,
      storage: [["g", "read"], ["qkv", "read"], ["probabilities", "read"], ["result", "write"]],
      invocations: images * heads * tokens,
      count: `arrayLength(&result) / ${tokens}u`,
      body: `${rowIndices(shape)}
  let first = own * ${width}u + head * ${features}u;
  var along = 0.0;
  for (var e = row; e < row_end; e++) {
    let other = image * ${tokens}u + e - row;
    let v = other * ${3 * width}u + ${2 * width}u + head * ${features}u;${
        blockSums({
          element: "f32",
          first: "first",
          end: `first + ${features}u`,
          sums: { total: "g[at] * qkv[v + at - first]" },
        })
      }
    result[e] = total;
    along += total * probabilities[e];
  }
  for (var e = row; e < row_end; e++) {
    result[e] = probabilities[e] * (result[e] - along) * ${1 / Math.sqrt(features)};
  }`,
    }));
}

/**
 * Gradient towards qkv. Buffers: upstream gradient `[N, T, H, D]`, qkv, probabilities, score gradient `[N, H, T, T]`,
 * result as qkv.
 */
export function attentionGradient(shape: AttentionShape): Kernel {
  const { images, tokens, heads, features } = shape;
  const width = heads * features;
  return once(`attention gradient ${nameOf(shape)}`, () =>
    pointwise({
      label: `attention gradient ${nameOf(shape)}`,
      storage: [["g", "read"], ["qkv", "read"], ["probabilities", "read"], ["scores", "read"], ["result", "write"]],
      invocations: images * tokens * 3 * width,
      count: "arrayLength(&result)",
      body: `
  let image = i / ${tokens * 3 * width}u;
  let t = i / ${3 * width}u % ${tokens}u;
  let part = i / ${width}u % 3u;
  let inside = i % ${width}u;
  let square = (image * ${heads}u + inside / ${features}u) * ${tokens * tokens}u;
  let first = image * ${tokens}u;
  let start = square + select(t, t * ${tokens}u, part == 0u);
  let step = select(${tokens}u, 1u, part == 0u);
  let source = select(0u, ${width}u, part == 0u) + inside;${
        blockSums({
          element: "f32",
          first: "first",
          end: `first + ${tokens}u`,
          setup: `let e = start + (at - first) * step;
      var term = 0.0;
      if (part == 2u) { term = probabilities[e] * g[at * ${width}u + inside]; }
      else { term = scores[e] * qkv[at * ${3 * width}u + source]; }`,
          sums: { total: "term" },
        })
      }
  result[i] = total;`,
    }));
}

/** CPU reference in double precision: output, and the gradient towards qkv for upstream gradient `g`. */
export function attentionReference(
  { qkv, g }: { qkv: Float32Array; g: Float32Array },
  { images, tokens, heads, features }: AttentionShape,
): { output: Float32Array<ArrayBuffer>; gradient: Float32Array<ArrayBuffer> } {
  const width = heads * features, factor = 1 / Math.sqrt(features);
  const output = new Float64Array(g.length), gradient = new Float64Array(qkv.length);
  const dot = (length: number, term: (c: number) => number) => {
    let sum = 0;
    for (let c = 0; c < length; c++) sum += term(c);
    return sum;
  };
  for (let group = 0; group < images * heads; group++) {
    const image = Math.floor(group / heads), head = group % heads;
    const at = (t: number, part: number) => ((image * tokens + t) * 3 + part) * width + head * features;
    const out = (t: number) => (image * tokens + t) * width + head * features;
    for (let t = 0; t < tokens; t++) {
      const keys = Array.from({ length: tokens }, (_, s) => s);
      const scores = keys.map((s) => factor * dot(features, (c) => qkv[at(t, 0) + c] * qkv[at(s, 1) + c]));
      const top = Math.max(...scores), mass = dot(tokens, (s) => Math.exp(scores[s] - top));
      const p = scores.map((score) => Math.exp(score - top) / mass);
      const towards = keys.map((s) => dot(features, (c) => g[out(t) + c] * qkv[at(s, 2) + c]));
      const along = dot(tokens, (s) => p[s] * towards[s]);
      for (const s of keys) {
        const score = p[s] * (towards[s] - along) * factor;
        for (let c = 0; c < features; c++) {
          output[out(t) + c] += p[s] * qkv[at(s, 2) + c];
          gradient[at(t, 0) + c] += score * qkv[at(s, 1) + c];
          gradient[at(s, 1) + c] += score * qkv[at(t, 0) + c];
          gradient[at(s, 2) + c] += p[s] * g[out(t) + c];
        }
      }
    }
  }
  return { output: new Float32Array(output), gradient: new Float32Array(gradient) };
}
