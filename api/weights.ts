/**
 * Weights between this project and others: a run's trunk written for torchvision, timm, VISSL or transformers, and theirs
 * read, checked and written as SEER's. Only files and folders are handled here; what is in them is in `weights/`.
 */
import { basename, resolve } from "node:path";
import { DirectoryStore } from "../checkpoint/store.ts";
import { type TrainConfig } from "../config.ts";
import { WeightsError } from "../weights/error.ts";
import type { Naming } from "../weights/naming.ts";
import { networkNames } from "../weights/network.ts";
import { writeOnnx } from "../weights/onnx.ts";
import { checkWeights, type NetworkWeights, readWeights, type ReadWeightsOptions } from "../weights/weights.ts";
import { type Container, writeWeights } from "../weights/write.ts";
import { readRunConfig } from "./run_folder.ts";

/** What weights are exported for: a library, or the runtimes that read ONNX. */
export type ExportFormat = Naming | "onnx";

/** Weights with where they came from. */
export interface OpenedWeights extends NetworkWeights {
  /** The file or checkpoint. */
  readonly path: string;
  /** The configuration of the run they are from. */
  readonly config?: TrainConfig;
}

/**
 * Reads weights from anywhere: a run's folder (its newest intact checkpoint), a checkpoint, a folder that holds
 * `model.safetensors` or `pytorch_model.bin`, a safetensors file, or a torch file, of which nothing is executed.
 *
 * @throws {WeightsError} for what is no known trunk, dangerous, or does not fit completely.
 * @throws {CheckpointError} for a damaged checkpoint or safetensors file.
 */
export async function openWeights(path: string, options: ReadWeightsOptions = {}): Promise<OpenedWeights> {
  const absolute = resolve(path);
  const name = options.name ?? path;
  const info = await Deno.stat(absolute).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) throw new WeightsError(`Cannot read ${path}: it does not exist`);
    throw error;
  });
  const checkpoint = /^(.*)\/checkpoints\/step-(\d+)(\/model\.safetensors)?$/.exec(absolute);
  if (checkpoint !== null) return await openRun(checkpoint[1], Number(checkpoint[2]));
  if (info.isFile) return { ...readWeights(await Deno.readFile(absolute), { ...options, name }), path: absolute };
  const within = [...Deno.readDirSync(absolute)].map((entry) => entry.name);
  if (within.includes("run.json")) return await openRun(absolute, "latest");
  const file = ["model.safetensors", "pytorch_model.bin"].find((file) => within.includes(file));
  if (file === undefined) {
    throw new WeightsError(
      `Cannot read ${path}: it is no run and holds no model.safetensors; name the file of weights`,
    );
  }
  return await openWeights(`${absolute}/${file}`, { ...options, name: `${path}/${file}` });
}

async function openRun(run: string, step: number | "latest"): Promise<OpenedWeights> {
  const config = await readRunConfig(run);
  const { model, manifest, notes } = await new DirectoryStore(run).load(step);
  for (const note of notes) console.error(note);
  const path = `${run}/checkpoints/step-${String(manifest.step).padStart(6, "0")}`;
  return { ...checkWeights(model, { naming: "seer", name: path }), path, config };
}

/** Options of {@linkcode exportWeights} and {@linkcode importWeights}. */
export interface WriteWeightsOptions extends ReadWeightsOptions {
  /**
   * A file (`.safetensors`; `.pth`, `.pt`, `.bin` and `.torch` for torch's format; `.onnx`) or a folder for
   * `model.safetensors` and `config.json`. What exists is not overwritten.
   */
  readonly out: string;
}

/** What was written. */
export interface WrittenWeights {
  readonly source: OpenedWeights;
  /** Absolute paths. */
  readonly files: readonly string[];
  /** Tensors in the file. */
  readonly count: number;
  /** SEER's names of tensors that the library has no place for. */
  readonly leftOut: readonly string[];
}

/**
 * Writes weights under another library's names.
 *
 * ```ts
 * import { exportWeights } from "../mod.ts";
 *
 * if (import.meta.main) await exportWeights("runs/mine", { format: "hf", out: "mine-hf" });
 * ```
 *
 * @param from what {@linkcode openWeights} reads
 * @throws {WeightsError} for weights that do not fit, a network that the library cannot express, or an `out` that exists.
 */
