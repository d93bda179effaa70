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
import { type Network, type ReplicaResult, type StepContext, takeStep } from "../../methods/step.ts";
import { prototypesName, type ReplicaInput, trainStep } from "../../swav/train_step.ts";
import { buildModel, storageOf } from "./build.ts";

/** One replica's input, whatever the method. */
export interface MethodInput extends ReplicaInput, LabelledInput {}

/** What a step needs besides the configuration. */
export interface MethodStep
  extends Pick<StepContext, "step" | "optimizer" | "learningRate" | "segments" | "lossScale" | "gradients"> {
  collective?(replica: number): Collective;
  /** All replicas as one of them sees them. */
  world(replica: number): Collective;
  readonly assigner: Assigner;
}

/** A method on one device. */
export interface Method {
  readonly model: Network;
  /** Names of the parameters that rest in a step: no gradient, no momentum, no decay. */
  resting(step: number): ReadonlySet<string>;
  step(inputs: readonly MethodInput[], run: MethodStep): Promise<ReplicaResult[]>;
}

/** The configuration's method with fresh weights; `blank` leaves them zero, for a device that computes nothing. */
export function buildMethod(device: Device, config: TrainConfig, { blank = false } = {}): Method {
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
        step: (inputs, run) =>
          trainStep(inputs, {
            ...shared,
            ...run,
            model,
            assignCrops,
            temperature,
            frozenPrototypes: run.step < frozenSteps,
          }),
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
        step(inputs, run) {
          const context = { ...shared, ...run, model, temperature };
          return takeStep(inputs, context, simclr(context));
        },
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
        step(inputs, run) {
          const context = { ...shared, ...run, model };
          return takeStep(inputs, context, supervised(context));
        },
      };
    }
  }
}
