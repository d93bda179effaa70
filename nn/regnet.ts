/**
 * RegNetY and RegNetX: stem, four stages of residual bottleneck blocks (in RegNetY with squeeze-and-excitation), global
 * average pooling. Parameter names are torchvision's. It knows its layers, not how it is trained.
 */
import type { Device } from "../device/device.ts";
import { Bottleneck, Stem } from "./bottleneck.ts";
import { regnetBlocks, type RegnetSpec } from "./regnet_spec.ts";
import { StagedTrunk } from "./staged_trunk.ts";

/** Where and from what a trunk is made. */
export interface TrunkOptions {
  device: Device;
  /** Every initial weight is a function of this and the parameter's name; zeros without it. */
  seed: number | undefined;
  /** Put before every name, e.g. `trunk.`. @default "" */
  prefix?: string;
}

/** Builds a RegNetY trunk with fresh weights; a RegNetX where the spec's `seRatio` is 0. */
export function regnetY(spec: RegnetSpec, options: TrunkOptions): RegNetY {
  return new RegNetY(spec, options);
}

/** A RegNet trunk: images `[N, H, W, 3]` → features `[N, C]`, C = the last stage's width. */
export class RegNetY extends StagedTrunk<RegnetSpec> {
  constructor(spec: RegnetSpec, { prefix = "", ...maker }: TrunkOptions) {
    const stem = new Stem(maker, {
      names: [`${prefix}stem.0`, `${prefix}stem.1`],
      inWidth: 3,
      width: spec.stemWidth ?? 32,
      kernel: 3,
      stride: 2,
      pooled: false,
    });
    const blocks = regnetBlocks(spec).map((block) => {
      const name = prefix + block.name;
      const names = (part: string) => [`${name}.${part}.0`, `${name}.${part}.1`] as const;
      return new Bottleneck(maker, {
        ...block,
        names: {
          shortcut: names("proj"),
          a: names("f.a"),
          b: names("f.b"),
          c: names("f.c"),
          squeeze: `${name}.f.se`,
        },
      });
    });
    super(spec, [stem, ...blocks]);
  }
}
