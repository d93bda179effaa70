/**
 * Checked weights as the files that a library reads: safetensors with its configuration, or one torch file. It writes
 * nothing to disk.
 */
import { type SafeTensor, safetensorsPieces } from "../checkpoint/safetensors.ts";
import { type ConfigFacts, configFor } from "./configs.ts";
import type { Naming } from "./naming.ts";
import { torchFilePieces, type TorchValue } from "./torch_write.ts";
import { type NetworkWeights, renameWeights } from "./weights.ts";

/** How tensors are kept: safetensors, or the zip format of `torch.save`. */
export type Container = "safetensors" | "torch";

/** Files of weights, not yet written. */
export interface WeightsFiles {
  /** The file of weights in order; most are views of the tensors. */
  readonly pieces: Iterable<Uint8Array<ArrayBuffer>>;
  /** Text of `config.json`. */
  readonly config: string;
  /** Tensors in the file. */
  readonly count: number;
  /** SEER's names of tensors that the library has no place for. */
  readonly leftOut: readonly string[];
}

/**
 * Weights under a library's names, in a container.
 *
 * @throws {WeightsError} when the library cannot express the network, or the container cannot hold it.
 */
export function writeWeights(
  weights: NetworkWeights,
  options: { naming: Naming; container: Container; imageSize?: number },
): WeightsFiles {
  const { naming, container, imageSize } = options;
  const { tensors, leftOut } = renameWeights(weights, naming);
  const classes = weights.tensors.get("fc.bias")?.shape[0];
  const config = JSON.stringify(configFor(naming, weights.spec, { classes, imageSize } satisfies ConfigFacts), null, 2);
  const pieces = container === "safetensors"
    ? safetensorsPieces(tensors, { format: "pt" })
    : torchFilePieces(naming === "vissl" ? visslCheckpoint(tensors) : tensors);
  return { pieces, config: `${config}\n`, count: tensors.size, leftOut };
}

/** VISSL's nesting of trunk and heads in a checkpoint, which its `WEIGHTS_INIT` reads. */
export function visslCheckpoint(tensors: ReadonlyMap<string, SafeTensor>): ReadonlyMap<string, TorchValue> {
  const isTrunk = (name: string) => name.startsWith("_feature_blocks.");
  const dict = (...entries: [string, TorchValue][]) => new Map<string, TorchValue>(entries);
  const model = dict(
    ["trunk", new Map([...tensors].filter(([name]) => isTrunk(name)))],
    ["heads", new Map([...tensors].filter(([name]) => !isTrunk(name)))],
  );
  const base = dict(["base_model", dict(["model", model])]);
  return dict(["type", "consolidated"], ["classy_state_dict", base]);
}
