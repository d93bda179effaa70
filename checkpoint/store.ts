/**
 * Checkpoints as folders: `checkpoints/step-000123/{model.safetensors, optimizer.safetensors, manifest.json}` and a small
 * file `latest`. A folder is written under a temporary name, synced, then renamed, so what has its final name is whole;
 * `latest` is replaced last. Reading verifies every digest. It knows no training loop and asks no clock.
 */
import { CheckpointError } from "./error.ts";
import { diskFiles, type Files } from "./files.ts";
import {
  type CheckpointFile,
  checkpointFiles,
  type FileDigest,
  type Manifest,
  manifestFormat,
  manifestText,
  parseManifest,
  sha256Hex,
} from "./manifest.ts";
import { readSafetensors, type SafeTensor, safetensorsPieces } from "./safetensors.ts";

/** A state to be saved. */
export interface Checkpoint {
  runId: string;
  step: number;
  progress: Record<string, unknown>;
  configDigest: string;
  createdAt: Date;
  model: ReadonlyMap<string, SafeTensor>;
  optimizer: ReadonlyMap<string, SafeTensor>;
  /** Steps whose checkpoints stay this time, however old. @default none */
  pinned?: readonly number[];
}

/** A checkpoint on disk. */
export interface SavedCheckpoint {
  readonly folder: string;
  readonly manifest: Manifest;
}

/** A verified checkpoint; the tensors view the files' bytes. */
export interface LoadedCheckpoint extends SavedCheckpoint {
  readonly model: ReadonlyMap<string, SafeTensor>;
  readonly optimizer: ReadonlyMap<string, SafeTensor>;
  /** Which newer checkpoints were passed over, and why; empty when none was. */
  readonly notes: readonly string[];
}

/** Options of a {@linkcode DirectoryStore}. */
export interface StoreOptions {
  /** Number of checkpoints to keep, the newest. @default all */
  keepLast?: number;
  files?: Files;
}

const temporaryPrefix = ".writing-";

/** A checkpoint that makes room for a new one of the same step; put back when its writer dies before that has its name. */
const replacedPrefix = `${temporaryPrefix}replaced-`;

/** Checkpoints under `RUN/checkpoints`. One writer at a time. */
export class DirectoryStore {
  readonly #folder: string;
  readonly #keepLast: number;
  readonly #files: Files;

  constructor(runFolder: string, options: StoreOptions = {}) {
    const keepLast = options.keepLast ?? Infinity;
    if (!(keepLast >= 1)) throw new RangeError(`keepLast must be at least 1, got ${keepLast}`);
    this.#folder = `${runFolder.replace(/\/+$/, "")}/checkpoints`;
    this.#keepLast = keepLast;
    this.#files = options.files ?? diskFiles;
  }

  /** Steps that have a folder, oldest first; not verified. */
  async steps(): Promise<number[]> {
    const names = await this.#files.list(this.#folder);
    return names.flatMap((name) => {
      const match = /^step-(\d{6,15})$/.exec(name);
      return match === null ? [] : [Number(match[1])];
    }).sort((a, b) => a - b);
  }

  /**
   * Saves a state; when it returns, the checkpoint survives a power cut. A checkpoint of the same step is replaced.
   *
   * @throws {CheckpointError} when writing fails (disk full, no permission); earlier checkpoints are untouched.
   */
  async save(checkpoint: Checkpoint): Promise<SavedCheckpoint> {
    try {
      return await this.#save(checkpoint);
    } catch (error) {
      if (error instanceof CheckpointError) throw error;
      throw new CheckpointError(`saving step ${checkpoint.step} under ${this.#folder}: ${writeProblem(error)}`, {
        cause: error,
      });
    }
  }

