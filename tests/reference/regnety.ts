/**
 * Compares a small RegNetY of odd widths with torchvision's (case 1 of generate.py): features, stages, all gradients,
 * running statistics, evaluation.
 */
import type { Device } from "../../device/device.ts";
import { type ForwardContext, toFile } from "../../nn/module.ts";
import { type RegNetY, regnetY } from "../../nn/regnet.ts";
import { loadStateDict, type StateDict, stateDict } from "../../nn/state_dict.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { channelsLast, type ReferenceArrays, referenceArrays, row } from "./arrays.ts";
import type { ReferenceRow } from "./augment.ts";

/** The reference's network with its initial weights. */
export function referenceNetwork(device: Device, reference: ReferenceArrays): RegNetY {
  const network = regnetY({
    stemWidth: reference.setting("stem_width"),
    widths: reference.setting("widths"),
    depths: reference.setting("depths"),
    groupWidth: reference.setting("group_width"),
    seRatio: reference.setting("se_ratio"),
  }, { device, seed: 0 });
  const weights: StateDict = new Map(
    reference.namesUnder("weight.").map((name) => [
      name,
      { shape: reference.shape(`weight.${name}`), data: reference.numbers(`weight.${name}`) },
    ]),
  );
  loadStateDict(network, weights);
  return network;
}

/** Rows for `folder`'s regnety_tiny.safetensors. */
export async function compareRegnety(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "regnety_tiny");
  const network = referenceNetwork(device, reference);
  const shape = reference.shape("input");
  const [batch, channels, height, width] = shape;
  const input = tensorFrom(device, channelsLast(reference.numbers("input"), shape), [batch, height, width, channels]);
  const rows = [
    await compareEvaluation(network, input, reference),
    ...await compareTraining(network, input, reference),
  ];
  freeTensors(
    [input, ...network.parameters(), ...network.buffers()].map((item) => "tensor" in item ? item.tensor : item),
  );
  return rows;
}

async function compareEvaluation(network: RegNetY, input: Tensor, reference: ReferenceArrays): Promise<ReferenceRow> {
  const tape = new Tape(input.device, { gradients: false });
  const context: ForwardContext = { tape, training: false, updateStatistics: false, pass: "evaluation" };
  const features = await network.forward(input, context);
  const [ours] = await readTensors([features]);
  tape.dispose();
  return row("regnety eval features", { ours, reference: reference.numbers("eval.features"), bound: 1e-5 });
}

async function compareTraining(network: RegNetY, input: Tensor, reference: ReferenceArrays): Promise<ReferenceRow[]> {
  const { device } = input;
  const tape = new Tape(device, { gradients: true });
  const context: ForwardContext = { tape, training: true, updateStatistics: true, pass: "training" };
  const { features, stem, stages } = await network.forwardStages(input, context);
  const outputs = [features, stem, ...stages];
  const names = ["features", "stem", ...stages.map((_, i) => `stage${i + 1}`)];
  const values = await readTensors(outputs);
  const rows = names.map((name, i) => {
    const key = `train.${name}`;
    const expected = name === "features"
      ? reference.numbers(key)
      : channelsLast(reference.numbers(key), reference.shape(key));
    return row(`regnety ${name}`, { ours: values[i], reference: expected, bound: 1e-5 });
  });
  const weight = tape.adopt(tensorFrom(device, reference.numbers("loss_weight"), features.shape));
  const gradients = await tape.backward(features, { gradient: weight });
  for (const { name, tensor, kind, shape } of network.parameters()) {
    const gradient = gradients.get(tensor);
    if (!gradient) throw new Error(`${name} must have a gradient, it has none`);
    const [found] = await readTensors([gradient]);
    const ours = toFile(found, { kind, shape });
    rows.push(row(`regnety gradient ${name}`, { ours, reference: reference.numbers(`grad.${name}`), bound: 1e-4 }));
  }
  tape.dispose();
  const after = await stateDict(network);
  for (const { name } of network.buffers()) {
    const ours = after.get(name)?.data ?? [];
    rows.push(row(`regnety ${name}`, { ours, reference: reference.numbers(`after.${name}`), bound: 1e-5 }));
  }
  return rows;
}
