/** Features of image files by any weights, in a process that sees the GPU. */
import { resolve } from "node:path";
import { IMAGE_EXTENSIONS, openFolder } from "../data/folder_source.ts";
import { type Matrix, matrixFrom } from "../evaluate/matrix.ts";
import { GpuClient, type OnProgress } from "./gpu_client.ts";
import { openWeights } from "./weights.ts";

/** Options of {@linkcode embedImages}. */
export interface EmbedImagesOptions {
  /** A run's folder, one of its checkpoints, or a file of weights in any format that `openWeights` reads. */
  readonly weights: string;
  /** Side of the square that the network sees, in pixels. @default the run's largest crop, or 224 */
  readonly size?: number;
  /** Whose features: the trunk's, or the projection head's output. @default "trunk" */
  readonly features?: "trunk" | "head";
  readonly onProgress?: OnProgress;
  readonly log?: (line: string) => void;
}

/** What the process with the GPU is told. */
export type EmbedRequest = Pick<EmbedImagesOptions, "weights" | "size" | "features"> & {
  readonly files: readonly string[];
};

/**
 * Image files by their paths: files as they are, folders with all images below them in order.
 *
 * @throws {Error} naming the first path that is neither.
 */
export async function imageFiles(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) {
    const info = await Deno.stat(path).catch(() => undefined);
    if (info === undefined) throw new Error(`Cannot read ${path}: it does not exist; check the path`);
    if (info.isFile) found.push(resolve(path));
    else {
      const folder = await openFolder(path);
      for (let i = 0; i < folder.size; i++) found.push(resolve(path, folder.name(i)));
    }
  }
  if (found.length === 0) {
    throw new Error(`Cannot embed: at least one image (${IMAGE_EXTENSIONS.join(", ")}) or folder of images is needed`);
  }
  return found;
}

/**
 * Features of image files, `[N, C]`, row i for `files[i]`, not normalised.
 *
 * @throws {WeightsError} when the weights do not fit
 * @throws {Error} naming the first file that cannot be read or decoded
 */
export async function embedImages(files: readonly string[], options: EmbedImagesOptions): Promise<Matrix> {
  const { size, features, onProgress, log = () => {} } = options;
  const weights = resolve(options.weights);
  await openWeights(weights);
  const client = await GpuClient.start(log);
  try {
    const request = { kind: "features", weights, files: files.map((file) => resolve(file)), size, features } as const;
    const { answer, bytes } = await client.request(request, onProgress);
    if (answer.kind !== "features") throw new TypeError(`expected features, found ${answer.kind}`);
    return matrixFrom(new Float32Array(bytes.buffer), answer.columns);
  } finally {
    await client.close();
  }
}
