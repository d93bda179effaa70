/**
 * The shapes of ResNet and ResNeXt with bottleneck blocks: the published table, and the blocks that follow. Pure arithmetic;
 * it builds no layer and needs no device. Sources: arXiv 1512.03385 and 1611.05431; torchvision `resnet.py`, whose 3×3
 * convolution has the stride.
 */
import type { BlockSpec } from "./regnet_spec.ts";

/** Stage shapes of a ResNet; all stages but the first halve the resolution, after a stem that divides it by 4. */
export interface ResnetSpec {
  readonly kind: "resnet";
  /** Channels of the stem's 7×7 convolution. */
  readonly stemWidth: number;
  /** Output channels of each stage. */
  readonly widths: readonly number[];
  /** Blocks of each stage. */
  readonly depths: readonly number[];
  /** Groups of the 3×3 convolutions. */
  readonly groups: number;
  /** Output channels of a block over channels of its 3×3 convolution. */
  readonly bottleneck: number;
}

function published(depths: readonly number[], { groups = 1, bottleneck = 4 } = {}): ResnetSpec {
  return { kind: "resnet", stemWidth: 64, widths: [256, 512, 1024, 2048], depths, groups, bottleneck };
}

/** The published networks by name. */
export const resnetTable = {
  "resnet_50": published([3, 4, 6, 3]),
  "resnet_101": published([3, 4, 23, 3]),
  "resnet_152": published([3, 8, 36, 3]),
  "resnext_101_32x8d": published([3, 4, 23, 3], { groups: 32, bottleneck: 1 }),
} as const satisfies Record<string, ResnetSpec>;

/** A network of {@linkcode resnetTable}. */
export type ResnetName = keyof typeof resnetTable;

/**
 * Every block of a network in order, under torchvision's names `layer1.0`, ….
 *
 * @throws {RangeError} When the numbers make no network.
 */
export function resnetBlocks({ stemWidth, widths, depths, groups, bottleneck }: ResnetSpec): BlockSpec[] {
  if (widths.length !== depths.length) {
    throw new RangeError(
      `Cannot lay out a ResNet: widths and depths must have equal lengths, they have ${widths.length} and ${depths.length}`,
    );
  }
  let inWidth = stemWidth;
  return widths.flatMap((width, stage) => {
    const innerWidth = width / bottleneck;
    if (!Number.isInteger(innerWidth) || innerWidth % groups !== 0) {
      throw new RangeError(
        `Cannot lay out a ResNet: bottleneck ${bottleneck} must divide every width, and ${groups} groups the rest; ` +
          `${width} does not fit`,
      );
    }
    return Array.from({ length: depths[stage] }, (_, i): BlockSpec => {
      const stride = i === 0 && stage > 0 ? 2 : 1;
      const block = {
        name: `layer${stage + 1}.${i}`,
        stage,
        inWidth,
        innerWidth,
        width,
        stride: stride as 1 | 2,
        groups,
        squeezeWidth: 0,
        projected: stride === 2 || inWidth !== width,
      };
      inWidth = width;
      return block;
    });
  });
}
