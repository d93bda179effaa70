/**
 * What an engine works with once it is configured: device, model, optimiser, the queues of all replicas; and its seat, the
 * replicas that it carries in the present membership epoch. It takes no step.
 */
import { parseConfig, type TrainConfig } from "../../config.ts";
import { planSlices, type SlicePlan } from "../../collectives/slices.ts";
import type { AdapterDescription, Device, OpenOptions } from "../../device/device.ts";
import type { Parameter } from "../../nn/module.ts";
import type { Segment } from "../../nn/segments.ts";
import { LossScale, type LossScaleOptions } from "../../optim/loss_scale.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import { EmbeddingQueue } from "../../swav/queue.ts";
import type { Message } from "../../wire/messages.ts";
import { buildOptimizer, checkPrecision, segmentsOf } from "./build.ts";
import { buildMethod, type Method } from "./method.ts";
import { RemotePeers } from "./remote_peers.ts";
import { checkChoices } from "./shapes.ts";

/** What a configured engine works with, whatever it carries. */
export interface Session {
  readonly config: TrainConfig;
  readonly device: Device;
  readonly method: Method;
  readonly model: Method["model"];
  readonly optimizer: Optimizer;
  /** In mixed precision. */
  readonly lossScale: LossScale | undefined;
  /** The slices of a step's gradient, which lacks the parameters that rest. */
  planOf(step: number): SlicePlan;
  readonly parameters: ReadonlyMap<string, Parameter>;
  /** Queues of all replicas, by replica. */
  readonly queues: ReadonlyMap<number, EmbeddingQueue>;
  /** Numbers of the running statistics. */
  readonly statisticsSize: number;
}

/** The replicas that a trainer carries in one membership epoch. */
export interface Seat {
  readonly epoch: number;
  /** Ascending. */
  readonly replicas: readonly number[];
  /** Units of the trunk that are run again in the backward pass. */
  readonly segments: readonly Segment[];
  readonly peers: RemotePeers;
}

type Configure = Extract<Message, { type: "configure" }>;

/** Opens the device and builds all that a configuration asks for. */
export async function openSession(
  message: Configure,
  ports: { id: string; openDevice(options: OpenOptions): Promise<Device>; lossScale?: LossScaleOptions },
): Promise<Session> {
  const config = parseConfig(message.config, { source: "the controller's configuration" });
  const provider = message.adapter?.provider;
  const device = await ports.openDevice({
    provider: provider === "deno" || provider === "dawn" ? provider : "auto",
    adapter: message.adapter?.name,
    choices: message.choices,
  });
  checkPrecision(config, { adapter: device.adapter, trainer: ports.id });
  if (message.choices !== undefined) await checkChoices(device.adapter, { config, choices: message.choices });
  const method = buildMethod(device, config), { model } = method;
  const { sliceBytes } = config.cluster;
  const backward = [...model.parameters].reverse().map(({ name, tensor }) => ({ name, size: tensor.size }));
  const plans = new Map<ReadonlySet<string>, SlicePlan>();
  return {
    config,
    device,
    method,
    model,
    optimizer: buildOptimizer(config),
    lossScale: config.precision === "mixed" ? new LossScale(ports.lossScale) : undefined,
    planOf(step) {
      const resting = method.resting(step);
      const learning = backward.filter(({ name }) => !resting.has(name));
      const plan = plans.get(resting) ?? planSlices(learning, { sliceBytes, shards: message.shards.length });
      plans.set(resting, plan);
      return plan;
    },
    parameters: new Map(model.parameters.map((parameter) => [parameter.name, parameter])),
    queues: makeQueues(device, config),
    statisticsSize: model.buffers.reduce((sum, { tensor }) => sum + tensor.size, 0),
  };
}

/** The seat of trainer `id` among `trainers`; undefined when it has none. */
export function takeSeat(
  { config, model }: Session,
  { id, epoch, trainers, send }: {
    id: string;
    epoch: number;
    trainers: Configure["trainers"];
    send: (message: Message) => void;
  },
): Seat | undefined {
  const local = trainers.find((seat) => seat.id === id);
  if (local === undefined) return undefined;
  const { low, high } = local;
  const replicas = Array.from({ length: high - low }, (_, index) => low + index);
  const parameterCount = model.parameters.reduce((sum, { tensor }) => sum + tensor.size, 0);
  return {
    epoch,
    replicas,
    segments: segmentsOf(config, { parameterCount, replicas: replicas.length }),
    // The controller, which knows whom a late step waits for, comes first.
    peers: new RemotePeers({ local: { low, high }, epoch, send, timeoutMs: 2 * config.cluster.stepTimeoutMs }),
  };
}

/** A line for people about an adapter. */
export function describeAdapter(adapter: AdapterDescription): string {
  return `${adapter.name} through ${adapter.provider === "dawn" ? "Dawn" : "Deno's WebGPU"} (${adapter.kind})`;
}

function makeQueues(device: Device, config: TrainConfig): Map<number, EmbeddingQueue> {
  const { replicas, batchPerReplica, queue, head, assignCrops } = config;
  if (config.method.name !== "swav") return new Map();
  // Rounded down to whole batches of every replica, as VISSL does.
  const length = Math.floor(queue.length / (replicas * batchPerReplica)) * batchPerReplica;
  if (length === 0) return new Map();
  const dim = head.dims[head.dims.length - 1];
  const makeOne = () => new EmbeddingQueue(device, { assignCrops: assignCrops.length, length, dim });
  return new Map(Array.from({ length: replicas }, (_, replica) => [replica, makeOne()]));
}
