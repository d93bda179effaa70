import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { regnetY } from "../../nn/regnet.ts";
import { batchNorm, type VectorSum } from "../../tensor/ops/batch_norm.ts";
import { conv2d } from "../../tensor/ops/conv2d.ts";
import { convolveNormalised } from "../../tensor/ops/normalised.ts";
import { materialise } from "../../tensor/ops/residual.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "../kernels/run.ts";

/** Replicas that add their vectors in order of number, once all have come. */
function group(size: number): VectorSum[] {
  const waiting = new Map<string, { parts: Float32Array[]; count: number; release: (() => void)[] }>();
  return Array.from({ length: size }, (_, replica) => ({
    async allReduce(key, values) {
      const entry = waiting.get(key) ?? { parts: [], count: 0, release: [] };
      waiting.set(key, entry);
      entry.parts[replica] = values;
      if (++entry.count < size) await new Promise<void>((resolve) => entry.release.push(resolve));
      else entry.release.forEach((release) => release());
      return values.map((_, i) => entry.parts.reduce((sum, part) => Math.fround(sum + part[i]), 0));
    },
  }));
}

const SPEC = { stemWidth: 8, widths: [16], depths: [2], groupWidth: 8 };
const SIZE = 16, IMAGE = SIZE * SIZE * 3;

/** Features, parameters' gradients and running statistics of a step over some images. */
async function step(device: Device, images: Float32Array<ArrayBuffer>, collective?: VectorSum) {
  const network = regnetY(SPEC, { device, seed: 3 });
  const rows = images.length / IMAGE;
  const x = tensorFrom(device, images, [rows, SIZE, SIZE, 3]);
  const tape = new Tape(device, { gradients: true });
  const context = { tape, training: true, updateStatistics: true, pass: "p", collective };
  const output = await network.forward(x, context);
  const g = tensorFrom(device, Float32Array.from({ length: 16 * rows }, (_, i) => Math.sin(3 * (i % 16))), [rows, 16]);
  const [features] = await readTensors([output]);
  const found = await tape.backward(output, { gradient: g });
  const leaves = network.parameters().map(({ tensor }): Tensor => {
    const gradient = found.get(tensor);
    assert(gradient);
    return gradient;
  });
  const gradients = await readTensors(leaves);
  const running = await readTensors(network.buffers().map(({ tensor }) => tensor));
  const names = network.parameters().map(({ name }) => name);
  tape.dispose();
  freeTensors([x, g, ...network.parameters().map((p) => p.tensor), ...network.buffers().map((b) => b.tensor)]);
  return { features, gradients, running, names };
}

eachDevice("a network normalised over unequal replicas gives one large batch's gradients", async (device) => {
  const sizes = [2, 3], images = numbers(5 * IMAGE, 1);
  const whole = await step(device, images);
  const collectives = group(sizes.length);
  let at = 0;
  const parts = await Promise.all(
    sizes.map((size, i) => step(device, images.slice(at * IMAGE, (at += size) * IMAGE), collectives[i])),
  );
  assertClose(parts.flatMap(({ features }) => [...features]), whole.features, { bound: 1e-5, what: "features" });
  whole.names.forEach((what, i) => {
    const sum = whole.gradients[i].map((_, k) => parts.reduce((total, part) => total + part.gradients[i][k], 0));
    assertClose(sum, whole.gradients[i], { bound: 1e-3, what });
  });
  whole.running.forEach((values, i) => {
    assertClose(parts[0].running[i], values, { bound: 1e-5, what: `running statistics ${i}` });
    assertEquals(parts[1].running[i], parts[0].running[i]);
  });
});

for (const training of [true, false]) {
  const title = `fused convolutions ${training ? "in training" : "by running statistics"} equal the ops one by one`;
  eachDevice(title, async (device) => {
    const made: Tensor[] = [];
    const leaf = (shape: readonly number[], seed: number, shift = 0) => {
      const count = shape.reduce((a, b) => a * b);
      const tensor = tensorFrom(device, numbers(count, seed).map((v) => v + shift), shape, { requiresGradient: true });
      made.push(tensor);
      return tensor;
    };
    const x = leaf([2, 6, 5, 6], 1), first = leaf([1, 1, 6, 10], 2), second = leaf([3, 3, 5, 10], 3);
    const [gammas, betas] = [[4, 5].map((seed) => leaf([10], seed, 1)), [6, 7].map((seed) => leaf([10], seed))];
    const g = leaf([2, 3, 3, 10], 8);
    const geometry = { stride: 2, padding: 1, groups: 2 };
    const running = { mean: leaf([10], 9), variance: leaf([10], 10, 2) };
    const norm = { epsilon: 1e-5, training, running, relu: true };
    const run = async (forward: (tape: Tape) => Promise<Tensor>) => {
      const tape = new Tape(device, { gradients: true });
      const output = await forward(tape);
      const [values] = await readTensors([output]);
      const found = await tape.backward(output, { gradient: g });
      const leaves = [x, first, second, ...gammas, ...betas].map((tensor) => found.get(tensor) ?? g);
      const gradients = await readTensors(leaves);
      tape.dispose();
      return [values, ...gradients];
    };
    const fused = await run(async (tape) => {
      const one = { x, weight: first, gamma: gammas[0], beta: betas[0] };
      const a = await convolveNormalised(tape, one, { geometry: {}, norm });
      const two = { x: a, weight: second, gamma: gammas[1], beta: betas[1] };
      return materialise(tape, await convolveNormalised(tape, two, { geometry, norm }));
    });
    const apart = await run(async (tape) => {
      const a = conv2d(tape, x, first);
      const one = await batchNorm(tape, { x: a, gamma: gammas[0], beta: betas[0] }, norm);
      const b = conv2d(tape, one, second, geometry);
      return await batchNorm(tape, { x: b, gamma: gammas[1], beta: betas[1] }, norm);
    });
    apart.forEach((expected, i) => assertClose(fused[i], expected, { bound: 1e-4, what: `result ${i}` }));
    freeTensors(made);
  });
}
