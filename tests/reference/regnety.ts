/**
 * Compares a small RegNetY of odd widths with torchvision's (case 1 of generate.py), and a small ResNet in groups
 * (generate_resnet.py): features, stages, all gradients, running statistics, evaluation.
 */
import type { Device } from "../../device/device.ts";
import { type ForwardContext, toFile } from "../../nn/module.ts";
import { type RegNetY, regnetY } from "../../nn/regnet.ts";
import { buildTrunk, type Trunk } from "../../nn/trunks.ts";
import type { ResnetSpec } from "../../nn/resnet_spec.ts";
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
  loadStateDict(network, weightsOf(reference));
  return network;
}

function weightsOf(reference: ReferenceArrays): StateDict {
  return new Map(
    reference.namesUnder("weight.").map((name) => [
      name,
      { shape: reference.shape(`weight.${name}`), data: reference.numbers(`weight.${name}`) },
    ]),
  );
}

/** Rows for `folder`'s regnety_tiny.safetensors. */
export async function compareRegnety(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "regnety_tiny");
  return await compareTrunk("regnety", referenceNetwork(device, reference), reference);
}

/** Rows for `folder`'s resnet_tiny.safetensors. */
export async function compareResnet(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "resnet_tiny");
  const spec: ResnetSpec = {
    kind: "resnet",
    stemWidth: reference.setting("stem_width"),
    widths: reference.setting("widths"),
    depths: reference.setting("depths"),
    groups: reference.setting("groups"),
    bottleneck: reference.setting("bottleneck"),
  };
  const trunk = buildTrunk(spec, { device, seed: 0 });
  loadStateDict(trunk, weightsOf(reference));
  return await compareTrunk("resnet", trunk, reference);
}

/** Compares and frees a trunk that has the reference's weights. */
async function compareTrunk(name: string, network: Trunk, reference: ReferenceArrays): Promise<ReferenceRow[]> {
  const [{ tensor: { device } }] = network.parameters();
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
  return rows.map((row) => ({ ...row, name: `${name} ${row.name}` }));
}

async function compareEvaluation(network: Trunk, input: Tensor, reference: ReferenceArrays): Promise<ReferenceRow> {
  const tape = new Tape(input.device, { gradients: false });
  const context: ForwardContext = { tape, training: false, updateStatistics: false, pass: "evaluation" };
  const features = await network.forward(input, context);
  const [ours] = await readTensors([features]);
  tape.dispose();
  return row("eval features", { ours, reference: reference.numbers("eval.features"), bound: 1e-5 });
}

async function compareTraining(network: Trunk, input: Tensor, reference: ReferenceArrays): Promise<ReferenceRow[]> {
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
    return row(name, { ours: values[i], reference: expected, bound: 1e-5 });
  });
  const weight = tape.adopt(tensorFrom(device, reference.numbers("loss_weight"), features.shape));
  const gradients = await tape.backward(features, { gradient: weight });
  for (const { name, tensor, kind, shape } of network.parameters()) {
    const gradient = gradients.get(tensor);
    if (!gradient) throw new Error(`${name} must have a gradient, it has none`);
    const [found] = await readTensors([gradient]);
    const ours = toFile(found, { kind, shape });
    rows.push(row(`gradient ${name}`, { ours, reference: reference.numbers(`grad.${name}`), bound: 1e-4 }));
  }
  tape.dispose();
  const after = await stateDict(network);
  for (const { name } of network.buffers()) {
    const ours = after.get(name)?.data ?? [];
    rows.push(row(name, { ours, reference: reference.numbers(`after.${name}`), bound: 1e-5 }));
  }
  return rows;
}
