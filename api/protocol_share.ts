/**
 * Features of one evaluation by several processes, each with a device of its own: the process that judges extracts too
 * and starts the others, which open the same weights and images and answer chunk by chunk. A process that ends is gone
 * on without.
 */
import { adapterOf } from "../actors/seats.ts";
import type { TrainConfig } from "../config.ts";
import {
  batchOf,
  type Extracted,
  extractFeatures,
  type ExtractOptions,
  extractReadable,
  type View,
} from "../evaluate/features.ts";
import { matrixFrom } from "../evaluate/matrix.ts";
import { type ExtractWorker, shareExtraction } from "../evaluate/shared_extraction.ts";
import type { EmbeddingWeights } from "../evaluate/embedding.ts";
import { openExtractionHosts } from "./extraction_hosts.ts";
import type { ProtocolRequest } from "./evaluate_protocol.ts";
import { GpuClient } from "./gpu_client.ts";

/** What a helping process is told: what to open, which it does once, and a chunk of images. */
export interface ShareRequest extends Pick<ProtocolRequest, "weights" | "data" | "features" | "random"> {
  readonly ids: readonly number[];
  readonly size: number;
  readonly view?: View;
  readonly adapter: { readonly provider: string; readonly name?: string };
}

/** A function like {@linkcode extractFeatures} that several processes work for, until it is closed. */
export interface SharedExtraction {
  extract(options: ExtractOptions): Promise<Extracted>;
  close(): Promise<void>;
}

/** The adapter of process number `index`: that of the trainer of the same number in the weights' own run. */
export function adapterFor(config: TrainConfig | undefined, index: number): { provider: string; name?: string } {
  return adapterOf({ gpu: config?.cluster.gpu ?? "auto", adapters: config?.cluster.adapters ?? [] }, index);
}

function environmentOf(config: TrainConfig | undefined, index: number): Readonly<Record<string, string>> {
  const adapters = config?.cluster.adapters ?? [];
  return adapters[index % Math.max(1, adapters.length)]?.environment ?? {};
}

/**
 * Starts `trainers − 1` others beside this process, on the hosts in turn: processes of this machine, and extractors of
 * those that join. With one trainer there is nothing to share.
 */
export async function startSharing(
  request: ProtocolRequest,
  { config, model, log }: {
    config: TrainConfig | undefined;
    model: EmbeddingWeights;
    log: (line: string) => void;
  },
): Promise<SharedExtraction> {
  const { trainers = 1, weights, data, features, random, hosts } = request;
  if (trainers === 1) return { extract: extractFeatures, close: () => Promise.resolve() };
  const places = Array.from({ length: trainers - 1 }, (_, i) => i + 1);
  const local = places.filter((place) => place % (hosts?.count ?? 1) === 0);
  const remote = hosts && await openExtractionHosts(hosts, {
    model: { ...model, sideMax: config?.data.sideMax, normalisation: config?.augmentation },
    extractors: places.length - local.length,
    log,
  });
  const clients = local.map((place) => GpuClient.startWith(environmentOf(config, place)));
  const helper = (client: GpuClient, index: number, { size, view }: ExtractOptions): ExtractWorker => ({
    name: `process ${index} of ${trainers}`,
    async extract(ids) {
      const adapter = adapterFor(config, index);
      const { answer, bytes } = await client.request({
        kind: "share",
        ...{ weights, data, features, random, ids, size, view, adapter },
      });
      if (answer.kind !== "features") throw new TypeError(`expected features, found ${answer.kind}`);
      if (answer.rows === 0) return undefined;
      return { features: matrixFrom(new Float32Array(bytes.buffer), answer.columns), ids: answer.ids ?? [] };
    },
  });
  return {
    async extract(options) {
      const { ids, images, progress } = options;
      // The same in every process whose adapter is like this one, so that all see the same batches.
      const batch = batchOf(options);
      const here: ExtractWorker = {
        name: `process 1 of ${trainers}`,
        extract: (chunk) => extractReadable({ ...options, ids: chunk, batch, progress: undefined }),
      };
      const found = await shareExtraction(ids, {
        workers: [
          here,
          ...clients.map((client, i) => helper(client, local[i], options)),
          ...remote?.workers(options, batch) ?? [],
        ],
        batch,
        progress,
        onLoss: (worker, error) =>
          log(`${worker} failed, the others go on: ${error instanceof Error ? error.message : error}`),
      });
      // What another process could not read is unreadable here too, and said so in the result.
      const kept = new Set(found.ids);
      for (const id of ids) if (!kept.has(id)) await images.read(id);
      return found;
    },
    async close() {
      for (const client of clients) client.kill();
      await Promise.all([remote?.close(), ...clients.map((client) => client.close())]);
    },
  };
}
