/** Compares LARC over three steps, zero-norm branch included, with PyTorch (case 4 of generate.py). */
import type { Device } from "../../device/device.ts";
import { larc } from "../../optim/larc.ts";
import type { Trainable } from "../../optim/optimizer.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { referenceArrays, row } from "./arrays.ts";
import type { ReferenceRow } from "./augment.ts";

/** Rows for `folder`'s larc.safetensors. */
export async function compareLarc(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "larc");
  const parameters = reference.namesUnder("param0.").map((name): Trainable => ({
    name,
    kind: name === "bias" ? "bias" : "linear",
    tensor: tensorFrom(device, reference.numbers(`param0.${name}`), reference.shape(`param0.${name}`)),
  }));
  const optimizer = larc({
    momentum: reference.setting("momentum"),
    weightDecay: reference.setting("weight_decay"),
    trustCoefficient: reference.setting("trust_coefficient"),
    epsilon: reference.setting("eps"),
  });
  const rows: ReferenceRow[] = [];
  for (const [step, learningRate] of reference.setting<number[]>("learning_rates").entries()) {
    const gradients = new Map(parameters.map(({ name, tensor }) => [
      name,
      tensorFrom(device, reference.numbers(`grad${step}.${name}`), tensor.shape),
    ]));
    optimizer.step(parameters, gradients, learningRate);
    const values = await readTensors(parameters.map(({ tensor }) => tensor));
    parameters.forEach(({ name }, i) => {
      const expected = reference.numbers(`param${step + 1}.${name}`);
      rows.push(row(`larc step ${step + 1} ${name}`, { ours: values[i], reference: expected, bound: 1e-5 }));
    });
    freeTensors(gradients.values());
  }
  optimizer.dispose();
  freeTensors(parameters.map(({ tensor }) => tensor));
  return rows;
}
