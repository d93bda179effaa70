/**
 * The evaluator's mathematics, in its GPU worker: opens the labelled images and a device once, then judges one checkpoint
 * after the other by the trunk's features. It knows links only as a function that sends.
 */
import { f32Of, readSafetensors } from "../../checkpoint/safetensors.ts";
import { parseConfig, type TrainConfig } from "../../config.ts";
import type { Device, OpenOptions } from "../../device/device.ts";
import { type ImageReader, moduleEmbedding, openImages } from "../../evaluate/features.ts";
import { openEvaluationSet } from "../../evaluate/labelled_set.ts";
import { judge } from "../../evaluate/online.ts";
import type { Protocol } from "../../evaluate/protocol.ts";
import type { SwavModel } from "../../swav/model.ts";
import { loadStateDict, type StateDict } from "../../nn/state_dict.ts";
import { freeTensors } from "../../tensor/tensor.ts";
import type { Message } from "../../wire/messages.ts";
import { buildMethod } from "./method.ts";

/** What the prober reaches outside itself. */
export interface ProberPorts {
  send(message: Message): void;
  openDevice(options: OpenOptions): Promise<Device>;
  /** Monotonic milliseconds. */
  now(): number;
}

interface Session {
  readonly config: TrainConfig;
  readonly device: Device;
  readonly trunk: SwavModel["trunk"];
  readonly images: ImageReader;
  readonly protocol: Protocol;
}

/** The evaluator's engine. */
export class Prober {
  readonly #ports: ProberPorts;
  #session: Session | undefined;
  /** Orders not yet carried out, as one chain. */
  #orders: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(ports: ProberPorts) {
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

  /** Ends the work under way at the next batch of images; nothing is sent any more. */
  close(): void {
    this.#closed = true;
    this.#orders = this.#orders.then(() => this.#session?.device.destroy());
  }

  async #obey(message: Message): Promise<void> {
    if (this.#closed) return;
    if (message.type === "configure") await this.#configure(message);
    if (message.type === "probe") await this.#probe(message);
  }

  async #configure(message: Extract<Message, { type: "configure" }>): Promise<void> {
    const config = parseConfig(message.config, { source: "the controller's configuration" });
    const { source, protocol } = await openEvaluationSet(config.probe.data || config.data.folder);
    const { sideMax, cacheBytes } = config.data;
    const provider = message.adapter?.provider;
    const device = await this.#ports.openDevice({
      provider: provider === "deno" || provider === "dawn" ? provider : "auto",
      adapter: message.adapter?.name,
    });
    const { model } = buildMethod(device, config, { blank: true });
    const { trunk } = model;
    const needed = new Set([...trunk.parameters(), ...trunk.buffers()].map(({ name }) => name));
    freeTensors(
      [...model.parameters, ...model.buffers].filter(({ name }) => !needed.has(name)).map(({ tensor }) => tensor),
    );
    this.#session = { config, device, trunk, protocol, images: openImages(source, { sideMax, cacheBytes }) };
    if (this.#closed) return;
    const { train, test } = protocol;
    const detail =
      `${device.adapter.name} through ${device.adapter.provider}; learns from ${train.ids.length} images ` +
      `(${train.name}), is asked about ${test.ids.length} (${test.name})`;
    this.#ports.send({ type: "ready", detail });
  }

  async #probe({ step, folder }: Extract<Message, { type: "probe" }>): Promise<void> {
    if (this.#session === undefined) throw new TypeError("The evaluator got a snapshot before its configuration");
    const { config, device, trunk, images, protocol } = this.#session;
    const startMs = this.#ports.now();
    const { tensors } = readSafetensors(await Deno.readFile(`${folder}/model.safetensors`));
    const weights: StateDict = new Map();
    for (const [name, tensor] of tensors) {
      if (name.startsWith("trunk.")) weights.set(name, { shape: tensor.shape, data: f32Of(tensor) });
    }
    loadStateDict(trunk, weights);
    const { mean, std } = config.augmentation;
    const results = await judge({
      device,
      images,
      protocol,
      embed: moduleEmbedding(trunk),
      protocols: config.probe.protocols,
      size: Math.max(...config.crops.map((crop) => crop.size)),
      normalisation: { mean, std },
      progress: () => {
        if (this.#closed) throw new Error("the evaluator was ended");
      },
    });
    if (this.#closed) return;
    const seconds = (this.#ports.now() - startMs) / 1000;
    this.#ports.send({ type: "probed", step, results, seconds });
  }
}
