/**
 * What images are embedded with, made of plain weights: a trunk, or trunk and projection head, so that every process that
 * gets the same weights makes the same. It knows no file and no actor.
 */
import type { Device } from "../device/device.ts";
import { projectionHead, Sequence } from "../nn/heads.ts";
import { loadStateDict, type StateDict } from "../nn/state_dict.ts";
import type { TrunkSpec } from "../nn/trunk_spec.ts";
import { buildTrunk, type Trunk } from "../nn/trunks.ts";
import { type Embed, moduleEmbedding } from "./features.ts";

/** Weights of an embedding. */
export interface EmbeddingWeights {
  readonly spec: TrunkSpec;
  /** Of the initial weights, where none are given. */
  readonly seed: number;
  /** Under SEER's names, `trunk.…` and `head.…`; without entries of the trunk it stays as it begins. */
  readonly weights: StateDict;
  /** The projection head that stands on the trunk; absent for the trunk's own features. */
  readonly head?: { readonly dims: readonly number[]; readonly batchNorm: boolean };
}

/** Builds the network on a device. */
export function buildEmbedding(device: Device, { spec, seed, weights, head }: EmbeddingWeights): {
  readonly trunk: Trunk;
  readonly embed: Embed;
} {
  const part = (prefix: string): StateDict => new Map([...weights].filter(([name]) => name.startsWith(prefix)));
  const trunk = buildTrunk(spec, { device, seed, prefix: "trunk." });
  const given = part("trunk.");
  if (given.size > 0) loadStateDict(trunk, given);
  if (head === undefined) return { trunk, embed: moduleEmbedding(trunk) };
  const projection = projectionHead({ device, seed: 0, prefix: "head.", ...head, dims: [...head.dims] });
  loadStateDict(projection, part("head."));
  return { trunk, embed: moduleEmbedding(new Sequence([trunk, projection]), { trunk }) };
}
