/**
 * Extractors on other hosts: waits for hosts as a run's controller does, has one extractor started for each of their
 * places, sends it the weights once and images batch by batch. Who is lost is gone on without. It knows no protocol.
 */
import { deadline } from "@std/async/deadline";
import { codeDigest, otherCode } from "../actors/code_digest.ts";
import { type LinkNetwork, openSocketNetwork } from "../actors/runtime/network.ts";
import { actorIds } from "../actors/seats.ts";
import { readTls, type TlsFiles } from "../actors/tls_files.ts";
import { endOf } from "../actors/watch.ts";
import { runPolicy } from "../actors/who_may_send.ts";
import type { EmbeddingWeights } from "../evaluate/embedding.ts";
import type { Extracted, ExtractOptions } from "../evaluate/features.ts";
import { matrixFrom } from "../evaluate/matrix.ts";
import type { ExtractWorker } from "../evaluate/shared_extraction.ts";
import type { Normalisation } from "../tensor/augment.ts";
import type { Message } from "../wire/messages.ts";
import { f32FromWire, toWire } from "../wire/tensor.ts";
import { joinText } from "./join.ts";

/** Where other hosts are waited for. */
export interface ExtractionHostsOptions {
  /** Hosts in all, this one included. */
  readonly count: number;
  readonly listen: string;
  readonly port: number;
  readonly tls: TlsFiles;
  /** The secret that hosts show. */
  readonly token: string;
}

/** What extractors are given. */
export interface ExtractionModel extends EmbeddingWeights {
  readonly sideMax?: number;
  readonly normalisation?: Normalisation;
}

/** Extractors on other hosts. */
export interface ExtractionHosts {
  /** One worker for each extractor, for a list of images. */
  workers(options: ExtractOptions, batch: number): ExtractWorker[];
  close(): Promise<void>;
}

const readyTimeoutMs = 120_000;
const batchTimeoutMs = 600_000;
const hostsTimeoutMs = 24 * 3_600_000;

type Answer = Extract<Message, { type: "extracted" }>;

/** One extractor as seen from here. */
interface Remote {
  readonly id: string;
  readonly ready: PromiseWithResolvers<void>;
  readonly pending: Map<number, PromiseWithResolvers<Answer>>;
}

/**
 * Waits for `count − 1` hosts and has `extractors` started on them, in turn.
 *
 * @throws {WireError} when the address cannot be bound.
 */
export async function openExtractionHosts(
  options: ExtractionHostsOptions,
  { model, extractors, log }: { model: ExtractionModel; extractors: number; log: (line: string) => void },
): Promise<ExtractionHosts> {
  const { count, listen, port, token } = options;
  const { network, url, close } = openSocketNetwork({
    id: actorIds.controller,
    token,
    tls: readTls(options.tls),
    policy: runPolicy,
    listen: { hostname: listen, port },
  });
  const cluster = new Extractors(network, { model, log });
  const folder = await Deno.makeTempDir({ prefix: "seer-join-" });
  log(joinText(url ?? "", { token, run: folder }));
  const hosts = await deadline(cluster.hostsJoined(count - 1), hostsTimeoutMs);
  for (let index = 0; index < extractors; index++) cluster.start(`extractor-${index}`, hosts[index % hosts.length]);
  return {
    workers: (options, batch) => cluster.workers(options, batch),
    async close() {
      cluster.stop();
      await close("finished");
      await Deno.remove(folder, { recursive: true }).catch(() => {});
    },
  };
}

/** The extractors of one evaluation, by what they say. */
class Extractors {
  readonly #network: LinkNetwork;
  readonly #model: ExtractionModel;
  readonly #log: (line: string) => void;
  readonly #hosts: string[] = [];
  readonly #code = codeDigest();
  readonly #remotes = new Map<string, Remote>();
  #onHost = () => {};
  #batches = 0;

  constructor(network: LinkNetwork, { model, log }: { model: ExtractionModel; log: (line: string) => void }) {
    this.#network = network;
    this.#model = model;
    this.#log = log;
    network.onMessage = (message, from) => this.#hear(message, from);
    network.onPeerDown = (peer, reason) => this.#lose(peer, `connection lost: ${reason}`);
  }

  /** Resolves to the hosts when there are `count`. */
  hostsJoined(count: number): Promise<readonly string[]> {
    return new Promise((resolve) => {
      this.#onHost = () => this.#hosts.length >= count ? resolve(this.#hosts) : undefined;
      this.#onHost();
    });
  }

