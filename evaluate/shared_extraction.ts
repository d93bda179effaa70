/**
 * Features of one list of images by several workers: the list is cut into chunks of whole batches, so that every batch is
 * the one that a single worker would see, and whoever is free takes the next chunk. Equal adapters give equal bits,
 * however many they are and whichever takes what; one that is late or gone is not waited for. It knows no process and no
 * device.
 */
import type { Extracted } from "./features.ts";
import { matrixFrom } from "./matrix.ts";

/** Somebody who extracts features: this process's device, or another process. */
export interface ExtractWorker {
  readonly name: string;
  /** Features of the readable ones among `ids`, in order; `undefined` when there is none. */
  extract(ids: readonly number[]): Promise<Extracted | undefined>;
}

/** Options of {@linkcode shareExtraction}. */
export interface ShareOptions {
  /** The first is this process: it takes what the others lose, and its own failure is everybody's. */
  readonly workers: readonly [ExtractWorker, ...ExtractWorker[]];
  /** Images at a time within a chunk. */
  readonly batch: number;
  readonly progress?: (done: number, total: number) => void;
  /** Told when a worker fails; its chunk is done here, and it gets no more. */
  readonly onLoss?: (worker: string, error: unknown) => void;
}

/** Batches of a chunk, at most: what is lost with a worker. */
const CHUNK_BATCHES_MAX = 8;

/** `ids` in chunks of whole batches, about four for each worker. */
export function chunksOfIds(
  ids: readonly number[],
  { batch, workers }: { batch: number; workers: number },
): (readonly number[])[] {
  const batches = Math.ceil(ids.length / batch);
  const size = batch * Math.min(CHUNK_BATCHES_MAX, Math.max(1, Math.ceil(batches / (4 * workers))));
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, i) => ids.slice(i * size, (i + 1) * size));
}

/**
 * Features of images, one row each, in the order of `ids`; unreadable images have none.
 *
 * @throws {Error} when not one of the images can be read, or the first worker fails
 */
export async function shareExtraction(ids: readonly number[], options: ShareOptions): Promise<Extracted> {
  const { workers, batch, progress, onLoss } = options;
  const [here, ...others] = workers;
  const chunks = chunksOfIds(ids, { batch, workers: workers.length });
  const found: (Extracted | undefined)[] = [];
  const open = chunks.map((_, chunk) => chunk);
  const missing = new Set(open);
  let done = 0;
  const take = async (worker: ExtractWorker, chunk: number) => {
    const part = await worker.extract(chunks[chunk]);
    if (!missing.delete(chunk)) return;
    found[chunk] = part;
    done += chunks[chunk].length;
    progress?.(done, ids.length);
  };
  const help = async (worker: ExtractWorker) => {
    for (let chunk = open.shift(); chunk !== undefined; chunk = open.shift()) {
      try {
        await take(worker, chunk);
      } catch (error) {
        // What this process has done in the meantime is no loss.
        if (missing.has(chunk)) onLoss?.(worker.name, error);
        return;
      }
    }
  };
  for (const worker of others) void help(worker);
  // Nobody is waited for: what others have taken and not brought is done here when nothing else is left.
  while (missing.size > 0) {
    const [late] = missing;
    await take(here, open.shift() ?? late);
  }
  return joined(found, ids.length);
}

function joined(parts: readonly (Extracted | undefined)[], wanted: number): Extracted {
  const read = parts.filter((part) => part !== undefined);
  if (read.length === 0) {
    throw new Error(`Cannot extract features: at least one of ${wanted} images must be readable, found none`);
  }
  const data = new Float32Array(read.reduce((sum, { features }) => sum + features.data.length, 0));
  read.reduce((at, { features }) => (data.set(features.data, at), at + features.data.length), 0);
  return { features: matrixFrom(data, read[0].features.columns), ids: read.flatMap((part) => part.ids) };
}
