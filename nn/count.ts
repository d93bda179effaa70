/** Parameters and multiply-adds of a RegNetY from its shapes alone, for plans and model summaries; needs no device. */
import { regnetBlocks, type RegnetSpec } from "./regnet_spec.ts";

/** One convolution or linear layer, as counted. */
interface Layer {
  readonly parameters: number;
  /** Multiply-adds per output pixel. */
  readonly weights: number;
  /** Pixels of the output, for a given size of its input image. */
  readonly at: "stem" | "input" | "output" | "pooled";
  readonly stage: number;
}

function layersOf(spec: RegnetSpec, classes?: number): Layer[] {
  const { stemWidth = 32 } = spec;
  const layers: Layer[] = [];
  const convolution = (
    { weights, width, at, stage }: { weights: number; width: number; at: Layer["at"]; stage: number },
  ) => layers.push({ parameters: weights + 2 * width, weights, at, stage });
  convolution({ weights: 27 * stemWidth, width: stemWidth, at: "stem", stage: -1 });
  for (const { stage, inWidth, width, stride, groups, squeezeWidth, projected } of regnetBlocks(spec)) {
    if (projected) convolution({ weights: inWidth * width, width, at: "output", stage });
    convolution({ weights: inWidth * width, width, at: stride === 2 ? "input" : "output", stage });
    convolution({ weights: 9 * width * width / groups, width, at: "output", stage });
    if (squeezeWidth > 0) {
      const weights = 2 * width * squeezeWidth;
      layers.push({ parameters: weights + squeezeWidth + width, weights, at: "pooled", stage });
    }
    convolution({ weights: width * width, width, at: "output", stage });
  }
  if (classes !== undefined) {
    const weights = (spec.widths.at(-1) ?? 0) * classes;
    layers.push({ parameters: weights + classes, weights, at: "pooled", stage: -1 });
  }
  return layers;
}

/** Trainable numbers of the trunk, plus those of a classifier when `classes` is given. */
export function countParameters(spec: RegnetSpec, options: { classes?: number } = {}): number {
  return layersOf(spec, options.classes).reduce((sum, { parameters }) => sum + parameters, 0);
}

/** Multiply-adds of one forward pass over one `size` × `size` image: convolutions, squeeze-and-excitation, classifier. */
export function countMacs(spec: RegnetSpec, size: number, options: { classes?: number } = {}): number {
  const halved = (extent: number, times: number): number =>
    times === 0 ? extent : halved(Math.floor((extent - 1) / 2) + 1, times - 1);
  return layersOf(spec, options.classes).reduce((sum, { weights, at, stage }) => {
    if (at === "pooled") return sum + weights;
    const extent = halved(size, at === "output" ? stage + 2 : stage + 1 + (at === "stem" ? 1 : 0));
    return sum + weights * extent ** 2;
  }, 0);
}

/** Numbers that one forward pass over one image keeps as outputs of convolutions ("activations" in the RegNet paper). */
export function countActivations(spec: RegnetSpec, size: number): number {
  const halved = (extent: number, times: number): number =>
    times === 0 ? extent : halved(Math.floor((extent - 1) / 2) + 1, times - 1);
  const { stemWidth = 32 } = spec;
  return regnetBlocks(spec).reduce((sum, { stage, stride, width, projected, squeezeWidth }) => {
    const output = halved(size, stage + 2) ** 2, input = stride === 2 ? halved(size, stage + 1) ** 2 : output;
    return sum + width * (input + output * (projected ? 3 : 2)) + (squeezeWidth > 0 ? squeezeWidth + width : 0);
  }, stemWidth * halved(size, 1) ** 2);
}
