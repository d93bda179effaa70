/**
 * The configuration's method: its network, and how one step of it is taken. What all methods are given is one shape; each
 * takes of it what it needs. It computes nothing of its own.
 */
import type { Assigner, Collective } from "../../collectives/collective.ts";
import { classCount, type TrainConfig } from "../../config.ts";
import { modelSpec } from "../../config/models.ts";
import type { Device } from "../../device/device.ts";
import { buildSimclrModel, simclr } from "../../methods/simclr.ts";
import { buildClassifierModel, type LabelledInput, supervised } from "../../methods/supervised.ts";
import {
  followStep,
  type GivenStep,
  type Network,
  type PreparedStep,
  prepareStep,
  type ReplicaResult,
  type StepContext,
} from "../../methods/step.ts";
import type { EmbeddingQueue } from "../../swav/queue.ts";
import { followTrainStep, prepareTrainStep, prototypesName, type ReplicaInput } from "../../swav/train_step.ts";
import { buildModel, storageOf } from "./build.ts";

/** One replica's input, whatever the method. */
export interface MethodInput extends ReplicaInput, LabelledInput {}

/** What a step needs besides the configuration. */
export interface MethodStep
  extends
    Pick<StepContext, "step" | "optimizer" | "learningRate" | "segments" | "lossScale" | "gradients" | "share">,
    Pick<StepContext, "unprotected"> {
  collective?(replica: number): Collective;
  /** All replicas as one of them sees them. */
  world(replica: number): Collective;
  readonly assigner: Assigner;
  /** The queue of any replica. @default the inputs' */
  queueOf?(replica: number): EmbeddingQueue | undefined;
}

/** What following a step needs besides the configuration. */
export type MethodFollow = Pick<MethodStep, "step" | "optimizer" | "learningRate" | "lossScale" | "queueOf">;

/** A method on one device. */
export interface Method {
  readonly model: Network;
  /** Names of the parameters that rest in a step: no gradient, no momentum, no decay. */
  resting(step: number): ReadonlySet<string>;
  /** Computes a step, to be committed or discarded. */
  prepare(inputs: readonly MethodInput[], run: MethodStep): Promise<PreparedStep>;
  /** Takes a step that others have computed. */
  follow(run: MethodFollow, given: GivenStep): Promise<void>;
  /** Prepares a step and commits it at once. */
  step(inputs: readonly MethodInput[], run: MethodStep): Promise<ReplicaResult[]>;
}

/** The configuration's method with fresh weights; `blank` leaves them zero, for a device that computes nothing. */
export function buildMethod(device: Device, config: TrainConfig, { blank = false } = {}): Method {
  const parts = methodParts(device, config, { blank });
  return {
    ...parts,
    async step(inputs, run) {
      const prepared = await parts.prepare(inputs, run);
      prepared.commit();
      return [...prepared.results];
    },
  };
}

function methodParts(device: Device, config: TrainConfig, { blank }: { blank: boolean }): Omit<Method, "step"> {
  const shared = {
    batch: config.batchPerReplica,
    replicas: config.replicas,
    storage: storageOf(config),
    // By the configuration, not by this trainer's segments: all trainers must exchange alike.
    passesInTurn: config.checkpointing.mode !== "none",
  };
  const { temperature } = config.loss;
  const noneRests: ReadonlySet<string> = new Set();
  switch (config.method.name) {
    case "swav": {
      const model = buildModel(device, config, { blank });
      const { assignCrops, prototypes: { frozenSteps } } = config;
      const frozen = new Set([prototypesName]);
      return {
        model,
        resting: (step) => step < frozenSteps ? frozen : noneRests,
        prepare: (inputs, run) =>
          prepareTrainStep(inputs, {
            ...shared,
            ...run,
            model,
            assignCrops,
            temperature,
            frozenPrototypes: run.step < frozenSteps,
          }),
        follow: (run, given) => followTrainStep({ ...run, model, frozenPrototypes: run.step < frozenSteps }, given),
      };
    }
    case "simclr": {
      const model = buildSimclrModel(device, {
        trunk: modelSpec(config),
        headDims: config.head.dims,
        headBatchNorm: config.head.batchNorm,
        headLastBatchNorm: config.head.lastBatchNorm,
        seed: blank ? undefined : config.seed,
      });
      return {
        model,
        resting: () => noneRests,
        prepare(inputs, run) {
          const context = { ...shared, ...run, model, temperature };
          return prepareStep(inputs, context, simclr(context));
        },
        follow: (run, given) => followStep({ ...run, model }, given),
      };
    }
    case "supervised":
    case "hashtag": {
      const model = buildClassifierModel(device, {
        trunk: modelSpec(config),
        classes: classCount(config),
        seed: blank ? undefined : config.seed,
      });
      return {
        model,
        resting: () => noneRests,
        prepare(inputs, run) {
          const context = { ...shared, ...run, model };
          return prepareStep(inputs, context, supervised(context));
        },
        follow: (run, given) => followStep({ ...run, model }, given),
      };
    }
  }
}
