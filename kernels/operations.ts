/**
 * The heavy operations with all their variants, gathered from the files that hold one family each. The roles of buffers
 * and what fused passes bind are told here, once for every variant:
 *
 * - forward: (input, weight, [normaliser, [gate]], output, [moments]). `moments` are partial moments as
 *   `batchNormMoments` writes them, `[chunks, 3, outChannels]` f32 (sum, centred squares, rows of each chunk), with as many
 *   chunks as the variant likes.
 * - input gradient: with a `plain` load (outGradient, weight, inputGradient). `normalised` and `normalised relu` also bind
 *   (raw, normaliser) and write `sums`: the result is the gradient towards the normalised value before ReLU (masked where
 *   ReLU was), and `sums` `[chunks, 2, inChannels]` f32 holds per chunk Σ g and Σ g · (raw − mean), as
 *   `batchNormGradientSums` writes them. `normalised relu gated` gives the plain gradient towards the gated input.
 * - weight gradient: (input, outGradient, [normaliser, [gate]], weightGradient); the input is loaded as in the forward pass.
 * - matmul: (left, right, product).
 */
import { conv2dOutput, type Conv2dShape, describeConv2d } from "./conv2d_shape.ts";
import { describeMatmul, type MatmulShape } from "./matmul.ts";
import {
  matrixConv2dForwardVariants,
  matrixConv2dInputGradientVariants,
  matrixConv2dWeightGradientVariants,
  matrixMatmulVariants,
} from "./matrix/variants.ts";
import {
  registerForwardVariants,
  registerInputGradientVariants,
  registerMatmulVariants,
  registerWeightGradientVariants,
} from "./register_variants.ts";
import {
  tileConv2dForwardVariants,
  tileConv2dInputGradientVariants,
  tileConv2dWeightGradientVariants,
  tileMatmulVariants,
} from "./tile/variants.ts";
import { type HeavyOperation, usualVariant, type Variant } from "./variant.ts";

/** Buffers of the three passes of a convolution. */
export type Conv2dForwardRole = "input" | "weight" | "normaliser" | "gate" | "output" | "moments";
export type Conv2dInputGradientRole = "outGradient" | "weight" | "raw" | "normaliser" | "inputGradient" | "sums";
export type Conv2dWeightGradientRole = "input" | "outGradient" | "normaliser" | "gate" | "weightGradient";
/** Buffers of a matrix multiply. */
export type MatmulRole = "left" | "right" | "product";

const forwardVariants: readonly Variant<Conv2dShape, Conv2dForwardRole>[] = [
  ...registerForwardVariants,
  ...tileConv2dForwardVariants,
  ...matrixConv2dForwardVariants,
];

const inputGradientVariants: readonly Variant<Conv2dShape, Conv2dInputGradientRole>[] = [
  ...registerInputGradientVariants,
  ...tileConv2dInputGradientVariants,
  ...matrixConv2dInputGradientVariants,
];

const weightGradientVariants: readonly Variant<Conv2dShape, Conv2dWeightGradientRole>[] = [
  ...registerWeightGradientVariants,
  ...tileConv2dWeightGradientVariants,
  ...matrixConv2dWeightGradientVariants,
];

const matmulVariants: readonly Variant<MatmulShape, MatmulRole>[] = [
  ...registerMatmulVariants,
  ...tileMatmulVariants,
  ...matrixMatmulVariants,
];

const conv2dFlops = (shape: Conv2dShape) => {
  const { outputLength, weightLength } = conv2dOutput(shape);
  return 2 * outputLength * (weightLength / shape.outChannels);
};

/** Bytes of a convolution's tensors as they are stored. */
function conv2dBytes(shape: Conv2dShape) {
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const { storage = "f32", load = "plain", batch, inChannels } = shape;
  const each = storage === "f16" ? 2 : 4;
  return {
    input: each * inputLength,
    output: each * outputLength,
    weight: each * weightLength,
    weightGradient: 4 * weightLength,
    ...(load === "plain" ? {} : { normaliser: 16 * inChannels }),
    ...(load === "normalised relu gated" ? { gate: 4 * batch * inChannels } : {}),
  };
}

/** Whether the input gradient goes on through the normalisation of the input. */
export function gradientPassesNorm({ load = "plain" }: Conv2dShape): boolean {
  return load === "normalised" || load === "normalised relu";
}

/** Convolution forward. */
export const conv2dForwardOperation: HeavyOperation<Conv2dShape, Conv2dForwardRole> = {
  name: "conv2d forward",
  describe: describeConv2d,
  variants: () => forwardVariants,
  usual: (shape, device) => usualVariant(forwardVariants, { shape, device, operation: "conv2d forward" }),
  flops: conv2dFlops,
  bufferBytes(shape) {
    const { weightGradient: _weightGradient, ...bytes } = conv2dBytes(shape);
    return bytes;
  },
};

/** Convolution's gradient towards its input. */
export const conv2dInputGradientOperation: HeavyOperation<Conv2dShape, Conv2dInputGradientRole> = {
  name: "conv2d input gradient",
  describe: describeConv2d,
  variants: () => inputGradientVariants,
  usual: (shape, device) => usualVariant(inputGradientVariants, { shape, device, operation: "conv2d input gradient" }),
  flops: conv2dFlops,
  bufferBytes(shape) {
    const { input, output, weight, normaliser } = conv2dBytes(shape);
    const through = gradientPassesNorm(shape) ? { raw: input, normaliser } : {};
    return { outGradient: output, weight, inputGradient: input, ...through };
  },
};

/** Convolution's gradient towards its weights. */
export const conv2dWeightGradientOperation: HeavyOperation<Conv2dShape, Conv2dWeightGradientRole> = {
  name: "conv2d weight gradient",
  describe: describeConv2d,
  variants: () => weightGradientVariants,
  usual: (shape, device) =>
    usualVariant(weightGradientVariants, { shape, device, operation: "conv2d weight gradient" }),
  flops: conv2dFlops,
  bufferBytes(shape) {
    const { output, weight: _weight, ...bytes } = conv2dBytes(shape);
    return { ...bytes, outGradient: output };
  },
};

/** Matrix multiply. */
export const matmulOperation: HeavyOperation<MatmulShape, MatmulRole> = {
  name: "matmul",
  describe: describeMatmul,
  variants: () => matmulVariants,
  usual: (shape, device) => usualVariant(matmulVariants, { shape, device, operation: "matmul" }),
  flops: ({ m, n, k }) => 2 * m * n * k,
  bufferBytes({ m, n, k, storage }) {
    const each = storage === "f16" ? 2 : 4;
    return { left: each * m * k, right: each * k * n, product: each * m * n };
  },
};

/** Every heavy operation by name, for tuners and benchmarks. */
export const heavyOperations = {
  "matmul": matmulOperation,
  "conv2d forward": conv2dForwardOperation,
  "conv2d input gradient": conv2dInputGradientOperation,
  "conv2d weight gradient": conv2dWeightGradientOperation,
} as const;