export async function exportWeights(
  from: string,
  options: WriteWeightsOptions & { format: ExportFormat },
): Promise<WrittenWeights> {
  const { format, out, ...reading } = options;
  const target = await freeTarget(out, format);
  const source = await openWeights(from, reading);
  if (format === "onnx") {
    const dataFile = `${target.file}.data`;
    const { pieces, count, leftOut, data } = writeOnnx(source, { dataFile: basename(dataFile) });
    if (data !== undefined) await writeNew(dataFile, data);
    await writeNew(target.file, pieces);
    return { source, files: [target.file, ...data === undefined ? [] : [dataFile]], count, leftOut };
  }
  const imageSize = source.config && Math.max(...source.config.crops.map(({ size }) => size));
  const { pieces, config, count, leftOut } = writeWeights(source, {
    naming: format,
    container: target.container,
    imageSize,
  });
  if (target.folder === undefined) {
    await writeNew(target.file, pieces);
    return { source, files: [target.file], count, leftOut };
  }
  await Deno.mkdir(target.folder, { recursive: true });
  const description = `${target.folder}/config.json`;
  await writeNew(target.file, pieces);
  await writeNew(description, [new TextEncoder().encode(config)]);
  return { source, files: [target.file, description], count, leftOut };
}

/**
 * Reads a library's weights, checks them strictly and writes them under SEER's names.
 *
 * @param from what {@linkcode openWeights} reads
 * @throws {WeightsError} listing everything missing, unexpected or of another shape; nothing is written then.
 */
export async function importWeights(from: string, options: WriteWeightsOptions): Promise<WrittenWeights> {
  return await exportWeights(from, { ...options, format: "seer" });
}

interface Target {
  readonly container: Container;
  readonly file: string;
  readonly folder?: string;
}

const torchEndings = ["pth", "pt", "bin", "torch"];
/** Endings of files that are something else; any other name without a known ending is a folder's. */
const foreignEndings = ["ckpt", "h5", "npz", "pb", "pkl", "zip"];

/** Checked before anything is read, which may take minutes. */
async function freeTarget(out: string, format: ExportFormat): Promise<Target> {
  const path = resolve(out);
  const ending = /\.([^./]+)$/.exec(basename(path))?.[1] ?? "";
  const isFile = [...torchEndings, "safetensors", "onnx"].includes(ending);
  const wanted = format === "onnx" ? "onnx" : `safetensors, ${torchEndings.join(", ")}, or it is a folder`;
  if ((ending === "onnx") !== (format === "onnx") || foreignEndings.includes(ending)) {
    throw new WeightsError(
      `Cannot write ${out}: its ending must be ${wanted}; found ${ending === "" ? "none" : ending}`,
    );
  }
  const target: Target = isFile
    ? { container: torchEndings.includes(ending) ? "torch" : "safetensors", file: path }
    : { container: "safetensors", file: `${path}/model.safetensors`, folder: path };
  const others = format === "onnx" ? [`${path}.data`] : target.folder === undefined ? [] : [`${path}/config.json`];
  for (const file of [target.file, ...others]) {
    if (await Deno.stat(file).then(() => true, () => false)) {
      throw new WeightsError(`Cannot write ${file}: it exists; choose another --out or remove it`);
    }
  }
  return target;
}

/** Writes a file that is whole or absent. */
async function writeNew(path: string, pieces: Iterable<Uint8Array<ArrayBuffer>>): Promise<void> {
  const temporary = `${path}.part`;
  try {
    await Deno.writeFile(temporary, ReadableStream.from(pieces));
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    const reason = error instanceof Error ? error.message : String(error);
    throw new WeightsError(`Cannot write ${path}: ${reason}`, { cause: error });
  }
}

/** One line on how a library opens weights that were written for it. */
export function openingHint(format: ExportFormat, weights: NetworkWeights): string {
  const { timm, torchvision } = networkNames(weights.spec);
  const classes = weights.tensors.get("fc.bias")?.shape[0];
  switch (format) {
    case "torchvision":
      return torchvision === undefined
        ? "torchvision has no builder for this network; docs/weights.md shows how it is built there"
        : `torchvision: ${torchvision}(${classes === undefined ? "" : `num_classes=${classes}`})${
          classes === undefined ? ", fc = Identity()" : ""
        }`;
    case "timm":
      return timm === undefined
        ? "timm has no name for this network"
        : `timm: create_model("${timm}", num_classes=${classes ?? 0}, checkpoint_path=FILE)`;
    case "hf":
      return `transformers: ${
        classes === undefined ? "RegNetModel" : "RegNetForImageClassification"
      }.from_pretrained(FOLDER)`;
    case "vissl":
      return "VISSL: MODEL.WEIGHTS_INIT.PARAMS_FILE=FILE";
    case "onnx":
      return `ONNX: input images [N, 3, H, W], outputs features${classes === undefined ? "" : " and logits"}`;
    case "seer":
      return "SEER: deno task seer export --weights FILE --format NAME";
  }
}
