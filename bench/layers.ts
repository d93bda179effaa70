/**
 * The different convolutions of a RegNetY, from the published table, at a batch and resolution that suit the machine.
 * Pure arithmetic.
 */
import type { Conv2dShape } from "../kernels/conv2d_shape.ts";
import { regnetBlocks, type RegnetName, regnetStages, regnetTable } from "../nn/regnet_spec.ts";

/** A network's layers, scaled. */
export interface ScaledNetwork {
  /** `"400MF"`. */
  readonly title: string;
  readonly network: RegnetName;
  readonly batch: number;
  /** Height and width of the images. */
  readonly pixels: number;
}

/** The networks whose layers are timed: small enough that a pass takes about a second on two CPU cores. */
export const NETWORKS: readonly ScaledNetwork[] = [
  { title: "400MF", network: "regnety_400mf", batch: 4, pixels: 224 },
  { title: "16GF", network: "regnety_16gf", batch: 2, pixels: 96 },
  { title: "256GF", network: "regnety_256gf", batch: 1, pixels: 96 },
];

/** Each convolution of the trunk once, in order, squeeze-and-excitation left out. */
export function convolutionsOf({ network, batch, pixels }: ScaledNetwork): Conv2dShape[] {
  const shapes = new Map<string, Conv2dShape>();
  const add = (size: number, channels: readonly [number, number], form: readonly number[]) => {
    const [kernel, stride, groups] = form;
    const shape: Conv2dShape = {
      batch,
      height: size,
      width: size,
      inChannels: channels[0],
      outChannels: channels[1],
      kernelHeight: kernel,
      kernelWidth: kernel,
      stride,
      padding: (kernel - 1) / 2,
      groups,
    };
    shapes.set(JSON.stringify(shape), shape);
  };
  const spec = regnetStages(regnetTable[network], "seer");
  add(pixels, [3, spec.stemWidth ?? 32], [3, 2, 1]);
  let size = Math.ceil(pixels / 2);
  for (const { inWidth, width, stride, groups, projected } of regnetBlocks(spec)) {
    const halved = Math.ceil(size / stride);
    add(size, [inWidth, width], [1, 1, 1]);
    add(size, [width, width], [3, stride, groups]);
    add(halved, [width, width], [1, 1, 1]);
    if (projected) add(size, [inWidth, width], [1, stride, 1]);
    size = halved;
  }
  return [...shapes.values()];
}
