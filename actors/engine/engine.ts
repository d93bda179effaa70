/**
 * The trainer's mathematics as an actor of its own, in the GPU worker: opens the device, builds the model, prepares and
 * commits steps, follows those of others, gives and takes states. Orders are carried out one after the other; answers of
 * other actors are taken at once, and the end of a membership epoch ends the waits of its step. It knows links only as a
 * function that sends.
 */
import type { TrainConfig } from "../../config.ts";
import type { Device, OpenOptions } from "../../device/device.ts";
import type { LossScaleOptions } from "../../optim/loss_scale.ts";
import type { PreparedStep } from "../../methods/step.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { formatSegments } from "../../nn/segments.ts";
import type { Message } from "../../wire/messages.ts";
import { Batches } from "./batches.ts";
import { FollowedSums } from "./followed_sums.ts";
import { GradientStream } from "./gradient_stream.ts";
import { IncomingState, type StateKey } from "./incoming_state.ts";
import { memoryUse } from "./memory.ts";
import { EpochOver } from "./remote_peers.ts";
import { describeAdapter, openSession, type Seat, type Session, takeSeat } from "./session.ts";
import { sharedPieces, sumsOf } from "./shared.ts";
import { partDigest, restore, snapshot } from "./snapshot.ts";
import { Stopwatch } from "./stopwatch.ts";
import { type BatchMessage, makeViews } from "./views.ts";

/** What the engine reaches outside itself. */
export interface EnginePorts {
  readonly id: string;
  send(message: Message): void;
  openDevice(options: OpenOptions): Promise<Device>;
  /** Monotonic milliseconds. */
  now(): number;
  /** Of the loss scale in mixed precision; given by tests that cannot wait for thousands of steps. */
  readonly lossScale?: LossScaleOptions;
  /**
   * Takes steps without what protects them: no fingerprint, no copies to undo them by, no running statistics for the other
   * trainers, no wait for the commit. Only a benchmark asks for it, to tell what they cost. @default false
   */
  readonly unprotected?: boolean;
  /** Makes the crops of a batch; given by tests that compare with crops from elsewhere. @default augmentation */
  views?(device: Device, batch: BatchMessage, config: TrainConfig): Tensor[];
}

type Order<T extends Message["type"]> = Extract<Message, { type: T }>;

/** One trainer's engine. */
export class Engine {
  readonly #ports: EnginePorts;
  #session: Session | undefined;
  /** What is carried now; undefined for a trainer that follows, or waits for its turn. */
  #seat: Seat | undefined;
  #followed: FollowedSums | undefined;
  /** The step that only its update is missing of. */
  #prepared: { readonly step: number; readonly update: PreparedStep } | undefined;
  /** The state here is that before this step; undefined for a trainer that has none yet. */
  #next: number | undefined;
  /** The newest epoch that was heard of: what is still to be done for an earlier one is void. */
  #epoch = 0;
  readonly #state = new IncomingState();
  readonly #batches: Batches;
  /** Orders not yet carried out, as one chain. */
  #orders: Promise<void> = Promise.resolve();

  constructor(ports: EnginePorts) {
    this.#ports = ports;
    this.#batches = new Batches((want) => ports.send({ type: "want-batch", ...want }));
  }

  /** Takes one message; failures are reported as a `failed` message. */
  receive(message: Message): void {
    if (this.#seat?.peers.receive(message) || this.#followed?.receive(message)) return;
    if (message.type === "batch") return this.#batches.receive(message);
    if (message.type === "state-part" || message.type === "state-end") {
      this.#state.receive(message);
      // A trainer that follows takes the state when it is told to.
      if (message.type === "state-part" || this.#seat === undefined) return;
    }
    if (message.type === "regroup") this.#endEpoch(message);
    if (message.type === "observe") this.#followed?.begin(message.epoch);
    this.#orders = this.#orders.then(() => this.#obey(message)).catch((error) => {
      if (error instanceof EpochOver) return;
      const text = error instanceof Error ? error.stack ?? error.message : String(error);
      this.#ports.send({ type: "failed", error: text.slice(0, 8_000), logTail: [] });
    }).catch(() => {
      // The trainer has been stopped meanwhile: nobody is left to be told.
    });
  }

