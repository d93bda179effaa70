/**
 * A trainer's engine without a device: weights are eight numbers, and every number of a step depends on its samples, the
 * weights, the codes and the sums of all replicas, so that whatever is lost, doubled or late changes the end. It speaks
 * the messages of the real one, over the real one's parts that know no device.
 */
import { Batches } from "../../actors/engine/batches.ts";
import { FollowedSums } from "../../actors/engine/followed_sums.ts";
import { IncomingState, type StateKey } from "../../actors/engine/incoming_state.ts";
import { EpochOver, RemotePeers } from "../../actors/engine/remote_peers.ts";
import { sharedKey } from "../../actors/engine/shared.ts";
import { partDigest, type StatePart } from "../../actors/engine/snapshot.ts";
import { sha256Hex } from "../../checkpoint/manifest.ts";
import { parseConfig, type TrainConfig } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

const size = 8;

type Vector = Float32Array<ArrayBuffer>;
type Order<T extends Message["type"]> = Extract<Message, { type: T }>;
type Batch = Order<"batch">;

interface Seat {
  readonly epoch: number;
  readonly replicas: readonly number[];
  readonly peers: RemotePeers;
}

/** The engine of trainer `id`. */
export class StubEngine {
  #config: TrainConfig | undefined;
  #seat: Seat | undefined;
  #followed: FollowedSums | undefined;
  #prepared: { step: number; sum: Vector; shared: Vector; learningRate: number } | undefined;
  #next: number | undefined;
  #epoch = 0;
  #weights: Vector = Float32Array.from({ length: size }, (_, i) => 1 + i / 10);
  #momentum: Vector = new Float32Array(size);
  /** What every replica has left behind, which later steps depend on. */
  #shared: Vector = new Float32Array();
  readonly #batches: Batches;
  readonly #state = new IncomingState();
  #orders: Promise<void> = Promise.resolve();

  constructor(readonly id: string, readonly send: (message: Message) => void) {
    this.#batches = new Batches((want) => send({ type: "want-batch", ...want }));
  }

  /** A bit flips. */
  disturb(): void {
    this.#weights[0] += 1e-3;
  }

  receive(message: Message): void {
    if (this.#seat?.peers.receive(message) || this.#followed?.receive(message)) return;
    if (message.type === "batch") return this.#batches.receive(message);
    if (message.type === "state-part" || message.type === "state-end") {
      this.#state.receive(message);
      if (message.type === "state-part" || this.#seat === undefined) return;
    }
    if (message.type === "regroup") {
      this.#epoch = Math.max(this.#epoch, message.epoch);
      const reason = `epoch ${message.epoch} begins`;
      this.#seat?.peers.end(reason);
      this.#batches.end(reason);
      if (!message.trainers.some(({ id }) => id === this.id)) {
        this.#followed?.begin(message.epoch);
        this.#state.begin(message.epoch);
      }
    }
    if (message.type === "observe") this.#followed?.begin(message.epoch);
    this.#orders = this.#orders.then(() => this.#obey(message)).catch((error) => {
      if (!(error instanceof EpochOver)) this.send({ type: "failed", error: String(error), logTail: [] });
    });
  }

  async #obey(message: Message): Promise<void> {
    switch (message.type) {
      case "configure":
        this.#config = parseConfig(message.config, { source: "the simulation" });
        this.#sit(message.trainers, message.epoch ?? 0);
        if (this.#seat !== undefined) this.#next = 0;
        return this.send({ type: "ready", detail: "stub" });
      case "step":
        return await this.#step(message);
      case "commit":
        return await this.#commit(message);
      case "regroup":
        return this.#regroup(message);
      case "save":
        return this.#save(message);
      case "share-state":
        return this.#shareState(message);
      case "observe":
        if (this.#seat !== undefined || message.epoch < this.#epoch) return;
        return this.#restore(message, await this.#state.arrived(message, 60_000));
      case "state-end":
        return this.#restore(message);
    }
  }

  #sit(trainers: Order<"configure">["trainers"], epoch: number): void {
    const local = trainers.find(({ id }) => id === this.id);
    const replicas = Array.from({ length: (local?.high ?? 0) - (local?.low ?? 0) }, (_, i) => (local?.low ?? 0) + i);
    const send = (message: Message) => this.send(message);
    this.#seat = local && { epoch, replicas, peers: new RemotePeers({ local, epoch, send, timeoutMs: 60_000 }) };
    this.#followed = this.#seat === undefined ? this.#followed ?? new FollowedSums(60_000) : undefined;
    this.#followed?.begin(epoch);
  }

  get #world(): { low: number; high: number } {
    return { low: 0, high: this.#config?.replicas ?? 0 };
  }