  start(id: string, host: string): void {
    const remote = { id, ready: Promise.withResolvers<void>(), pending: new Map() };
    // Nobody may be waiting when it is lost.
    remote.ready.promise.catch(() => {});
    this.#remotes.set(id, remote);
    this.#network.send(host, { type: "spawn", id, role: "extractor", environment: {}, attempt: 0 });
  }

  stop(): void {
    for (const id of [...this.#remotes.keys(), ...this.#hosts]) {
      this.#network.send(id, { type: "stop", reason: "finished" });
    }
  }

  workers(options: ExtractOptions, batch: number): ExtractWorker[] {
    return [...this.#remotes.values()].map((remote) => ({
      name: remote.id,
      extract: async (ids) => {
        await deadline(remote.ready.promise, readyTimeoutMs);
        const parts = [];
        for (let first = 0; first < ids.length; first += batch) {
          parts.push(await this.#extract(remote, ids.slice(first, first + batch), options));
        }
        return joined(parts);
      },
    }));
  }

  async #extract(remote: Remote, ids: readonly number[], { images, size, view }: ExtractOptions): Promise<Part> {
    const batch = this.#batches++;
    const files = await Promise.all(ids.map(async (id) => {
      // What cannot be read is no image there, and is said so here by whoever asks for the features.
      const bytes = await images.source.read(id).catch(() => new Uint8Array(0));
      return { name: images.source.name(id), bytes: toWire(bytes.slice()) };
    }));
    const answer = Promise.withResolvers<Answer>();
    remote.pending.set(batch, answer);
    this.#network.send(remote.id, { type: "extract", batch, size, view, images: files });
    const { kept, values } = await deadline(answer.promise, batchTimeoutMs);
    return { ids: kept.map((place) => ids[place]), data: f32FromWire(values) };
  }

  #hear(message: Message, from: string): void {
    switch (message.type) {
      case "host-ready":
        return this.#hostReady(message, from);
      case "hello":
        if (this.#remotes.has(from)) {
          for (const order of openingOrders(this.#model)) {
            this.#network.send(from, order);
          }
        }
        return;
      case "ready":
        this.#log(`${from} ready: ${message.detail}`);
        return this.#remotes.get(from)?.ready.resolve();
      case "extracted": {
        const pending = this.#remotes.get(from)?.pending;
        pending?.get(message.batch)?.resolve(message);
        pending?.delete(message.batch);
        return;
      }
      case "failed":
        return this.#lose(from, message.error.split("\n")[0]);
      case "actor-exited":
        return this.#lose(message.actor, endOf(message));
    }
  }

  #hostReady({ adapters, code }: Extract<Message, { type: "host-ready" }>, from: string): void {
    if (this.#hosts.includes(from)) return;
    const reason = otherCode(from, { theirs: code, ours: this.#code });
    if (reason !== undefined) {
      this.#log(reason);
      return this.#network.send(from, { type: "stop", reason });
    }
    this.#hosts.push(from);
    this.#log(`${from} joined: ${adapters.join("; ")}`);
    this.#onHost();
  }

  #lose(id: string, reason: string): void {
    const remote = this.#remotes.get(id), error = new Error(`${id}: ${reason}`);
    remote?.ready.reject(error);
    for (const { reject } of remote?.pending.values() ?? []) reject(error);
    remote?.pending.clear();
  }
}

/** Features of one batch. */
interface Part {
  readonly ids: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

function joined(parts: readonly Part[]): Extracted | undefined {
  const ids = parts.flatMap((part) => part.ids);
  if (ids.length === 0) return undefined;
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
  parts.reduce((at, part) => (data.set(part.data, at), at + part.data.length), 0);
  return { features: matrixFrom(data, data.length / ids.length), ids };
}

function* openingOrders({ spec, seed, weights, head, sideMax, normalisation }: ExtractionModel): Generator<Message> {
  yield {
    type: "extractor-open",
    spec: structuredClone(spec) as Record<string, unknown> & typeof spec,
    seed,
    parts: weights.size,
    ...head === undefined ? {} : { head: { dims: [...head.dims], batchNorm: head.batchNorm } },
    ...sideMax === undefined ? {} : { sideMax },
    ...normalisation === undefined ? {} : {
      normalisation: {
        mean: [...normalisation.mean] as [number, number, number],
        std: [...normalisation.std] as [number, number, number],
      },
    },
  };
  for (const [name, { shape, data }] of weights) {
    yield { type: "weights-part", name, tensor: toWire(data, shape) };
  }
}
