/**
 * Weights of a trunk as named tensors: read from any file and naming that is known, checked strictly, and renamed for
 * any other. Elements are never changed. It opens no file.
 */
import { readSafetensors, type SafeTensor } from "../checkpoint/safetensors.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { completeSpec, type FullTrunkSpec, isResnet, isVit, type TrunkSpec } from "../nn/trunk_spec.ts";
import { WeightsError } from "./error.ts";
import { type ExpectedTensor, specOf, trunkTensors } from "./network.ts";
import { fromSeer, type Naming, namingOf, toSeer } from "./naming.ts";
import { isOnnxFile, readOnnx } from "./onnx_read.ts";
import { compareWeights, requireComplete, type WeightsReport } from "./report.ts";
import { joinAttention, splitAttention } from "./vit_hf.ts";
import { isTorchFile, readTorchFile } from "./torch_file.ts";

/** Weights that were checked: a whole trunk, and whatever stands on it. */
export interface NetworkWeights {
  /** The trunk's shape, as its tensors tell it. */
  readonly spec: FullTrunkSpec;
  /** Under SEER's names: `trunk.…`, `fc.…`, `head.…`, `prototypes.weight`; in torch's order. */
  readonly tensors: ReadonlyMap<string, SafeTensor>;
  /** Whose names the file had. */
  readonly naming: Naming;
  readonly report: WeightsReport;
}

/** How a file is to be understood. */
export interface ReadWeightsOptions {
  /** Whose names the file has. @default found out by the stem's */
  readonly naming?: Naming;
  /** Which dict of a torch file, e.g. `state_dict_ema`. @default the one that holds a network */
  readonly place?: string;
  /** The trunk that the weights must be of. @default the one that their shapes tell */
  readonly spec?: TrunkSpec;
  /** What errors call the file. @default "the weights" */
  readonly name?: string;
}

/**
 * Reads weights out of a safetensors, torch or ONNX file.
 *
 * @throws {WeightsError} for a file that is no plain data, no known trunk, or does not fit completely.
 * @throws {CheckpointError} for a broken safetensors file.
 */
export function readWeights(file: Uint8Array<ArrayBuffer>, options: ReadWeightsOptions = {}): NetworkWeights {
  const { name = "the weights" } = options;
  const { tensors, naming } = chooseTensors(file, { ...options, name });
  return checkWeights(tensors, { ...options, naming, name });
}

/** Checks tensors that are named after `naming`. */
export function checkWeights(
  tensors: ReadonlyMap<string, SafeTensor>,
  options: { naming: Naming; spec?: TrunkSpec; name?: string },
): NetworkWeights {
  const { naming, name = "the weights" } = options;
  const renamed = new Map<string, SafeTensor>();
  const fileNames = new Map<string, string>();
  const foreign: string[] = [];
  for (const [fileName, tensor] of naming === "hf" ? joinAttention(tensors) : tensors) {
    const ours = toSeer(fileName, naming);
    if (ours === undefined) foreign.push(fileName);
    else {
      if (renamed.has(ours)) {
        throw new WeightsError(`Cannot use ${name}: "${fileNames.get(ours)}" and "${fileName}" are the same tensor`);
      }
      renamed.set(ours, tensor);
      fileNames.set(ours, fileName);
    }
  }
  const found = specOf(renamed);
  const spec = options.spec === undefined ? found : completeSpec(options.spec);
  const expected = [...trunkTensors(spec), ...tensorsOnTop(renamed, spec)];
  const nameOf = (ours: string) => fileNames.get(ours) ?? fromSeer(ours, { naming, ...namingFacts(spec) }) ?? ours;
  const report = compareWeights(renamed, expected, { nameOf, foreign });
  requireComplete(report, name);
  const ordered = expected.flatMap(({ name }) => {
    const tensor = renamed.get(name);
    return tensor === undefined ? [] : [[name, tensor] as const];
  });
  return { spec, tensors: new Map(ordered), naming, report };
}

/** What names depend on besides the library. */
function namingFacts(spec: FullTrunkSpec): { squeezed: boolean; resnet: boolean; vit: boolean } {
  const [resnet, vit] = [isResnet(spec), isVit(spec)];
  return { squeezed: !isResnet(spec) && !isVit(spec) && spec.seRatio > 0, resnet, vit };
}

