/**
 * What fused convolutions must give, in double precision from the plain references: inputs normalised beforehand,
 * gradients taken through ReLU afterwards, moments and sums over what was stored.
 */
import { conv2dInputGradientReference, conv2dOutput, type Conv2dShape } from "../../../kernels/conv2d.ts";
import { madeUp } from "../close.ts";
import { stored } from "./run.ts";

type Numbers = Float32Array<ArrayBuffer>;

/** Made-up operands of a shape, as its storage keeps them. */
export interface ConvData {
  readonly input: Numbers;
  readonly weight: Numbers;
  readonly outGradient: Numbers;
  /** `[4, Ci]` and `[N, Ci]`. */
  readonly normaliser: Numbers;
  readonly gate: Numbers;
}

/** Operands that are the same in every run. */
export function convData(shape: Conv2dShape): ConvData {
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const { storage = "f32", inChannels, batch } = shape;
  return {
    input: stored(madeUp(inputLength, 1), storage),
    weight: stored(madeUp(weightLength, 2), storage),
    outGradient: stored(madeUp(outputLength, 3), storage),
    normaliser: madeUp(4 * inChannels, 4).map((value, i) => Math.floor(i / inChannels) % 2 === 1 ? value + 1.5 : value),
    gate: madeUp(batch * inChannels, 5),
  };
}

/** The input as the convolution's load gives it. */
export function loadedInput(shape: Conv2dShape, { input, normaliser, gate }: ConvData): Numbers {
  const { inChannels, height, width, load = "plain" } = shape;
  if (load === "plain") return input;
  return input.map((value, i) => {
    const c = i % inChannels;
    const normalised = (value - normaliser[c]) * normaliser[inChannels + c] + normaliser[2 * inChannels + c];
    const rectified = load === "normalised" ? normalised : Math.max(0, normalised);
    return load === "normalised relu gated"
      ? rectified * gate[Math.floor(i / (height * width * inChannels)) * inChannels + c]
      : rectified;
  });
}

/** The gradient towards the input as the fused pass stores it. */
export function inputGradientThroughLoad(shape: Conv2dShape, data: ConvData): Numbers {
  const plain = conv2dInputGradientReference(shape, data);
  if (shape.load !== "normalised relu") return plain;
  const normalised = loadedInput({ ...shape, load: "normalised" }, data);
  return plain.map((value, i) => normalised[i] > 0 ? value : 0);
}

/** Σ g and Σ g · (raw − mean) of each channel. */
export function gradientSums(shape: Conv2dShape, gradient: Numbers, { input, normaliser }: ConvData): Numbers {
  const { inChannels } = shape;
  const sums = new Float64Array(2 * inChannels);
  gradient.forEach((value, i) => {
    const c = i % inChannels;
    sums[c] += value;
    sums[inChannels + c] += value * (input[i] - normaliser[c]);
  });
  return Float32Array.from(sums);
}

/** Mean, variance (biased) and rows of each column of `values [rows, channels]`. */
export function momentsOf(values: Numbers, channels: number): Numbers {
  const rows = values.length / channels;
  const [mean, variance] = [new Float64Array(channels), new Float64Array(channels)];
  values.forEach((value, i) => mean[i % channels] += value / rows);
  values.forEach((value, i) => variance[i % channels] += (value - mean[i % channels]) ** 2 / rows);
  return Float32Array.from([...mean, ...variance, ...new Array<number>(channels).fill(rows)]);
}
