/**
 * The two ends of a row of tokens: patches behind a class token, with positions added, `[N, T, C]`; and the class token
 * alone, `[N, C]`; with their gradients. It does not know where tokens come from.
 */
import type { Kernel } from "./kernel.ts";
import { blockSums, once, pointwise } from "./wgsl.ts";

/** N images of T tokens, the class token included, of C features. */
export interface TokensShape {
  readonly images: number;
  readonly tokens: number;
  readonly width: number;
}

const nameOf = ({ images, tokens, width }: TokensShape) => `${images}x${tokens}x${width}`;

/** Class token, then patches, plus positions. Buffers: patches `[N, T − 1, C]`, class `[C]`, positions `[T, C]`, result. */
export function joinTokens(shape: TokensShape): Kernel {
  const { images, tokens, width } = shape;
  return once(`join tokens ${nameOf(shape)}`, () =>
    pointwise({
      label: `join tokens ${nameOf(shape)}`,
      storage: [["patches", "read"], ["class_token", "read"], ["positions", "read"], ["result", "write"]],
      invocations: images * tokens * width,
      count: "arrayLength(&result)",
      body: `
  let row = i / ${width}u;
  let c = i % ${width}u;
  let t = row % ${tokens}u;
  let patch_row = row / ${tokens}u * ${tokens - 1}u + max(t, 1u) - 1u;
  let value = select(patches[patch_row * ${width}u + c], class_token[c], t == 0u);
  result[i] = value + positions[t * ${width}u + c];`,
    }));
}

/** Gradient towards the patches. Buffers: upstream gradient `[N, T, C]`, result `[N, T − 1, C]`. */
export function joinTokensPatchGradient(shape: TokensShape): Kernel {
  const { images, tokens, width } = shape;
  return once(`join tokens patch gradient ${nameOf(shape)}`, () =>
    pointwise({
      label: `join tokens patch gradient ${nameOf(shape)}`,
      storage: [["g", "read"], ["result", "write"]],
      invocations: images * (tokens - 1) * width,
      count: "arrayLength(&result)",
      body: `
  let row = i / ${width}u;
  result[i] = g[(row + row / ${tokens - 1}u + 1u) * ${width}u + i % ${width}u];`,
    }));
}

/** Sum over images, the gradient towards positions; its first row is that of the class token. Buffers: upstream gradient, result `[T, C]`. */
export function joinTokensPositionGradient(shape: TokensShape): Kernel {
  const { tokens, width } = shape;
  const row = tokens * width;
  return once(`join tokens position gradient ${nameOf(shape)}`, () =>
    pointwise({
      label: `join tokens position gradient ${nameOf(shape)}`,
      storage: [["g", "read"], ["result", "write"]],
      invocations: row,
      count: "arrayLength(&result)",
      body: `${blockSums({ element: "f32", first: "i", end: "arrayLength(&g)", stride: row, sums: { total: "g[at]" } })}
  result[i] = total;`,
    }));
}

/** The class tokens. Buffers: x `[N, T, C]`, result `[N, C]`. */
export function classTokens(shape: TokensShape): Kernel {
  const { images, tokens, width } = shape;
  return once(`class tokens ${nameOf(shape)}`, () =>
    pointwise({
      label: `class tokens ${nameOf(shape)}`,
      storage: [["x", "read"], ["result", "write"]],
      invocations: images * width,
      count: "arrayLength(&result)",
      body: `result[i] = x[i / ${width}u * ${tokens * width}u + i % ${width}u];`,
    }));
}

/** Gradient towards all tokens, zero but for the class tokens. Buffers: upstream gradient `[N, C]`, result `[N, T, C]`. */
export function classTokensGradient(shape: TokensShape): Kernel {
  const { images, tokens, width } = shape;
  return once(`class tokens gradient ${nameOf(shape)}`, () =>
    pointwise({
      label: `class tokens gradient ${nameOf(shape)}`,
      storage: [["g", "read"], ["result", "write"]],
      invocations: images * tokens * width,
      count: "arrayLength(&result)",
      body: `
  let row = i / ${width}u;
  let value = g[row / ${tokens}u * ${width}u + i % ${width}u];
  result[i] = select(0.0, value, row % ${tokens}u == 0u);`,
    }));
}

/** CPU reference: joined tokens, and the gradients towards patches and positions for upstream gradient `g`. */
export function joinTokensReference(
  inputs: Readonly<Record<"patches" | "classToken" | "positions" | "g", Float32Array>>,
  { images, tokens, width }: TokensShape,
): Readonly<Record<"output" | "patches" | "positions", Float32Array<ArrayBuffer>>> {
  const { patches, classToken, positions, g } = inputs;
  const output = new Float32Array(g.length), towards = new Float32Array(patches.length);
  const sums = new Float64Array(positions.length);
  for (let image = 0; image < images; image++) {
    for (let t = 0; t < tokens; t++) {
      for (let c = 0; c < width; c++) {
        const at = (image * tokens + t) * width + c, patch = (image * (tokens - 1) + t - 1) * width + c;
        output[at] = (t === 0 ? classToken[c] : patches[patch]) + positions[t * width + c];
        if (t > 0) towards[patch] = g[at];
        sums[t * width + c] += g[at];
      }
    }
  }
  return { output, patches: towards, positions: new Float32Array(sums) };
}