/** What must stand on the trunk where a part of it does: classifier, projection head, prototypes. */
function tensorsOnTop(tensors: ReadonlyMap<string, SafeTensor>, spec: FullTrunkSpec): ExpectedTensor[] {
  const expected: ExpectedTensor[] = [];
  const outputs = (name: string) =>
    tensors.get(`${name}.weight`)?.shape[0] ?? tensors.get(`${name}.bias`)?.shape[0] ?? 0;
  const has = (pattern: RegExp) => [...tensors.keys()].some((name) => pattern.test(name));
  const linear = (name: string, inWidth: number) => {
    expected.push({ name: `${name}.weight`, shape: [outputs(name), inWidth] }, {
      name: `${name}.bias`,
      shape: [outputs(name)],
    });
  };
  const { width } = trunkShape(spec);
  if (has(/^fc\./)) linear("fc", width);
  let current = width;
  const places = [...new Set([...tensors.keys()].flatMap((name) => /^head\.(\d+)\./.exec(name)?.[1] ?? []))];
  for (const place of places.map(Number).sort((a, b) => a - b)) {
    const name = `head.${place}`;
    if (tensors.has(`${name}.running_mean`) || tensors.get(`${name}.weight`)?.shape.length === 1) {
      const parts = ["weight", "bias", "running_mean", "running_var"];
      expected.push(...parts.map((part) => ({ name: `${name}.${part}`, shape: [current] })));
      expected.push({ name: `${name}.num_batches_tracked`, shape: [], counter: true });
    } else {
      linear(name, current);
      current = outputs(name);
    }
  }
  const prototypes = tensors.get("prototypes.weight");
  if (prototypes !== undefined) expected.push({ name: "prototypes.weight", shape: [prototypes.shape[0], current] });
  return expected;
}

/** The tensors of a file that make a network, and whose names they have. */
function chooseTensors(
  file: Uint8Array<ArrayBuffer>,
  options: ReadWeightsOptions & { name: string },
): { tensors: ReadonlyMap<string, SafeTensor>; naming: Naming } {
  const { name, naming, place } = options;
  if (!isTorchFile(file)) {
    const tensors = isOnnxFile(file) ? readOnnx(file) : readSafetensors(file).tensors;
    return { tensors, naming: requireNaming(namingOf(tensors.keys(), naming), { name, naming }) };
  }
  const { dicts } = readTorchFile(file);
  const networks = [...dicts].flatMap(([at, tensors]) => {
    const found = namingOf(tensors.keys(), naming);
    return found !== undefined && (place === undefined || place === at) ? [{ at, tensors, found }] : [];
  });
  if (networks.length > 1) {
    const places = networks.map(({ at }) => `"${at}"`).join(", ");
    throw new WeightsError(`Cannot use ${name}: it holds several networks, at ${places}; choose one with --place`);
  }
  if (networks.length === 0 && place !== undefined) {
    const places = [...dicts.keys()].map((at) => `"${at}"`).slice(0, 8).join(", ");
    throw new WeightsError(
      `Cannot use ${name}: there is no network at "${place}", tensors are at ${places || "no place"}`,
    );
  }
  const chosen = requireNaming(networks[0]?.found, { name, naming });
  const [{ at, tensors }] = networks;
  // VISSL keeps trunk and heads side by side.
  const heads = /(?:^|\.)trunk$/.test(at) ? dicts.get(at.replace(/trunk$/, "heads")) : undefined;
  return { tensors: new Map([...tensors, ...heads ?? []]), naming: chosen };
}

/** The naming that was found, which must be the one asked for. */
function requireNaming(found: Naming | undefined, { name, naming }: { name: string; naming?: Naming }): Naming {
  if (found === undefined) {
    throw new WeightsError(
      `Cannot use ${name}: it must hold a RegNet or ResNet named as by seer, torchvision, timm, vissl or hf, found no stem of one`,
    );
  }
  if (naming === undefined || naming === found) return found;
  throw new WeightsError(`Cannot use ${name}: its names are ${found}'s, and --format says ${naming}`);
}

/** Weights under other names, and what has no place among those. */
export interface RenamedWeights {
  readonly tensors: ReadonlyMap<string, SafeTensor>;
  /** SEER's names of tensors that the naming has no place for: projection head and prototypes. */
  readonly leftOut: readonly string[];
}

/**
 * Weights as another library names them, in torch's order. Counters of batches, which torch's strict loading may ask
 * for and which nothing reads, are zeros where the source has none; SEER's own files go without.
 */
export function renameWeights({ spec, tensors }: NetworkWeights, naming: Naming): RenamedWeights {
  const facts = { naming, ...namingFacts(spec) };
  const renamed = new Map<string, SafeTensor>();
  const leftOut: string[] = [];
  const put = (ours: string, tensor: SafeTensor) => {
    const name = fromSeer(ours, facts);
    if (name === undefined) leftOut.push(ours);
    else renamed.set(name, tensor);
  };
  for (const [name, tensor] of tensors) {
    put(name, tensor);
    const counter = name.replace(/running_var$/, "num_batches_tracked");
    if (naming !== "seer" && counter !== name && !tensors.has(counter)) {
      put(counter, { dtype: "I64", shape: [], bytes: new Uint8Array(8) });
    }
  }
  return { tensors: naming === "hf" ? splitAttention(renamed) : renamed, leftOut };
}
