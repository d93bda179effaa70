/**
 * The linear probe: softmax regression on frozen, standardised features, by SGD with Nesterov momentum and a cosine
 * schedule. This one computes on the CPU, in double precision; `device_probe.ts` does the same steps on a device. The
 * order of the rows is a function of the seed. It knows no image.
 */
import { randomStream } from "../data/random.ts";
import { type Labelled, requireLabels } from "./knn.ts";
import { columnStatistics, type Matrix, standardizeColumns } from "./matrix.ts";

/** Weights `[classes, columns]` and bias `[classes]` with their momentum. */
export interface ProbeState {
  readonly weight: Float64Array<ArrayBuffer>;
  readonly bias: Float64Array<ArrayBuffer>;
  readonly weightMomentum: Float64Array<ArrayBuffer>;
  readonly biasMomentum: Float64Array<ArrayBuffer>;
}

/** Options of {@linkcode linearProbe}; the defaults suit a few thousand rows. */
export interface ProbeOptions {
  /** @default 50 */
  readonly epochs?: number;
  /** Rows per step. @default 128 */
  readonly batch?: number;
  /** Learning rate of the first step; a cosine takes it to 0. @default 0.05 */
  readonly learningRate?: number;
  /** @default 0.9 */
  readonly momentum?: number;
  /** On weights and bias alike, added to the gradient. @default 1e-4 */
  readonly weightDecay?: number;
  /** Seed of the rows' order. @default 0 */
  readonly seed?: number;
}

/** All options, filled in. */
export function completeProbe(options: ProbeOptions): Required<ProbeOptions> {
  const { epochs = 50, batch = 128, learningRate = 0.05, momentum = 0.9, weightDecay = 1e-4, seed = 0 } = options;
  return { epochs, batch, learningRate, momentum, weightDecay, seed };
}

/** Zero weights and momentum, or the weights given. */
export function probeState(shape: { classes: number; columns: number }, weight?: ArrayLike<number>): ProbeState {
  const size = shape.classes * shape.columns;
  return {
    weight: weight === undefined ? new Float64Array(size) : Float64Array.from(weight),
    bias: new Float64Array(shape.classes),
    weightMomentum: new Float64Array(size),
    biasMomentum: new Float64Array(shape.classes),
  };
}

/** Logits of one row: `bias + weight · row`. */
function logitsOf(state: ProbeState, row: Float32Array, logits: Float64Array): void {
  const columns = row.length;
  for (let c = 0; c < logits.length; c++) {
    let sum = state.bias[c];
    for (let k = 0, at = c * columns; k < columns; k++, at++) sum += state.weight[at] * row[k];
    logits[c] = sum;
  }
}

/** What one step needs beside the state. */
export interface ProbeBatch {
  readonly features: Matrix;
  readonly labels: Uint32Array;
  /** Rows of the batch. */
  readonly rows: ArrayLike<number>;
}

/** Constants of one step. */
export interface ProbeStepOptions {
  readonly learningRate: number;
  readonly momentum: number;
  readonly weightDecay: number;
}

/**
 * One step of SGD with Nesterov momentum on the mean cross-entropy of the batch, changing `state`; the loss before it.
 * As `torch.optim.SGD(nesterov=True)`: g += decay · w; v = momentum · v + g; w -= rate · (g + momentum · v).
 */
export function probeStep(state: ProbeState, batch: ProbeBatch, options: ProbeStepOptions): number {
  const { features: { data, columns }, labels, rows } = batch;
  const classes = state.bias.length;
  const weightGradient = new Float64Array(state.weight.length), biasGradient = new Float64Array(classes);
  const logits = new Float64Array(classes);
  let loss = 0;
  for (let i = 0; i < rows.length; i++) {
    const row = data.subarray(rows[i] * columns, (rows[i] + 1) * columns), label = labels[rows[i]];
    logitsOf(state, row, logits);
    let largest = -Infinity, sum = 0;
    for (const logit of logits) largest = Math.max(largest, logit);
    for (const logit of logits) sum += Math.exp(logit - largest);
    loss += largest + Math.log(sum) - logits[label];
    for (let c = 0; c < classes; c++) {
      const gradient = (Math.exp(logits[c] - largest) / sum - (c === label ? 1 : 0)) / rows.length;
      biasGradient[c] += gradient;
      for (let k = 0, at = c * columns; k < columns; k++, at++) weightGradient[at] += gradient * row[k];
    }
  }
  descend(state.weight, { gradient: weightGradient, velocity: state.weightMomentum, ...options });
  descend(state.bias, { gradient: biasGradient, velocity: state.biasMomentum, ...options });
  return loss / rows.length;
}

function descend(
  weights: Float64Array,
  { gradient, velocity, learningRate, momentum, weightDecay }: ProbeStepOptions & {
    gradient: Float64Array;
    velocity: Float64Array;
  },
): void {
  for (let i = 0; i < weights.length; i++) {
    const g = gradient[i] + weightDecay * weights[i];
    velocity[i] = momentum * velocity[i] + g;
    weights[i] -= learningRate * (g + momentum * velocity[i]);
  }
}

/** The order of the rows in an epoch: a function of the seed and the epoch. */
export function probeOrder(rows: number, { seed, epoch }: { seed: number; epoch: number }): number[] {
  return randomStream({ seed, purpose: "linear probe order", indices: [epoch] }).permutation(rows);
}

/** Learning rate of a step: half a cosine from `peak` to 0. */
export function probeRate(step: number, { peak, steps }: { peak: number; steps: number }): number {
  return 0.5 * peak * (1 + Math.cos(Math.PI * step / steps));
}

/** Share of the rows whose own class has the largest logit, alone. */
export function probeAccuracy(state: ProbeState, { features, labels }: Labelled): number {
  const logits = new Float64Array(state.bias.length);
  let right = 0;
  for (let row = 0; row < features.rows; row++) {
    logitsOf(state, features.data.subarray(row * features.columns, (row + 1) * features.columns), logits);
    const mine = logits[labels[row]];
    if (logits.every((logit, c) => c === labels[row] || logit < mine)) right++;
  }
  return right / features.rows;
}

/** Both sets with columns standardised by the training set's statistics. */
export function standardizeSets(train: Labelled, test: Labelled): { train: Labelled; test: Labelled } {
  const statistics = columnStatistics(train.features);
  const standard = (set: Labelled): Labelled => ({ ...set, features: standardizeColumns(set.features, statistics) });
  return { train: standard(train), test: standard(test) };
}

/**
 * Accuracy on the test set of softmax regression trained on the training set.
 *
 * @throws RangeError when a set is empty, features and labels do not match, or a feature is not finite
 */
export function linearProbe(train: Labelled, test: Labelled, options: ProbeOptions = {}): number {
  const classes = requireLabels(train, test);
  const { epochs, batch, learningRate, seed, ...constants } = completeProbe(options);
  const sets = standardizeSets(train, test);
  const { features, labels } = sets.train;
  const state = probeState({ classes, columns: features.columns });
  const stepsPerEpoch = Math.ceil(features.rows / batch);
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = probeOrder(features.rows, { seed, epoch });
    for (let step = 0; step < stepsPerEpoch; step++) {
      const rows = order.slice(step * batch, (step + 1) * batch);
      const rate = probeRate(epoch * stepsPerEpoch + step, { peak: learningRate, steps: epochs * stepsPerEpoch });
      probeStep(state, { features, labels, rows }, { learningRate: rate, ...constants });
    }
  }
  return probeAccuracy(state, sets.test);
}
