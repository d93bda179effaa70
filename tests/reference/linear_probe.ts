/** Compares five supervised steps of a linear layer by SGD with Nesterov momentum (case 7 of generate.py). */
import type { Device } from "../../device/device.ts";
import { toDevice, toFile } from "../../nn/module.ts";
import type { Trainable } from "../../optim/optimizer.ts";
import { sgd } from "../../optim/sgd.ts";
import { linear } from "../../tensor/ops/linear.ts";
import { softmaxCrossEntropy } from "../../tensor/ops/softmax_cross_entropy.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { referenceArrays, row } from "./arrays.ts";
import type { ReferenceRow } from "./augment.ts";

/** Rows for `folder`'s linear_probe_steps.safetensors. */
export async function compareLinearProbe(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "linear_probe_steps");
  const labels = new Int32Array(reference.raw("labels").bytes.buffer);
  const shape = reference.shape("weight0");
  const [classes, inWidth] = shape, layout = { kind: "linear", shape } as const;
  const trained = { requiresGradient: true };
  const weight = tensorFrom(device, toDevice(reference.numbers("weight0"), layout), [inWidth, classes], trained);
  const bias = tensorFrom(device, new Float32Array(classes), [classes], trained);
  const parameters: Trainable[] = [
    { name: "weight", kind: "linear", tensor: weight },
    { name: "bias", kind: "bias", tensor: bias },
  ];
  const oneHot = new Float32Array(labels.length * classes);
  labels.forEach((label, i) => oneHot[i * classes + label] = 1);
  const targets = tensorFrom(device, oneHot, [labels.length, classes]);
  const features = tensorFrom(device, reference.numbers("features"), reference.shape("features"));
  const optimizer = sgd({
    momentum: reference.setting("momentum"),
    weightDecay: reference.setting("weight_decay"),
    nesterov: reference.setting("nesterov"),
  });
  const expected = reference.setting<number[]>("losses"), losses: number[] = [];
  for (let step = 0; step < expected.length; step++) {
    const tape = new Tape(device, { gradients: true });
    const rows = softmaxCrossEntropy(tape, { scores: linear(tape, features, weight, bias), targets });
    const values = readTensors([rows]);
    const gradients = await tape.backward(rows);
    const byName = new Map<string, Tensor>();
    for (const { name, tensor } of parameters) {
      const gradient = gradients.get(tensor);
      if (gradient) byName.set(name, gradient);
    }
    optimizer.step(parameters, byName, reference.setting("lr"));
    losses.push((await values)[0].reduce((sum, value) => sum + value, 0));
    tape.dispose();
  }
  const [finalWeight, finalBias] = await readTensors([weight, bias]);
  optimizer.dispose();
  freeTensors([weight, bias, targets, features]);
  return [
    row("linear probe losses", { ours: losses, reference: expected, bound: 1e-5 }),
    row("linear probe weight", {
      ours: toFile(finalWeight, layout),
      reference: reference.numbers("weight5"),
      bound: 1e-5,
    }),
    row("linear probe bias", { ours: finalBias, reference: reference.numbers("bias5"), bound: 1e-5 }),
  ];
}
