/**
 * What a run would cost before anything is started: model summary, arithmetic, memory, traffic, learning rates. It opens
 * no device, file or socket.
 */
import { learningRateAt } from "./actors/step_record.ts";
import { PLATEAU_START } from "./optim/schedule.ts";
import { seatReplicas, trainerIds } from "./actors/seats.ts";
import { ConfigError, globalBatch, type TrainConfig } from "./config.ts";
import { formatPlan } from "./plan/format.ts";
import { type MemoryPlan, planMemory } from "./plan/memory.ts";
import { type NetworkSummary, summarizeNetwork } from "./plan/network.ts";
import { type LinkPlan, planTraffic } from "./plan/traffic.ts";

export { formatBytes, formatPlan } from "./plan/format.ts";
export type { MemoryPlan } from "./plan/memory.ts";
export type { NetworkSummary, StageSummary } from "./plan/network.ts";
export type { LinkPlan } from "./plan/traffic.ts";

/** Floating-point operations (two per multiply-add) of one step. */
export interface ComputePlan {
  /** Forward, gradients of inputs and of weights: three times the forward pass. */
  readonly flops: number;
  /** With every block of the trunk and the head computed again in the backward pass: four times. */
  readonly checkpointedFlops: number;
  /** The same for the trainer that carries most replicas. */
  readonly trainerFlops: number;
  readonly checkpointedTrainerFlops: number;
}

/** Key points of the learning-rate curve. */
export interface SchedulePlan {
  readonly name: string;
  /** Absent when the run's length is given in epochs and the number of images is not known. */
  readonly steps?: number;
  readonly points: readonly { readonly step: number; readonly learningRate: number; readonly note: string }[];
}

/** The whole plan. */
export interface Plan {
  readonly network: NetworkSummary;
  readonly replicas: number;
  readonly trainers: number;
  /** Replicas of the trainer that carries most. */
  readonly replicasPerTrainer: number;
  /** Images of one step. */
  readonly images: number;
  readonly compute: ComputePlan;
  readonly memory: MemoryPlan;
  readonly links: readonly LinkPlan[];
  readonly schedule: SchedulePlan;
}

/** Options of {@linkcode planRun}. */
export interface PlanOptions {
  /** Trainers, in place of the configuration's. */
  readonly trainers?: number;
  /** Images of the data set, for a run whose length is given in epochs. */
  readonly imageCount?: number;
}

function planSchedule(config: TrainConfig, imageCount: number | undefined): SchedulePlan {
  const { name, warmupSteps } = config.schedule;
  const images = (config.epochs ?? 0) * (imageCount ?? 0);
  const steps = config.steps ?? (images > 0 ? Math.max(1, Math.floor(images / globalBatch(config))) : undefined);
  const notes = new Map<number, string>([[0, warmupSteps > 0 ? "start of the warm-up" : "start"]]);
  if (steps !== undefined) {
    for (const share of [0.25, 0.5, 0.75]) notes.set(Math.floor(share * steps), `${100 * share}%`);
  }
  if (warmupSteps > 0) {
    notes.set(warmupSteps - 1, "last of the warm-up");
    notes.set(warmupSteps, `${name} begins`);
  }
  if (steps !== undefined) notes.set(steps - 1, name === "plateau" ? "last, if the loss never stalls" : "last");
  const run = { steps: steps ?? Infinity, plateau: PLATEAU_START };
  const points = [...notes].sort(([a], [b]) => a - b).map(([step, note]) => ({
    step,
    learningRate: learningRateAt(config, step, run),
    note,
  }));
  return { name, ...(steps === undefined ? {} : { steps }), points };
}

/**
 * Plans the run of a configuration.
 *
 * @throws ConfigError when there are more trainers than replicas
 *
 * @example
 * ```ts
 * import { loadConfig } from "./config.ts";
 * import { planRun } from "./plan.ts";
 * const { network } = planRun(await loadConfig({ preset: "seer-256gf" }), { trainers: 512 });
 * if (network.parameters.trunk !== 1_272_156_138) throw new Error("not the network that SEER trained");
 * ```
 */
export function planRun(config: TrainConfig, options: PlanOptions = {}): Plan {
  const { trainers = config.cluster.trainers } = options;
  const { replicas } = config;
  if (!Number.isInteger(trainers) || trainers < 1 || trainers > replicas) {
    throw new ConfigError(
      "cluster.trainers",
      `cannot plan the run: cluster.trainers must be from 1 to replicas (${replicas}), found ${trainers}`,
    );
  }
  const network = summarizeNetwork(config);
  const seats = seatReplicas(replicas, trainerIds(trainers));
  const replicasPerTrainer = Math.max(...seats.map(({ low, high }) => high - low));
  const plans = seats.map((seat) => planTraffic(config, { network, seat }));
  const sent = (links: readonly LinkPlan[]) => links.reduce((sum, { bytes }) => sum + bytes, 0);
  const images = globalBatch(config), trainerImages = replicasPerTrainer * config.batchPerReplica;
  const forward = 2 * (network.macsPerImage.trunk + network.macsPerImage.head);
  return {
    network,
    replicas,
    trainers,
    replicasPerTrainer,
    images,
    compute: {
      flops: 3 * forward * images,
      checkpointedFlops: 4 * forward * images,
      trainerFlops: 3 * forward * trainerImages,
      checkpointedTrainerFlops: 4 * forward * trainerImages,
    },
    memory: planMemory(config, network, replicasPerTrainer),
    links: plans.reduce((most, links) => sent(links) > sent(most) ? links : most),
    schedule: planSchedule(config, options.imageCount),
  };
}

/** Prints the plan of a configuration. */
export function printPlan(config: TrainConfig, options: PlanOptions = {}): void {
  console.log(formatPlan(planRun(config, options)));
}
