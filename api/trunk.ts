/**
 * A trained trunk as a function from image files to features. The network lives in a child process that sees the GPU;
 * this side holds numbers only.
 */
import { resolve } from "node:path";
import type { TrainConfig } from "../config.ts";
import type { View } from "../evaluate/features.ts";
import { type Matrix, matrixFrom } from "../evaluate/matrix.ts";
import { GpuClient } from "./gpu_client.ts";

/** Options of {@linkcode openTrunk}. */
export interface OpenTrunkOptions {
  /** Take the network at random initialisation in place of the trained weights, for comparison. @default false */
  readonly random?: boolean;
  /** Told what is worth knowing while a driver is looked for. @default nobody */
  readonly log?: (line: string) => void;
}

/** Options of {@linkcode Trunk.embed}. */
export interface EmbedOptions {
  /** Side of the square that the network sees, in pixels. @default the largest crop of its training */
  readonly size?: number;
  /** `"whole"`: squeezed into the square; `"centre"`: the middle of the image. @default "whole" */
  readonly view?: View;
  readonly onProgress?: (done: number, total: number) => void;
}

/** A trunk that is ready to embed images. */
export interface Trunk extends AsyncDisposable {
  /** Numbers per image, C. */
  readonly width: number;
  /** Side of the square that the network sees unless told otherwise, in pixels. */
  readonly size: number;
  /** The configuration that the trunk was trained under. */
  readonly config: TrainConfig;
  /**
   * Features of image files: `[N, C]`, row i for `files[i]`, not normalised.
   *
   * @throws {RangeError} when there is no file.
   * @throws {Error} naming the first file that cannot be read or decoded.
   */
  embed(files: readonly string[], options?: EmbedOptions): Promise<Matrix>;
  /** Ends the process behind it. `await using` calls it. */
  close(): Promise<void>;
}

/**
 * Opens the trunk of a run.
 *
 * @param run a run's folder (its newest checkpoint), one of its checkpoints, or the `model.safetensors` in one.
 * @throws {Error} when it is no run, or has no intact checkpoint.
 */
export async function openTrunk(run: string, options: OpenTrunkOptions = {}): Promise<Trunk> {
  const { random = false, log = () => {} } = options;
  const client = await GpuClient.start(log);
  try {
    const { answer } = await client.request({ kind: "open", path: resolve(run), random });
    if (answer.kind !== "opened") throw new TypeError(`expected a trunk, found ${answer.kind}`);
    const { width, size, config } = answer;
    const close = () => client.close();
    return {
      width,
      size,
      config,
      embed: (files, how = {}) => embed(client, files, how),
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await client.close();
    throw error;
  }
}

async function embed(client: GpuClient, files: readonly string[], options: EmbedOptions): Promise<Matrix> {
  if (files.length === 0) throw new RangeError("Cannot embed: there must be at least one image file, found none");
  const { size, view, onProgress } = options;
  const request = { kind: "embed", files: files.map((file) => resolve(file)), size, view } as const;
  const { answer, bytes } = await client.request(request, (_, done, total) => onProgress?.(done, total));
  if (answer.kind !== "features") throw new TypeError(`expected features, found ${answer.kind}`);
  return matrixFrom(new Float32Array(bytes.buffer), answer.columns);
}
