/**
 * Compares SwAV's loss with the reference's own codes (case 3 of generate.py): L2 normalisation, scores, loss, gradients.
 */
import type { Device } from "../../device/device.ts";
import { swavLoss } from "../../swav/loss.ts";
import { linear } from "../../tensor/ops/linear.ts";
import { l2Normalize } from "../../tensor/ops/l2_normalize.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { toDevice, toFile } from "../../nn/module.ts";
import { referenceArrays, row } from "./arrays.ts";
import type { ReferenceRow } from "./augment.ts";

/** Rows for `folder`'s swav_loss.safetensors. */
export async function compareSwavLoss(folder: string, device: Device): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "swav_loss");
  const [count, dim] = reference.shape("prototypes");
  const layout = { kind: "linear", shape: [count, dim] } as const;
  const output = tensorFrom(device, reference.numbers("head_output"), reference.shape("head_output"), {
    requiresGradient: true,
  });
  const prototypes = tensorFrom(device, toDevice(reference.numbers("prototypes"), layout), [dim, count], {
    requiresGradient: true,
  });
  const tape = new Tape(device, { gradients: true });
  const scores = linear(tape, l2Normalize(tape, output), prototypes);
  const assignCrops = reference.setting<number[]>("crops_for_assign");
  const codes = assignCrops.map((_, i) => reference.numbers(`codes${i}`));
  const joined = new Float32Array(codes.length * codes[0].length);
  codes.forEach((values, i) => joined.set(values, i * values.length));
  const losses = swavLoss(tape, { scores, codes: joined }, {
    batch: reference.setting("batch"),
    assignCrops,
    temperature: reference.setting("temperature"),
  });
  const [scoreValues, lossRows] = await readTensors([scores, losses]);
  const gradients = await tape.backward(losses);
  const found = [output, prototypes].map((leaf) => gradients.get(leaf)).filter((gradient) => gradient !== undefined);
  const [outputGradient, prototypesGradient] = await readTensors(found);
  tape.dispose();
  freeTensors([output, prototypes]);
  const loss = lossRows.reduce((sum, value) => sum + value, 0);
  const rows = [
    { name: "scores", ours: scoreValues, bound: 1e-5 },
    { name: "loss", ours: [loss], bound: 1e-5 },
    { name: "grad.head_output", ours: outputGradient, bound: 1e-4 },
    { name: "grad.prototypes", ours: toFile(prototypesGradient, layout), bound: 1e-4 },
  ];
  return rows.map(({ name, ours, bound }) =>
    row(`swav loss: ${name}`, { ours, reference: reference.numbers(name), bound })
  );
}
