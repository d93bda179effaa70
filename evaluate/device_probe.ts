/**
 * The linear probe of `linear_probe.ts` on a device: the same order of rows, learning rates and updates, in f32, for
 * feature sets that would keep a CPU busy for minutes. It knows no image.
 */
import type { Device } from "../device/device.ts";
import { sgd } from "../optim/sgd.ts";
import type { Parameter } from "../nn/module.ts";
import { linear } from "../tensor/ops/linear.ts";
import { softmaxCrossEntropy } from "../tensor/ops/softmax_cross_entropy.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom, zeros } from "../tensor/tensor.ts";
import { type Labelled, requireLabels } from "./knn.ts";
import {
  completeProbe,
  probeAccuracy,
  type ProbeOptions,
  probeOrder,
  probeRate,
  type ProbeState,
  probeState,
  standardizeSets,
} from "./linear_probe.ts";
import { takeRows } from "./matrix.ts";

interface Weights {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/** One step's gradients: mean cross-entropy over the rows given. */
async function probeGradients(
  { weight, bias }: Weights,
  { features, labels }: Labelled,
): Promise<{ tape: Tape; gradients: ReadonlyMap<string, Tensor>; inputs: Tensor[] }> {
  const { device } = weight;
  const classes = bias.size;
  const targets = new Float32Array(features.rows * classes);
  labels.forEach((label, row) => targets[row * classes + label] = 1);
  const x = tensorFrom(device, features.data, [features.rows, features.columns]);
  const wanted = tensorFrom(device, targets, [features.rows, classes]);
  const tape = new Tape(device, { gradients: true });
  const losses = softmaxCrossEntropy(tape, { scores: linear(tape, x, weight, bias), targets: wanted });
  const found = await tape.backward(losses);
  const gradients = new Map<string, Tensor>();
  for (const [name, leaf] of [["weight", weight], ["bias", bias]] as const) {
    const gradient = found.get(leaf);
    if (gradient !== undefined) gradients.set(name, gradient);
  }
  return { tape, gradients, inputs: [x, wanted] };
}

/** The weights as `linear_probe.ts` keeps them, `[classes, columns]`. */
async function readState({ weight, bias }: Weights): Promise<ProbeState> {
  const [columns, classes] = weight.shape;
  const [w, b] = await readTensors([weight, bias]);
  const state = probeState({ classes, columns });
  for (let c = 0; c < classes; c++) {
    for (let k = 0; k < columns; k++) state.weight[c * columns + k] = w[k * classes + c];
  }
  state.bias.set(b);
  return state;
}

/**
 * Accuracy on the test set of softmax regression trained on the training set, on `device`; as `linearProbe()`, with f32
 * rounding.
 *
 * @throws RangeError when a set is empty, features and labels do not match, or a feature is not finite
 */
export async function deviceLinearProbe(
  train: Labelled,
  test: Labelled,
  options: ProbeOptions & { readonly device: Device },
): Promise<number> {
  const { device, ...rest } = options;
  const classes = requireLabels(train, test);
  const { epochs, batch, learningRate, seed, momentum, weightDecay } = completeProbe(rest);
  const sets = standardizeSets(train, test);
  const { features, labels } = sets.train;
  const weights: Weights = {
    weight: zeros(device, [features.columns, classes], { requiresGradient: true }),
    bias: zeros(device, [classes], { requiresGradient: true }),
  };
  const parameters: Parameter[] = [
    { name: "weight", tensor: weights.weight, shape: [classes, features.columns], kind: "linear" },
    { name: "bias", tensor: weights.bias, shape: [classes], kind: "bias" },
  ];
  const optimizer = sgd({ momentum, weightDecay, nesterov: true });
  const stepsPerEpoch = Math.ceil(features.rows / batch);
  try {
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = probeOrder(features.rows, { seed, epoch });
      for (let step = 0; step < stepsPerEpoch; step++) {
        const rows = order.slice(step * batch, (step + 1) * batch);
        const chosen = { features: takeRows(features, rows), labels: Uint32Array.from(rows, (row) => labels[row]) };
        const { tape, gradients, inputs } = await probeGradients(weights, chosen);
        const at = { peak: learningRate, steps: epochs * stepsPerEpoch };
        optimizer.step(parameters, gradients, probeRate(epoch * stepsPerEpoch + step, at));
        tape.dispose();
        freeTensors(inputs);
      }
      // Keeps the queue of commands short.
      await readTensors([weights.bias]);
    }
    return probeAccuracy(await readState(weights), sets.test);
  } finally {
    optimizer.dispose();
    freeTensors([weights.weight, weights.bias]);
  }
}
