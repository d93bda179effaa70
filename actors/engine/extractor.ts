/**
 * The extractor's mathematics, in its GPU worker: builds a network from the weights that come, then turns batches of image
 * files into features. It knows links only as a function that sends, and no label.
 */
import type { Device, OpenOptions } from "../../device/device.ts";
import { buildEmbedding } from "../../evaluate/embedding.ts";
import { type Embed, extractReadable, openImages } from "../../evaluate/features.ts";
import type { StateDict } from "../../nn/state_dict.ts";
import type { TrunkSpec } from "../../nn/trunk_spec.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

/** What the extractor reaches outside itself. */
export interface ExtractorPorts {
  send(message: Message): void;
  openDevice(options: OpenOptions): Promise<Device>;
}

type Opening = Extract<Message, { type: "extractor-open" }>;

/** The extractor's engine. */
export class Extractor {
  readonly #ports: ExtractorPorts;
  #opening: Opening | undefined;
  readonly #weights: StateDict = new Map();
  #session: { readonly device: Device; readonly embed: Embed } | undefined;
  /** Orders not yet carried out, as one chain. */
  #orders: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(ports: ExtractorPorts) {
    this.#ports = ports;
  }

  /** Takes one message; failures are reported as a `failed` message. */
  receive(message: Message): void {
    this.#orders = this.#orders.then(() => this.#obey(message)).catch((error) => {
      if (this.#closed) return;
      const text = error instanceof Error ? error.stack ?? error.message : String(error);
      this.#ports.send({ type: "failed", error: text.slice(0, 8_000), logTail: [] });
    });
  }

  /** Ends after the order under way; nothing is sent any more. */
  close(): void {
    this.#closed = true;
    this.#orders = this.#orders.then(() => this.#session?.device.destroy());
  }

  async #obey(message: Message): Promise<void> {
    if (this.#closed) return;
    if (message.type === "extractor-open") {
      this.#opening = message;
      if (message.parts === 0) await this.#build(message);
    }
    if (message.type === "weights-part" && this.#opening !== undefined) {
      const { name, tensor } = message;
      this.#weights.set(name, { shape: tensor.shape, data: f32FromWire(tensor) });
      if (this.#weights.size === this.#opening.parts) await this.#build(this.#opening);
    }
    if (message.type === "extract") await this.#extract(message);
  }

  async #build({ spec, seed, head }: Opening): Promise<void> {
    const device = await this.#ports.openDevice({ provider: "auto" });
    const { embed } = buildEmbedding(device, {
      spec: spec as Record<string, unknown> & TrunkSpec,
      seed,
      head,
      weights: this.#weights,
    });
    this.#session = { device, embed };
    const { name, provider } = device.adapter;
    if (!this.#closed) this.#ports.send({ type: "ready", detail: `${name} through ${provider}` });
  }

  async #extract({ batch, size, view, images: files }: Extract<Message, { type: "extract" }>): Promise<void> {
    if (this.#session === undefined || this.#opening === undefined) {
      throw new TypeError("The extractor got images before its weights");
    }
    const { sideMax, normalisation } = this.#opening;
    const source = {
      size: files.length,
      name: (id: number) => files[id].name,
      read: (id: number) => Promise.resolve(files[id].bytes.bytes),
    };
    const found = await extractReadable({
      ...this.#session,
      images: openImages(source, { sideMax, cacheBytes: 0 }),
      ids: files.map((_, id) => id),
      size,
      view,
      batch: files.length,
      normalisation,
    });
    if (this.#closed) return;
    const { data, rows, columns } = found?.features ?? { data: new Float32Array(0), rows: 0, columns: 0 };
    const values = toWire(data.slice(), [rows, columns]);
    this.#ports.send({ type: "extracted", batch, kept: [...found?.ids ?? []], values });
  }
}
