/**
 * Supervised pretraining from scratch: trunk, linear classifier, cross-entropy against what each image shows, one crop per
 * image, as the supervised baselines of the SEER paper (arXiv 2103.01988, section 4). An image of several labels has them
 * in equal shares. It knows no file of labels.
 */
import type { Device } from "../device/device.ts";
import { classifier } from "../nn/heads.ts";
import type { Linear } from "../nn/layers.ts";
import type { TrunkSpec } from "../nn/trunk_spec.ts";
import { buildTrunk } from "../nn/trunks.ts";
import { softmaxCrossEntropy } from "../tensor/ops/softmax_cross_entropy.ts";
import { readTensors, tensorFrom } from "../tensor/tensor.ts";
import { meanDeviation, trunkFeatures } from "./passes.ts";
import type { Network, Objective, ReplicaInput, StepContext } from "./step.ts";

/** What to build. */
export interface ClassifierModelSpec {
  readonly trunk: TrunkSpec;
  readonly classes: number;
  /** Every initial weight is a function of this and the weight's name; zeros without it. */
  readonly seed: number | undefined;
}

/** Trunk and classifier: `trunk.…`, `fc.weight`, `fc.bias`. */
export interface ClassifierModel extends Network {
  readonly classifier: Linear;
  readonly classes: number;
}

/** Builds the network with fresh weights. */
export function buildClassifierModel(
  device: Device,
  { trunk: spec, classes, seed }: ClassifierModelSpec,
): ClassifierModel {
  const trunk = buildTrunk(spec, { device, seed, prefix: "trunk." });
  const head = classifier({ device, seed, dim: trunk.width, classes });
  return {
    device,
    trunk,
    classifier: head,
    classes,
    parameters: [...trunk.parameters(), ...head.parameters()],
    buffers: trunk.buffers(),
  };
}

/** One replica's images and what they show. */
export interface LabelledInput extends ReplicaInput {
  /** For each image its labels, numbers of classes; at least one. */
  readonly labels?: readonly (readonly number[])[];
}

/** What a step by labels works with. */
export interface SupervisedContext extends StepContext {
  readonly model: ClassifierModel;
}

/**
 * The objective: softmax over all classes against the image's labels.
 *
 * @throws {RangeError} when an image has no label, or one that is no class.
 */
export function supervised(context: SupervisedContext): Objective<LabelledInput> {
  const { model, batch, replicas } = context;
  const { classes } = model;
  return async (passes, joint) => {
    const made = await joint.all(passes.map(async (pass) => {
      const { tape, input, forward } = pass;
      const shares = labelShares(input, { batch, classes });
      const features = await trunkFeatures(pass, context);
      // Logits stay in f32 whatever the storage.
      const logits = model.classifier.apply(features, { ...forward, storage: "f32" });
      return { tape, shares, features, logits };
    }));
    const values = await readTensors(made.flatMap(({ features, logits }) => [features, logits]));
    return made.map(({ tape, shares, features, logits }, index) => ({
      losses() {
        const targets = tape.adopt(tensorFrom(tape.device, shares, logits.shape));
        return softmaxCrossEntropy(tape, { scores: logits, targets }, { scale: 1 / (batch * replicas) });
      },
      embeddingDeviation: unitDeviation(values[2 * index], { rows: batch, columns: features.shape[1] }),
      top1: shareFirst(values[2 * index + 1], { shares, rows: batch, columns: classes }),
    }));
  };
}

/** Each image's labels as shares that add up to 1, `[batch, classes]`. */
function labelShares(
  { replica, labels = [] }: LabelledInput,
  { batch, classes }: { batch: number; classes: number },
): Float32Array<ArrayBuffer> {
  const shares = new Float32Array(batch * classes);
  for (let row = 0; row < batch; row++) {
    const own = labels[row] ?? [];
    const wrong = own.find((label) => label >= classes);
    if (own.length === 0 || wrong !== undefined) {
      throw new RangeError(
        `Cannot learn from labels: image ${row} of replica ${replica} must show some of ${classes} classes, it shows ` +
          `${wrong === undefined ? "none" : `class ${wrong}`}`,
      );
    }
    for (const label of own) shares[row * classes + label] = 1 / own.length;
  }
  return shares;
}

/** Share of the rows whose largest logit, the first of equals, is a label's. */
function shareFirst(
  logits: Float32Array,
  { shares, rows, columns }: { shares: Float32Array; rows: number; columns: number },
): number {
  let right = 0;
  for (let row = 0; row < rows; row++) {
    let best = row * columns;
    for (let at = best + 1; at < (row + 1) * columns; at++) if (logits[at] > logits[best]) best = at;
    if (shares[best] > 0) right++;
  }
  return right / rows;
}

/** {@linkcode meanDeviation} of the rows at unit length. */
function unitDeviation(features: Float32Array, shape: { rows: number; columns: number }): number {
  const unit = Float32Array.from(features);
  for (let row = 0; row < shape.rows; row++) {
    const own = unit.subarray(row * shape.columns, (row + 1) * shape.columns);
    const norm = Math.sqrt(own.reduce((sum, value) => sum + value * value, 0));
    if (norm > 0) { for (let at = 0; at < own.length; at++) own[at] /= norm; }
  }
  return meanDeviation(unit, shape);
}