  async #step({ step, epoch, learningRate, observers = [] }: Order<"step">): Promise<void> {
    const config = this.#config, seat = this.#seat;
    if (config === undefined || seat?.epoch !== epoch || epoch < this.#epoch) return;
    if (this.#next !== step) throw new Error(`step ${step} came, the state is before ${this.#next}`);
    const { replicas, peers } = seat;
    peers.observers = observers;
    for (const ahead of [step, step + 1]) for (const replica of replicas) this.#batches.want(ahead, replica);
    const batches = await this.#batches.take(step, { replicas, timeoutMs: 60_000 });
    const scores = batches.map((batch) => peers.assign(this.#scores(batch, config)));
    const codes = await Promise.all(scores);
    const gradients = batches.map((batch, index) => this.#gradient(batch, codes[index]));
    const rows = gradients.map((gradient, index) => ({
      replica: replicas[index],
      loss: gradient.reduce((sum, value) => sum + value * value, 1),
      embeddingDeviation: 1,
    }));
    const key = `gradient/${step}/0`;
    const [sum] = await Promise.all(
      replicas.map((replica, index) => peers.collective(replica, this.#world).allReduce(key, gradients[index])),
    );
    const pieces = gradients.map((gradient) => gradient.slice(0, 2));
    const shared = await peers.join(sharedKey(step), pieces, config.replicas);
    this.#prepared = { step, sum, shared, learningRate };
    const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
    this.send({ type: "prepared", step, epoch, weights: this.#digest(), replicas: rows, ...times });
  }

  #digest(): string {
    return sha256Hex(new Uint8Array(this.#weights.slice().buffer)).slice(0, 32);
  }

  async #commit({ step, epoch, learningRate }: Order<"commit">): Promise<void> {
    if (this.#next !== step) return;
    if (this.#prepared !== undefined) this.#move(this.#prepared);
    else if (this.#followed !== undefined) {
      const sum = await this.#followed.take(epoch, `gradient/${step}/0@0`);
      this.#move({ sum, shared: await this.#followed.take(epoch, sharedKey(step)), learningRate });
    } else return;
    this.#prepared = undefined;
    this.#next = step + 1;
    if (this.#followed !== undefined) this.send({ type: "followed", step, epoch });
  }

  #move({ sum, shared, learningRate }: { sum: Vector; shared: Vector; learningRate: number }): void {
    for (let i = 0; i < size; i++) {
      this.#momentum[i] = 0.5 * this.#momentum[i] + sum[i] / this.#world.high;
      this.#weights[i] -= learningRate * this.#momentum[i];
    }
    this.#shared = shared;
  }

  #regroup({ epoch, step, trainers }: Order<"regroup">): void {
    if (epoch < this.#epoch) return;
    const prepared = this.#prepared;
    this.#prepared = undefined;
    // The commit of a step comes before the epoch that follows it, on the same link.
    if (prepared !== undefined && prepared.step + 1 === step) {
      this.#move(prepared);
      this.#next = step;
    }
    this.#sit(trainers, epoch);
    if (this.#seat === undefined) this.#next = undefined;
    else if (this.#next !== step) {
      throw new Error(`epoch ${epoch} begins at step ${step}, the state is before ${this.#next}`);
    }
    this.#batches.keep(step, this.#seat?.replicas ?? []);
    this.send({ type: "regrouped", epoch });
  }

  /** Scores that depend on samples and weights. */
  #scores({ step, replica, ids }: Batch, { assignCrops, prototypes }: TrainConfig) {
    const rows = ids.length, count = prototypes.count;
    const scores = new Float32Array(assignCrops.length * rows * count);
    const left = this.#shared[2 * replica] ?? 0;
    for (let i = 0; i < scores.length; i++) {
      const id = ids[Math.floor(i / count) % rows];
      scores[i] = Math.sin(id + i * this.#weights[i % size] + left);
    }
    return { step, replica, batch: rows, rows, scores };
  }

  #gradient({ ids, replica }: Batch, codes: Vector): Vector {
    return Float32Array.from({ length: size }, (_, i) => {
      const seen = ids.reduce((sum, id, place) => sum + Math.cos(id * (i + 1) + place + replica), 0);
      const told = codes.reduce((sum, code, place) => sum + code * Math.sin(place + i), 0);
      return 0.1 * (seen + told) + 0.05 * this.#weights[i];
    });
  }

  #parts(): StatePart[] {
    return [
      { file: "model", name: "weight", tensor: toWire(this.#weights.slice()) },
      { file: "optimizer", name: "weight.momentum", tensor: toWire(this.#momentum.slice()) },
      { file: "optimizer", name: "shared", tensor: toWire(this.#shared.slice()) },
    ];
  }

  #save({ step, epoch }: Order<"save">): void {
    if (epoch < this.#epoch) return;
    const parts = this.#parts();
    for (const part of parts) this.send({ type: "snapshot-part", step, epoch, part });
    this.send({ type: "snapshot-end", step, epoch, parts: parts.length });
  }

  #shareState({ step, epoch, to }: Order<"share-state">): void {
    if (this.#next !== step || epoch < this.#epoch) return;
    for (const each of to) {
      const parts = this.#parts();
      for (const part of parts) {
        this.send({ type: "state-part", step, epoch, part, sha256: partDigest(part), to: each });
      }
      this.send({ type: "state-end", step, epoch, parts: parts.length, to: each });
    }
  }

  #restore({ step, epoch }: StateKey, parts = this.#state.take({ step, epoch })): void {
    for (const { name, tensor } of parts) {
      const values = f32FromWire(tensor).slice();
      if (name === "weight") this.#weights = values;
      else if (name === "shared") this.#shared = values;
      else this.#momentum = values;
    }
    this.#next = step;
    this.send({ type: "restored", step, epoch });
  }
}
