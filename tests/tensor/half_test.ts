import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { projectionHead, prototypes } from "../../nn/heads.ts";
import { regnetY } from "../../nn/regnet.ts";
import { HalfCopies } from "../../tensor/halves.ts";
import { l2Normalize } from "../../tensor/ops/l2_normalize.ts";
import { softmaxCrossEntropy } from "../../tensor/ops/softmax_cross_entropy.ts";
import { Tape } from "../../tensor/tape.ts";
import { readTensors, type Storage, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { numbers, relativeError } from "../kernels/run.ts";

const SPEC = { stemWidth: 8, widths: [16, 24], depths: [1, 1], groupWidth: 8 };

/** Losses of a trunk, a head with batch norm and prototypes, and the gradients of all their parameters. */
async function lossesOf(device: Device, storage: Storage, halves?: HalfCopies) {
  const trunk = regnetY(SPEC, { device, seed: 3 });
  const head = projectionHead({ device, seed: 3, prefix: "head.", dims: [24, 32, 16], batchNorm: true });
  const scorer = prototypes({ device, seed: 3, prefix: "prototypes.", dim: 16, count: 20 });
  const images = tensorFrom(device, numbers(6 * 33 * 33 * 3, 4), [6, 33, 33, 3]);
  const targets = tensorFrom(device, numbers(6 * 20, 5).map((v) => (v + 1) / 20), [6, 20]);
  const tape = new Tape(device, { gradients: true, halves });
  const context = { tape, training: true, updateStatistics: true, pass: "p", storage };
  const projected = await head.forward(await trunk.forward(images, context), context);
  const scores = scorer.apply(l2Normalize(tape, projected), context);
  assertEquals([projected.dtype, scores.dtype], ["f32", "f32"]);
  const losses = softmaxCrossEntropy(tape, { scores, targets }, { temperature: 0.1 });
  const read = readTensors([losses]);
  const gradients = await tape.backward(losses);
  const parameters = [...trunk.parameters(), ...head.parameters(), ...scorer.parameters()];
  const values = await readTensors(parameters.map(({ tensor }) => {
    const gradient = gradients.get(tensor);
    assert(gradient?.dtype === "f32");
    return gradient;
  }));
  const [loss] = await read;
  tape.dispose();
  return { losses: loss, gradients: values.flatMap((part) => [...part]) };
}

eachDevice(
  "a network stored in f16 gives f32's losses within 1% and gradients that point the same way",
  async (device) => {
    const full = await lossesOf(device, "f32"), half = await lossesOf(device, "f16");
    assert(relativeError(half.losses, full.losses) < 0.01, `${relativeError(half.losses, full.losses)}`);
    let dot = 0, a = 0, b = 0;
    full.gradients.forEach((v, i) => {
      dot += v * half.gradients[i];
      a += v * v;
      b += half.gradients[i] ** 2;
    });
    assert(dot / Math.sqrt(a * b) > 0.98, `cosine ${dot / Math.sqrt(a * b)}`);
    assert(relativeError(half.losses, full.losses) > 0, "f16 must round");
  },
);

eachDevice("copies of parameters in f16 are made once, give the same bits, and go when dropped", async (device) => {
  const alone = await lossesOf(device, "f16");
  const halves = new HalfCopies(device);
  const shared = await lossesOf(device, "f16", halves);
  assertEquals(shared, alone);
  const parameter = tensorFrom(device, Float32Array.of(1, 0.1), [2]);
  const copy = halves.of(parameter);
  assert(halves.of(parameter) === copy);
  assertEquals([...(await readTensors([copy]))[0]], [1, Math.f16round(0.1)]);
  device.write(parameter.buffer, Float32Array.of(2, 3));
  const before = device.memory.liveBytes;
  halves.drop();
  assert(device.memory.liveBytes < before);
  assertEquals([...(await readTensors([halves.of(parameter)]))[0]], [2, 3]);
  halves.drop();
});
