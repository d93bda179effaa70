/**
 * The trainer's mathematics as an actor of its own, in the GPU worker: opens the device, builds the model, takes steps,
 * gives and takes snapshots. Orders are carried out one after the other; answers of other actors are taken at once. It
 * knows links only as a function that sends.
 */
import { deadline } from "@std/async/deadline";
import { parseConfig, type TrainConfig } from "../../config.ts";
import { planSlices, type SlicePlan } from "../../collectives/slices.ts";
import type { AdapterDescription, Device, OpenOptions } from "../../device/device.ts";
import type { Parameter } from "../../nn/module.ts";
import { LossScale, type LossScaleOptions } from "../../optim/loss_scale.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import { EmbeddingQueue } from "../../swav/queue.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { formatSegments, type Segment } from "../../nn/segments.ts";
import type { Message } from "../../wire/messages.ts";
import { buildOptimizer, checkPrecision, segmentsOf } from "./build.ts";
import { GradientStream } from "./gradient_stream.ts";
import { memoryUse } from "./memory.ts";
import { buildMethod, type Method } from "./method.ts";
import { RemotePeers } from "./remote_peers.ts";
import { checkChoices } from "./shapes.ts";
import { restore, snapshot } from "./snapshot.ts";
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
  /** Makes the crops of a batch; given by tests that compare with crops from elsewhere. @default augmentation */
  views?(device: Device, batch: BatchMessage, config: TrainConfig): Tensor[];
}

/** What a configured engine works with. */
interface Session {
  readonly config: TrainConfig;
  readonly device: Device;
  readonly method: Method;
  readonly model: Method["model"];
  readonly optimizer: Optimizer;
  /** In mixed precision. */
  readonly lossScale: LossScale | undefined;
  readonly peers: RemotePeers;
  /** The slices of a step's gradient, which lacks the parameters that rest. */
  planOf(step: number): SlicePlan;
  readonly parameters: ReadonlyMap<string, Parameter>;
  /** Units of the trunk that are run again in the backward pass. */
  readonly segments: readonly Segment[];
  /** Replicas carried here, ascending. */
  readonly replicas: readonly number[];
  readonly queues: ReadonlyMap<number, EmbeddingQueue>;
}

type Parts = Extract<Message, { type: "state-part" }>["part"][];

/** One trainer's engine. */
export class Engine {
  readonly #ports: EnginePorts;
  #session: Session | undefined;
  /** Orders not yet carried out, as one chain. */
  #orders: Promise<void> = Promise.resolve();
  readonly #batches = new Map<string, PromiseWithResolvers<BatchMessage>>();
  #parts: Parts = [];

  constructor(ports: EnginePorts) {
    this.#ports = ports;
  }

