/**
 * ResNet and ResNeXt: 7×7 stem with max pooling, stages of bottleneck blocks, global average pooling. Parameter names and
 * initial weights are torchvision's (the last normalisation of a block starts at one). It knows its layers, not how it is
 * trained.
 */
import { Bottleneck, Stem } from "./bottleneck.ts";
import type { TrunkOptions } from "./regnet.ts";
import { resnetBlocks, type ResnetSpec } from "./resnet_spec.ts";
import { StagedTrunk } from "./staged_trunk.ts";

/** A ResNet trunk: images `[N, H, W, 3]` → features `[N, C]`, C = the last stage's width. */
export class ResNet extends StagedTrunk<ResnetSpec> {
  constructor(spec: ResnetSpec, { prefix = "", ...maker }: TrunkOptions) {
    const stem = new Stem(maker, {
      names: [`${prefix}conv1`, `${prefix}bn1`],
      inWidth: 3,
      width: spec.stemWidth,
      kernel: 7,
      stride: 2,
      pooled: true,
    });
    const blocks = resnetBlocks(spec).map((block) => {
      const name = prefix + block.name;
      const names = (place: number) => [`${name}.conv${place}`, `${name}.bn${place}`] as const;
      return new Bottleneck(maker, {
        ...block,
        names: {
          shortcut: [`${name}.downsample.0`, `${name}.downsample.1`],
          a: names(1),
          b: names(2),
          c: names(3),
          squeeze: `${name}.se`,
        },
      });
    });
    super(spec, [stem, ...blocks]);
  }
}
