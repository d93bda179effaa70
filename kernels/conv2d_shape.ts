/**
 * The static shape of a 2-D convolution, and what follows from it. Activations are [N, H, W, C], weights
 * [kernelHeight, kernelWidth, inChannels / groups, outChannels], both with the last axis fastest.
 */

import type { Storage } from "./variant.ts";

/**
 * What a load of the input does. `plain` takes the number. The others take the raw output of an earlier convolution and
 * normalise it, (x − mean) · factor + beta, by a table "normaliser" (see `batch_norm.ts`); `relu` applies ReLU then;
 * `gated` multiplies by a factor per image and channel, `gate [batch, inChannels]` f32 (squeeze-and-excitation). Padding
 * stays zero.
 */
export type InputLoad = "plain" | "normalised" | "normalised relu" | "normalised relu gated";

/** A convolution's shape; `stride` and `padding` (zeros) are the same in both directions. */
export interface Conv2dShape {
  readonly batch: number;
  readonly height: number;
  readonly width: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly stride: number;
  readonly padding: number;
  readonly groups: number;
  /** How input, output, weights and their gradients are stored; the weights' gradient is f32 always. @default "f32" */
  readonly storage?: Storage;
  /** @default "plain" */
  readonly load?: InputLoad;
  /** Whether the forward pass also gives the moments of its output. @default false */
  readonly moments?: boolean;
}

/** Sizes of what a convolution reads and writes. */
export interface Conv2dOutput {
  /** floor((height + 2 · padding − kernelHeight) / stride) + 1. */
  readonly height: number;
  readonly width: number;
  /** Elements of the input [batch, height, width, inChannels]. */
  readonly inputLength: number;
  /** Elements of the weights [kernelHeight, kernelWidth, inChannels / groups, outChannels]. */
  readonly weightLength: number;
  /** Elements of the output [batch, height, width, outChannels]. */
  readonly outputLength: number;
}

/**
 * The sizes that follow from a shape.
 *
 * @throws RangeError when the shape is not one of a convolution.
 */
export function conv2dOutput(shape: Conv2dShape): Conv2dOutput {
  const { padding, storage: _storage, load: _load, moments: _moments, ...positive } = shape;
  for (const [name, value] of [...Object.entries(positive), ["padding", padding + 1] as const]) {
    if (!(Number.isInteger(value) && value >= 1)) {
      throw new RangeError(
        `Cannot convolve: ${name} must be a positive integer, got ${name === "padding" ? padding : value}`,
      );
    }
  }
  const { batch, inChannels, outChannels, kernelHeight, kernelWidth, stride, groups } = shape;
  if (inChannels % groups !== 0 || outChannels % groups !== 0) {
    throw new RangeError(
      `Cannot convolve ${inChannels} to ${outChannels} channels in ${groups} groups: groups must divide both`,
    );
  }
  const height = Math.floor((shape.height + 2 * padding - kernelHeight) / stride) + 1;
  const width = Math.floor((shape.width + 2 * padding - kernelWidth) / stride) + 1;
  if (height < 1 || width < 1) {
    throw new RangeError(
      `Cannot convolve ${shape.height}×${shape.width} with a ${kernelHeight}×${kernelWidth} kernel and padding ` +
        `${padding}: the kernel must fit the padded image`,
    );
  }
  return {
    height,
    width,
    inputLength: batch * shape.height * shape.width * inChannels,
    weightLength: kernelHeight * kernelWidth * (inChannels / groups) * outChannels,
    outputLength: batch * height * width * outChannels,
  };
}

/** `"3x3/2 32→64 in 8 groups, 16×48×48"`, for labels. */
export function describeConv2d(shape: Conv2dShape): string {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, groups } = shape;
  const { storage = "f32", load = "plain", moments = false } = shape;
  const grouped = groups === 1 ? "" : ` in ${groups} groups`;
  const fused = [storage === "f32" ? "" : storage, load === "plain" ? "" : load, moments ? "moments" : ""];
  const suffix = fused.filter((part) => part !== "").map((part) => `, ${part}`).join("");
  const padded = shape.padding === (kernelHeight - 1) / 2 ? "" : ` padding ${shape.padding}`;
  return `${kernelHeight}x${kernelWidth}/${stride}${padded} ${inChannels}→${outChannels}${grouped}, ` +
    `${batch}×${height}×${width}${suffix}`;
}