  /** Takes one message; failures are reported as a `failed` message. */
  receive(message: Message): void {
    if (this.#session?.peers.receive(message)) return;
    if (message.type === "batch") {
      this.#batchOf(message.step, message.replica).resolve(message);
    } else if (message.type === "state-part") {
      this.#parts.push(message.part);
    } else {
      this.#orders = this.#orders.then(() => this.#obey(message)).catch((error) => {
        const text = error instanceof Error ? error.stack ?? error.message : String(error);
        this.#ports.send({ type: "failed", error: text.slice(0, 8_000), logTail: [] });
      });
    }
  }

  async #obey(message: Message): Promise<void> {
    switch (message.type) {
      case "configure":
        return await this.#configure(message);
      case "step":
        return await this.#step(message.step, message.learningRate);
      case "save":
        return await this.#save(message.step);
      case "state-end":
        return this.#restore(message.step, message.parts);
    }
  }

  async #configure(message: Extract<Message, { type: "configure" }>): Promise<void> {
    const config = parseConfig(message.config, { source: "the controller's configuration" });
    const seat = message.trainers.find(({ id }) => id === this.#ports.id);
    if (seat === undefined) throw new TypeError(`Trainer ${this.#ports.id} has no seat in this run`);
    const provider = message.adapter?.provider;
    const device = await this.#ports.openDevice({
      provider: provider === "deno" || provider === "dawn" ? provider : "auto",
      adapter: message.adapter?.name,
      choices: message.choices,
    });
    checkPrecision(config, { adapter: device.adapter, trainer: this.#ports.id });
    if (message.choices !== undefined) await checkChoices(device.adapter, { config, choices: message.choices });
    const method = buildMethod(device, config), { model } = method;
    const { sliceBytes, stepTimeoutMs } = config.cluster;
    const backward = [...model.parameters].reverse().map(({ name, tensor }) => ({ name, size: tensor.size }));
    const shards = message.shards.length;
    const plans = new Map<ReadonlySet<string>, SlicePlan>();
    const local = { low: seat.low, high: seat.high };
    const replicas = Array.from({ length: seat.high - seat.low }, (_, index) => seat.low + index);
    const parameterCount = model.parameters.reduce((sum, { tensor }) => sum + tensor.size, 0);
    const segments = segmentsOf(config, { parameterCount, replicas: replicas.length });
    this.#session = {
      segments,
      config,
      device,
      method,
      model,
      optimizer: buildOptimizer(config),
      lossScale: config.precision === "mixed" ? new LossScale(this.#ports.lossScale) : undefined,
      peers: new RemotePeers({ local, send: (sent) => this.#ports.send(sent), timeoutMs: stepTimeoutMs }),
      planOf(step) {
        const resting = method.resting(step);
        const plan = plans.get(resting) ??
          planSlices(backward.filter(({ name }) => !resting.has(name)), { sliceBytes, shards });
        plans.set(resting, plan);
        return plan;
      },
      parameters: new Map(model.parameters.map((parameter) => [parameter.name, parameter])),
      replicas,
      queues: makeQueues(device, config, replicas),
    };
    const again = segments.length === 0 ? "" : `; runs units ${formatSegments(segments)} of the trunk again`;
    this.#ports.send({ type: "ready", detail: describeAdapter(device.adapter) + again });
  }

  #configured(): Session {
    if (this.#session === undefined) throw new TypeError("Trainer got an order before its configuration");
    return this.#session;
  }

  #batchOf(step: number, replica: number): PromiseWithResolvers<BatchMessage> {
    const key = `${step}/${replica}`;
    const known = this.#batches.get(key);
    if (known !== undefined) return known;
    const made = Promise.withResolvers<BatchMessage>();
    this.#batches.set(key, made);
    return made;
  }

  /** Asks for a batch unless it was asked for already. */
  #want(step: number, replica: number): void {
    if (this.#batches.has(`${step}/${replica}`)) return;
    this.#batchOf(step, replica);
    this.#ports.send({ type: "want-batch", step, replica });
  }

  async #step(step: number, learningRate: number): Promise<void> {
    const session = this.#configured();
    const { config, device, method, optimizer, lossScale, peers, replicas } = session;
    const watch = new Stopwatch(() => this.#ports.now());
    for (const ahead of [step, step + 1]) {
      if (config.steps === undefined || ahead < config.steps) replicas.forEach((replica) => this.#want(ahead, replica));
    }
    const batches = await watch.time("data", () => this.#takeBatches(step, session));
    const timed = watch.around(peers, { step, config });
    const useQueue = step >= config.queue.startStep;
    const inputs = batches.map((batch) => ({
      replica: batch.replica,
      views: (this.#ports.views ?? makeViews)(device, batch, config),
      queue: useQueue ? session.queues.get(batch.replica) : undefined,
      labels: batch.labels,
    }));
    const scale = lossScale?.value;
    const rows = await method.step(inputs, {
      step,
      optimizer,
      learningRate,
      segments: session.segments,
      lossScale,
      collective: config.syncBatchNormGroup === 1 ? undefined : timed.group,
      world: timed.world,
      assigner: timed,
      gradients: new GradientStream({
        device,
        step,
        plan: session.planOf(step),
        parameters: session.parameters,
        replicas,
        world: timed.world,
      }),
    });
    this.#ports.send({
      type: "step-done",
      step,
      replicas: rows,
      ...watch.report(),
      deviceBytes: device.memory.peakBytes,
      memory: memoryUse(device, session),
      lossScale: scale,
      skippedSteps: lossScale?.skippedSteps,
    });
  }

  async #takeBatches(step: number, { config, replicas }: Session): Promise<BatchMessage[]> {
    const all = Promise.all(replicas.map((replica) => this.#batchOf(step, replica).promise));
    const batches = await deadline(all, config.cluster.stepTimeoutMs);
    for (const replica of replicas) this.#batches.delete(`${step}/${replica}`);
    return batches;
  }

  async #save(step: number): Promise<void> {
    const { model, optimizer, lossScale, queues, replicas } = this.#configured();
    const taken = await snapshot({ model, optimizer, lossScale, queues, whole: replicas[0] === 0 });
    for (const part of taken.parts) this.#ports.send({ type: "snapshot-part", step, part });
    this.#ports.send({ type: "snapshot-end", step, parts: taken.parts.length, digest: taken.digest });
  }

  #restore(step: number, parts: number): void {
    if (this.#parts.length !== parts) {
      throw new RangeError(`Checkpoint of step ${step} arrived with ${this.#parts.length} of ${parts} tensors`);
    }
    const { model, optimizer, lossScale, queues } = this.#configured();
    restore(this.#parts, { model, optimizer, lossScale, queues });
    this.#parts = [];
    this.#ports.send({ type: "restored", step });
  }
}

function makeQueues(device: Device, config: TrainConfig, replicas: readonly number[]): Map<number, EmbeddingQueue> {
  const { replicas: world, batchPerReplica, queue, head, assignCrops } = config;
  if (config.method.name !== "swav") return new Map();
  // Rounded down to whole batches of every replica, as VISSL does.
  const length = Math.floor(queue.length / (world * batchPerReplica)) * batchPerReplica;
  if (length === 0) return new Map();
  const dim = head.dims[head.dims.length - 1];
  return new Map(
    replicas.map((replica) => [replica, new EmbeddingQueue(device, { assignCrops: assignCrops.length, length, dim })]),
  );
}

function describeAdapter(adapter: AdapterDescription): string {
  return `${adapter.name} through ${adapter.provider === "dawn" ? "Dawn" : "Deno's WebGPU"} (${adapter.kind})`;
}