  async #save(checkpoint: Checkpoint): Promise<SavedCheckpoint> {
    const files = this.#files;
    const name = stepName(checkpoint.step);
    const temporary = `${this.#folder}/${temporaryPrefix}${name}`;
    const folder = `${this.#folder}/${name}`;
    await files.makeFolder(this.#folder);
    await this.#removeLeftovers();
    await files.makeFolder(temporary);
    const digests: Record<CheckpointFile, FileDigest> = {
      "model.safetensors": await this.#write(temporary, "model.safetensors", checkpoint.model),
      "optimizer.safetensors": await this.#write(temporary, "optimizer.safetensors", checkpoint.optimizer),
    };
    const { runId, step, progress, configDigest } = checkpoint;
    const createdAt = checkpoint.createdAt.toISOString();
    const manifest: Manifest = {
      format: manifestFormat,
      runId,
      step,
      progress,
      configDigest,
      createdAt,
      files: digests,
    };
    await files.writeFile(`${temporary}/manifest.json`, [new TextEncoder().encode(manifestText(manifest))]);
    await files.syncFolder(temporary);
    if ((await files.list(this.#folder)).includes(name)) {
      await files.rename(folder, `${this.#folder}/${replacedPrefix}${name}`);
    }
    await files.rename(temporary, folder);
    await files.syncFolder(this.#folder);
    await this.#pointLatest(name);
    await this.#removeOld([step, ...checkpoint.pinned ?? []]);
    return { folder, manifest };
  }

  /**
   * Reads and verifies a checkpoint. `"latest"` is the one that `latest` names, or the newest intact one when that is
   * damaged, with the reasons in `notes`; a step number is that one or an error.
   *
   * @throws {CheckpointError} when there is none, or none is intact.
   */
  async load(which: number | "latest"): Promise<LoadedCheckpoint> {
    await this.#putBack();
    if (which !== "latest") {
      if (!(await this.steps()).includes(which)) {
        throw new CheckpointError(`loading step ${which}: ${this.#folder} has no ${stepName(which)}`);
      }
      return { ...await this.#read(which), notes: [] };
    }
    const steps = (await this.steps()).reverse();
    if (steps.length === 0) {
      throw new CheckpointError(
        `loading the latest checkpoint: ${this.#folder} has none; pass the folder of a run that has`,
      );
    }
    const notes: string[] = [];
    const named = await this.#latestStep(notes);
    const order = named === undefined ? steps : [named, ...steps.filter((step) => step !== named)];
    for (const step of order) {
      try {
        return { ...await this.#read(step), notes };
      } catch (error) {
        if (!(error instanceof CheckpointError)) throw error;
        notes.push(error.message);
      }
    }
    throw new CheckpointError(`loading the latest checkpoint: none of ${steps.length} is intact: ${notes.join("; ")}`);
  }

  async #write(folder: string, name: CheckpointFile, tensors: ReadonlyMap<string, SafeTensor>): Promise<FileDigest> {
    return await this.#files.writeFile(`${folder}/${name}`, safetensorsPieces(tensors));
  }

  async #read(step: number): Promise<Omit<LoadedCheckpoint, "notes">> {
    const folder = `${this.#folder}/${stepName(step)}`;
    try {
      const manifest = parseManifest(new TextDecoder().decode(await this.#readFile(folder, "manifest.json")));
      if (manifest.step !== step) throw new CheckpointError(`manifest.json is of step ${manifest.step}`);
      const contents: ReadonlyMap<string, SafeTensor>[] = [];
      for (const name of checkpointFiles) {
        const bytes = await this.#readFile(folder, name);
        const expected = manifest.files[name];
        if (bytes.byteLength !== expected.byteLength) {
          throw new CheckpointError(`${name} has ${bytes.byteLength} bytes, its manifest says ${expected.byteLength}`);
        }
        if (sha256Hex(bytes) !== expected.sha256) throw new CheckpointError(`${name} does not match its SHA-256`);
        contents.push(readSafetensors(bytes).tensors);
      }
      return { folder, manifest, model: contents[0], optimizer: contents[1] };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      throw new CheckpointError(`checkpoint ${folder} is not usable: ${error.message}`, { cause: error });
    }
  }

  async #readFile(folder: string, name: string): Promise<Uint8Array<ArrayBuffer>> {
    try {
      return await this.#files.readFile(`${folder}/${name}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) throw new CheckpointError(`${name} is missing`);
      throw new CheckpointError(`${name} cannot be read: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** The step that `latest` names; a note when it names none or one that is gone. */
  async #latestStep(notes: string[]): Promise<number | undefined> {
    let text: string;
    try {
      text = new TextDecoder().decode(await this.#files.readFile(`${this.#folder}/latest`)).trim();
    } catch (error) {
      const missing = error instanceof Deno.errors.NotFound;
      const reason = error instanceof Error ? error.message : String(error);
      notes.push(missing ? "the file latest is missing" : `the file latest cannot be read: ${reason}`);
      return undefined;
    }
    const match = /^step-(\d{6,15})$/.exec(text);
    if (match !== null && (await this.steps()).includes(Number(match[1]))) return Number(match[1]);
    notes.push(match === null ? "the file latest names no checkpoint" : `latest names ${text}, which is missing`);
    return undefined;
  }

  async #pointLatest(name: string): Promise<void> {
    const temporary = `${this.#folder}/${temporaryPrefix}latest`;
    await this.#files.writeFile(temporary, [new TextEncoder().encode(`${name}\n`)]);
    await this.#files.rename(temporary, `${this.#folder}/latest`);
    await this.#files.syncFolder(this.#folder);
  }

  /** What a writer that died left behind. */
  async #removeLeftovers(): Promise<void> {
    await this.#putBack();
    for (const name of await this.#files.list(this.#folder)) {
      if (name.startsWith(temporaryPrefix)) await this.#files.remove(`${this.#folder}/${name}`);
    }
  }

  async #putBack(): Promise<void> {
    const names = await this.#files.list(this.#folder);
    for (const name of names.filter((name) => name.startsWith(replacedPrefix))) {
      const original = name.slice(replacedPrefix.length);
      if (!names.includes(original)) await this.#files.rename(`${this.#folder}/${name}`, `${this.#folder}/${original}`);
    }
  }

  /** All but the newest `keepLast`; never one of `kept`. */
  async #removeOld(kept: readonly number[]): Promise<void> {
    await this.#removeLeftovers();
    const steps = await this.steps();
    for (const step of steps.slice(0, Math.max(0, steps.length - this.#keepLast))) {
      if (kept.includes(step)) continue;
      // Renamed first, so that a removal cut short leaves no folder that looks whole.
      const doomed = `${this.#folder}/${temporaryPrefix}removed-${stepName(step)}`;
      await this.#files.rename(`${this.#folder}/${stepName(step)}`, doomed);
      await this.#files.remove(doomed);
    }
  }
}

/** Name of a step's folder: `step-000123`. */
export function stepName(step: number): string {
  if (!Number.isSafeInteger(step) || step < 0) throw new RangeError(`a step must be an integer ≥ 0, got ${step}`);
  return `step-${String(step).padStart(6, "0")}`;
}

function writeProblem(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const full = text.includes("os error 28") || error instanceof Error && "code" in error && error.code === "ENOSPC";
  return full ? `the disk is full (${text}); free some space or lower the number of checkpoints kept` : text;
}
