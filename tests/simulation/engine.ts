/**
 * A trainer's engine without a device: weights are eight numbers, and every number of a step depends on its samples, the
 * weights, the codes and the sums of all replicas, so that whatever is lost, doubled or late changes the end. It speaks
 * the messages of the real one.
 */
import { treeCover, treeSum } from "../../collectives/tree.ts";
import { sha256Hex } from "../../checkpoint/manifest.ts";
import { parseConfig, type TrainConfig } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

const size = 8;

type Vector = Float32Array<ArrayBuffer>;
type Batch = Extract<Message, { type: "batch" }>;

/** The engine of trainer `id`. */
export class StubEngine {
  #config: TrainConfig | undefined;
  #low = 0;
  #high = 0;
  #weights: Vector = Float32Array.from({ length: size }, (_, i) => 1 + i / 10);
  #momentum: Vector = new Float32Array(size);
  #parts: Extract<Message, { type: "state-part" }>["part"][] = [];
  readonly #waits = new Map<string, PromiseWithResolvers<Message>>();
  #orders: Promise<void> = Promise.resolve();

  constructor(readonly id: string, readonly send: (message: Message) => void) {}

  /** A bit flips. */
  disturb(): void {
    this.#weights[0] += 1e-3;
  }

  receive(message: Message): void {
    if (message.type === "batch" || message.type === "codes") {
      return this.#wait(`${message.type} ${message.step} ${message.replica}`).resolve(message);
    }
    if (message.type === "reduced") return this.#wait(message.key).resolve(message);
    if (message.type === "state-part") {
      this.#parts.push(message.part);
      return;
    }
    this.#orders = this.#orders.then(() => this.#obey(message)).catch((error) =>
      this.send({ type: "failed", error: String(error), logTail: [] })
    );
  }

  async #obey(message: Message): Promise<void> {
    if (message.type === "configure") {
      this.#config = parseConfig(message.config, { source: "the simulation" });
      const seat = message.trainers.find(({ id }) => id === this.id);
      if (seat === undefined) throw new Error(`${this.id} has no seat`);
      [this.#low, this.#high] = [seat.low, seat.high];
      this.send({ type: "ready", detail: "stub" });
    }
    if (message.type === "step") await this.#step(message.step, message.learningRate);
    if (message.type === "save") this.#save(message.step);
    if (message.type === "state-end") this.#restore(message);
  }

  #wait(key: string): PromiseWithResolvers<Message> {
    const known = this.#waits.get(key) ?? Promise.withResolvers<Message>();
    this.#waits.set(key, known);
    return known;
  }

  async #take<T extends Message["type"]>(key: string): Promise<Extract<Message, { type: T }>> {
    const message = await this.#wait(key).promise;
    this.#waits.delete(key);
    return message as Extract<Message, { type: T }>;
  }

  async #step(step: number, learningRate: number): Promise<void> {
    const config = this.#config;
    if (config === undefined) throw new Error("a step came before the configuration");
    const replicas = Array.from({ length: this.#high - this.#low }, (_, i) => this.#low + i);
    for (const replica of replicas) this.send({ type: "want-batch", step, replica });
    const gradients: Vector[] = [], rows = [];
    const batches = [];
    for (const replica of replicas) batches.push(await this.#take<"batch">(`batch ${step} ${replica}`));
    for (const batch of batches) this.#sendScores(batch, config);
    for (const batch of batches) {
      const { replica } = batch;
      const codes = f32FromWire((await this.#take<"codes">(`codes ${step} ${replica}`)).values);
      const gradient = this.#gradient(batch, codes);
      gradients.push(gradient);
      const loss = gradient.reduce((sum, value) => sum + value * value, 1);
      rows.push({ replica, loss, embeddingDeviation: 1 });
    }
    const sum = await this.#sum(`gradient/${step}/0@0`, gradients, config.replicas);
    for (let i = 0; i < size; i++) {
      this.#momentum[i] = 0.5 * this.#momentum[i] + sum[i] / config.replicas;
      this.#weights[i] -= learningRate * this.#momentum[i];
    }
    this.send({ type: "step-done", step, replicas: rows, dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 });
  }

  /** Scores that depend on samples and weights. */
  #sendScores({ step, replica, ids }: Batch, { assignCrops, prototypes }: TrainConfig): void {
    const rows = ids.length, count = prototypes.count;
    const values = new Float32Array(assignCrops.length * rows * count);
    for (let i = 0; i < values.length; i++) {
      const id = ids[Math.floor(i / count) % rows];
      values[i] = Math.sin(id + i * this.#weights[i % size]);
    }
    this.send({
      type: "scores",
      ...{ step, replica, batch: rows, rows },
      values: toWire(values, [assignCrops.length, rows, count]),
    });
  }

  #gradient({ ids, replica }: Batch, codes: Vector): Vector {
    return Float32Array.from({ length: size }, (_, i) => {
      const seen = ids.reduce((sum, id, place) => sum + Math.cos(id * (i + 1) + place + replica), 0);
      const told = codes.reduce((sum, code, place) => sum + code * Math.sin(place + i), 0);
      return 0.1 * (seen + told) + 0.05 * this.#weights[i];
    });
  }

  async #sum(key: string, vectors: readonly Vector[], slots: number): Promise<Vector> {
    for (const { low, high } of treeCover(slots, this.#low, this.#high)) {
      const values = treeSum(vectors.slice(low - this.#low, high - this.#low));
      this.send({ type: "contribute", key, slots, low, high, values: toWire(values) });
    }
    return f32FromWire((await this.#take<"reduced">(key)).values);
  }

  #save(step: number): void {
    const digest = sha256Hex(new Uint8Array(this.#weights.slice().buffer));
    const parts = this.#low > 0 ? [] : [
      { file: "model", name: "weight", tensor: toWire(this.#weights.slice()) } as const,
      { file: "optimizer", name: "weight.momentum", tensor: toWire(this.#momentum.slice()) } as const,
    ];
    for (const part of parts) this.send({ type: "snapshot-part", step, part });
    this.send({ type: "snapshot-end", step, parts: parts.length, digest });
  }

  #restore({ step, parts }: Extract<Message, { type: "state-end" }>): void {
    if (this.#parts.length !== parts) throw new Error(`${this.#parts.length} of ${parts} parts came`);
    for (const { file, tensor } of this.#parts) {
      const values = f32FromWire(tensor).slice();
      if (file === "model") this.#weights = values;
      else this.#momentum = values;
    }
    this.#parts = [];
    this.send({ type: "restored", step });
  }
}
