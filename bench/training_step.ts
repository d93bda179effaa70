/**
 * A whole training step of SwAV as the trainer's engine takes it, for one replica that is alone in the world: crops cut on
 * the device, forward, codes, loss, backward with slices of the gradient fetched and summed while it goes on, update. It
 * knows no clock.
 */
import { buildOptimizer, segmentsOf } from "../actors/engine/build.ts";
import { GradientStream } from "../actors/engine/gradient_stream.ts";
import { buildMethod } from "../actors/engine/method.ts";
import { type BatchMessage, makeViews } from "../actors/engine/views.ts";
import type { Collective } from "../collectives/collective.ts";
import { solo } from "../collectives/memory_collective.ts";
import { planSlices } from "../collectives/slices.ts";
import { parseConfig, type TrainConfig, type TrainConfigInput } from "../config.ts";
import { modelSpec } from "../config/models.ts";
import type { Device } from "../device/device.ts";
import { countMacs } from "../nn/count.ts";
import { formatSegments } from "../nn/segments.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { LossScale } from "../optim/loss_scale.ts";
import { assignWorld } from "../swav/assign.ts";
import { freeTensors } from "../tensor/tensor.ts";
import { toWire } from "../wire/tensor.ts";

/** Head and prototypes of the steps that are timed: SEER's, scaled to the smaller trunks. */
const HEAD = [1024, 256], PROTOTYPES = 1000;
/** Side of the images that crops are cut of. */
const SIDE = 96;

/** What varies between steps. */
export interface StepOptions {
  readonly network: string;
  readonly images: number;
  readonly precision: TrainConfig["precision"];
  readonly again: boolean;
}

/** The run's configuration that a step belongs to. */
export function stepConfig({ network, images, precision, again }: StepOptions): TrainConfig {
  const input: TrainConfigInput = {
    model: { name: network },
    head: { dims: HEAD, batchNorm: false },
    prototypes: { count: PROTOTYPES, frozenSteps: 0 },
    crops: [{ size: 64, count: 2, scale: [0.14, 1] }, { size: 32, count: 4, scale: [0.05, 0.14] }],
    optimizer: { name: "larc", weightDecay: 1e-5 },
    schedule: { learningRate: 0.1 },
    replicas: 1,
    batchPerReplica: images,
    steps: 100,
    precision,
    checkpointing: { mode: again ? "auto" : "none" },
    cluster: { trainers: 1, syncShards: 1 },
  };
  return parseConfig(input, { source: "the benchmark" });
}

/** Multiplications and additions of a step: forward once and backward twice, what is run again left out. */
export function stepFlops(config: TrainConfig): number {
  const spec = modelSpec(config);
  const dims = [trunkShape(spec).width, ...config.head.dims, config.prototypes.count];
  const headMacs = dims.slice(1).reduce((sum, width, layer) => sum + width * dims[layer], 0);
  const macs = config.crops.reduce((sum, { count, size }) => sum + count * (countMacs(spec, size) + headMacs), 0);
  return 6 * config.batchPerReplica * macs;
}

/** A step that can be taken again and again. */
export interface OpenStep {
  /** The units run again, `""` for none. */
  readonly segments: string;
  /** Takes a step and gives its loss. */
  take(): Promise<number>;
  dispose(): void;
}

/**
 * A fresh model on the device, and its steps.
 *
 * @param collective SyncBN's group as replica 0 sees it; statistics of the replica alone without one
 */
export function openStep(
  device: Device,
  config: TrainConfig,
  { collective, passesInTurn }: { collective?: Collective; passesInTurn?: boolean } = {},
): OpenStep {
  // What decides whether passes go in turn is the mode; a step that runs nothing again may still be told to.
  const mode = passesInTurn === undefined ? config.checkpointing.mode : passesInTurn ? "listed" : "none";
  const method = buildMethod(device, { ...config, checkpointing: { ...config.checkpointing, mode } });
  const optimizer = buildOptimizer(config);
  const lossScale = config.precision === "mixed" ? new LossScale() : undefined;
  const parameters = new Map(method.model.parameters.map((parameter) => [parameter.name, parameter]));
  const parameterCount = method.model.parameters.reduce((sum, { tensor }) => sum + tensor.size, 0);
  const segments = segmentsOf(config, { parameterCount, replicas: 1 });
  const backward = [...method.model.parameters].reverse().map(({ name, tensor }) => ({ name, size: tensor.size }));
  const plan = planSlices(backward, { sliceBytes: config.cluster.sliceBytes, shards: 1 });
  let step = 0;
  return {
    segments: formatSegments(segments),
    async take() {
      const gradients = new GradientStream({ device, step, plan, parameters, replicas: [0], world: () => solo });
      const [{ loss }] = await method.step([{ replica: 0, views: makeViews(device, batchOf(step, config), config) }], {
        step,
        optimizer,
        learningRate: 0.01,
        segments,
        lossScale,
        collective: collective && (() => collective),
        world: () => solo,
        assigner: { assign: (request) => Promise.resolve(codesOf(request, config)) },
        gradients,
      });
      step += 1;
      return loss;
    },
    dispose() {
      optimizer.dispose();
      freeTensors([...method.model.parameters, ...method.model.buffers].map(({ tensor }) => tensor));
    },
  };
}

function codesOf(
  { batch, rows, scores }: { batch: number; rows: number; scores: Float32Array<ArrayBuffer> },
  { assignCrops, prototypes, sinkhorn }: TrainConfig,
): Float32Array<ArrayBuffer> {
  const options = { crops: assignCrops.length, prototypes: prototypes.count, ...sinkhorn };
  return assignWorld([{ batch, rows, scores }], options).codes[0];
}

/** A batch of made-up images, as a loader would send it. */
export function batchOf(step: number, { batchPerReplica: images }: TrainConfig): BatchMessage {
  const each = <T>(value: (index: number) => T): T[] => Array.from({ length: images }, (_, index) => value(index));
  const bytes = SIDE * SIDE * 3;
  const pixels = Uint8Array.from({ length: images * bytes }, (_, i) => (i * 2654435761 >>> 13) & 255);
  return {
    type: "batch",
    step,
    replica: 0,
    ids: each((index) => index),
    offsets: each((index) => index * bytes),
    widths: each(() => SIDE),
    heights: each(() => SIDE),
    pixels: toWire(pixels),
    replaced: [],
  };
}