  /** Whoever waits for other actors waits in vain; but a trainer that is let in has commits to catch up with first. */
  #endEpoch({ epoch, trainers }: Order<"regroup">): void {
    this.#epoch = Math.max(this.#epoch, epoch);
    const reason = `epoch ${epoch} begins`;
    this.#seat?.peers.end(reason);
    this.#batches.end(reason);
    if (trainers.some(({ id }) => id === this.#ports.id)) return;
    this.#followed?.begin(epoch);
    this.#state.begin(epoch);
  }

  async #obey(message: Message): Promise<void> {
    switch (message.type) {
      case "configure":
        return await this.#configure(message);
      case "step":
        return await this.#step(message);
      case "commit":
        return await this.#commit(message);
      case "regroup":
        return this.#regroup(message);
      case "save":
        return await this.#save(message);
      case "share-state":
        return await this.#shareState(message);
      case "observe":
        return await this.#observe(message);
      case "state-end":
        return this.#restore(message);
    }
  }

  async #configure(message: Order<"configure">): Promise<void> {
    const session = await openSession(message, this.#ports);
    this.#session = session;
    this.#sit(message.trainers, message.epoch ?? 0);
    if (this.#seat !== undefined) this.#next = 0;
    const segments = this.#seat?.segments ?? [];
    const again = segments.length === 0 ? "" : `; runs units ${formatSegments(segments)} of the trunk again`;
    this.#ports.send({ type: "ready", detail: describeAdapter(session.device.adapter) + again });
  }

  #sit(trainers: Order<"configure">["trainers"], epoch: number): void {
    const session = this.#configured();
    const { id, send } = this.#ports;
    this.#seat = takeSeat(session, { id, epoch, trainers, send: (message) => send(message) });
    if (this.#seat !== undefined) this.#followed = undefined;
    else this.#followed ??= new FollowedSums(2 * session.config.cluster.stepTimeoutMs);
    this.#followed?.begin(epoch);
  }

  #configured(): Session {
    if (this.#session === undefined) throw new TypeError("Trainer got an order before its configuration");
    return this.#session;
  }

  async #step({ step, epoch, learningRate, observers = [] }: Order<"step">): Promise<void> {
    const session = this.#configured(), seat = this.#seat;
    if (seat === undefined || seat.epoch !== epoch || epoch < this.#epoch) return;
    if (this.#next !== step) throw new RangeError(`Cannot take step ${step}: the state here is before ${this.#next}`);
    const { config, device, method, lossScale } = session;
    const { replicas } = seat, { unprotected = false } = this.#ports;
    const watch = new Stopwatch(() => this.#ports.now());
    for (const ahead of [step, step + 1]) {
      if (config.steps !== undefined && ahead >= config.steps) continue;
      for (const replica of replicas) this.#batches.want(ahead, replica);
    }
    // Longer than the controller waits, which finds out who is late.
    const timeoutMs = 2 * config.cluster.stepTimeoutMs;
    const batches = await watch.time("data", () => this.#batches.take(step, { replicas, timeoutMs }));
    seat.peers.observers = observers;
    const timed = watch.around(seat.peers, { step, config });
    const inputs = batches.map((batch) => ({
      replica: batch.replica,
      views: (this.#ports.views ?? makeViews)(device, batch, config),
      queue: queueOf(session, step)?.(batch.replica),
      labels: batch.labels,
    }));
    const scale = lossScale?.value;
    const update = await method.prepare(inputs, {
      ...this.#stepOf(session, { step, learningRate }),
      segments: seat.segments,
      collective: config.syncBatchNormGroup === 1 ? undefined : timed.group,
      world: timed.world,
      assigner: timed,
      share: unprotected ? undefined : (pieces) => sharedPieces(session, { step, pieces, replicas, join: timed.join }),
      unprotected,
      gradients: new GradientStream({
        device,
        step,
        plan: session.planOf(step),
        parameters: session.parameters,
        replicas,
        world: timed.world,
      }),
    });
    this.#prepared = { step, update };
    if (unprotected) await this.#commit({ type: "commit", step, epoch, learningRate });
    this.#ports.send({
      type: "prepared",
      step,
      epoch,
      weights: update.weights,
      replicas: [...update.results],
      ...watch.report(),
      deviceBytes: device.memory.peakBytes,
      memory: memoryUse(device, { ...session, replicas: replicas.length, resting: method.resting(step) }),
      lossScale: scale,
      // This one included, whose update is not made yet.
      skippedSteps: lossScale && lossScale.skippedSteps + (update.overflows ? 1 : 0),
    });
  }

  /** What a step needs, whether it is computed or followed. */
  #stepOf(session: Session, { step, learningRate }: { step: number; learningRate: number }) {
    const { optimizer, lossScale } = session;
    return { step, optimizer, learningRate, lossScale, queueOf: queueOf(session, step) };
  }

  async #commit(order: Order<"commit">): Promise<void> {
    const { step, epoch } = order;
    if (this.#next !== step) return;
    if (this.#prepared !== undefined) {
      this.#prepared.update.commit();
      this.#prepared = undefined;
    } else if (this.#followed !== undefined) await this.#follow(order, this.#followed);
    else return;
    this.#next = step + 1;
    if (this.#followed !== undefined) this.#ports.send({ type: "followed", step, epoch });
  }

  /** Takes a step from the others' sums. */
  async #follow({ step, epoch, learningRate }: Order<"commit">, followed: FollowedSums): Promise<void> {
    const session = this.#configured();
    const given = await sumsOf(session, {
      step,
      take: (key) => followed.take(epoch, key),
      queued: queueOf(session, step) !== undefined,
    });
    await session.method.follow(this.#stepOf(session, { step, learningRate }), given);
  }

  /** Brings the state to that before the epoch's first step, and takes the place that the epoch gives. */
  #regroup({ epoch, step, trainers }: Order<"regroup">): void {
    // Another has begun meanwhile, before the same step.
    if (epoch < this.#epoch) return;
    const prepared = this.#prepared;
    this.#prepared = undefined;
    if (prepared !== undefined && prepared.step + 1 === step) {
      // Everybody had prepared it, or it would not count.
      prepared.update.commit();
      this.#next = step;
    } else prepared?.update.discard();
    this.#sit(trainers, epoch);
    if (this.#seat === undefined) this.#next = undefined;
    else if (this.#next !== step) {
      throw new RangeError(`Cannot join epoch ${epoch} at step ${step}: the state here is before step ${this.#next}`);
    }
    this.#batches.keep(step, this.#seat?.replicas ?? []);
    this.#ports.send({ type: "regrouped", epoch });
  }

  async #save({ step, epoch }: Order<"save">): Promise<void> {
    if (epoch < this.#epoch) return;
    const parts = await snapshot(this.#configured());
    for (const part of parts) this.#ports.send({ type: "snapshot-part", step, epoch, part });
    this.#ports.send({ type: "snapshot-end", step, epoch, parts: parts.length });
  }

  async #shareState({ step, epoch, to }: Order<"share-state">): Promise<void> {
    if (this.#next !== step || epoch < this.#epoch) return;
    const parts = (await snapshot(this.#configured())).map((part) => ({ part, sha256: partDigest(part) }));
    for (const [index, each] of to.entries()) {
      // What is sent may be taken out of this thread's memory: all receivers but the last get a copy.
      const own = index === to.length - 1 ? parts : structuredClone(parts);
      for (const part of own) this.#ports.send({ type: "state-part", step, epoch, ...part, to: each });
      this.#ports.send({ type: "state-end", step, epoch, parts: parts.length, to: each });
    }
  }

  async #observe({ step, epoch }: Order<"observe">): Promise<void> {
    const { config } = this.#configured();
    if (this.#seat !== undefined || epoch < this.#epoch) return;
    this.#followed?.begin(epoch);
    this.#restore({ step, epoch }, await this.#state.arrived({ step, epoch }, config.cluster.startTimeoutMs));
  }

  #restore({ step, epoch }: StateKey, parts = this.#state.take({ step, epoch })): void {
    restore(parts, this.#configured());
    this.#next = step;
    this.#ports.send({ type: "restored", step, epoch });
  }
}

/** The queues of all replicas in a step that uses them. */
function queueOf({ config, queues }: Session, step: number) {
  return step >= config.queue.startStep && queues.size > 0 ? (replica: number) => queues.get(replica) : undefined;
}
