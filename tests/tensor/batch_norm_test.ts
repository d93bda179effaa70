import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { batchNorm, type BatchNormOptions, type VectorSum } from "../../tensor/ops/batch_norm.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "../kernels/run.ts";

const CHANNELS = 6, ROWS = 10;

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

interface Result {
  output: Float32Array;
  gradients: Float32Array[];
  running: Float32Array[];
}

async function normalise(
  device: Device,
  data: { x: Float32Array<ArrayBuffer>; g: Float32Array<ArrayBuffer> },
  options: Partial<BatchNormOptions>,
): Promise<Result> {
  const vector = (values: Float32Array<ArrayBuffer>, requiresGradient = false) =>
    tensorFrom(device, values, [values.length], { requiresGradient });
  const gamma = vector(numbers(CHANNELS, 11), true), beta = vector(numbers(CHANNELS, 12), true);
  const mean = vector(new Float32Array(CHANNELS)), variance = vector(new Float32Array(CHANNELS).fill(1));
  const shape = [data.x.length / CHANNELS, CHANNELS];
  const x = tensorFrom(device, data.x, shape, { requiresGradient: true }), g = tensorFrom(device, data.g, shape);
  const tape = new Tape(device, { gradients: true });
  const running = { mean, variance };
  const output = await batchNorm(tape, { x, gamma, beta }, {
    epsilon: 1e-5,
    training: true,
    running,
    momentum: 0.1,
    relu: true,
    ...options,
  });
  const [values] = await readTensors([output]);
  const found = await tape.backward(output, { gradient: g });
  const leaves = [x, gamma, beta].map((tensor): Tensor => {
    const gradient = found.get(tensor);
    assert(gradient);
    return gradient;
  });
  const result = {
    output: values,
    gradients: await readTensors(leaves),
    running: await readTensors([mean, variance]),
  };
  tape.dispose();
  freeTensors([x, g, gamma, beta, mean, variance]);
  return result;
}

const joined = (parts: readonly Float32Array[]) => parts.flatMap((part) => [...part]);

eachDevice("synchronised batch norm over unequal replicas equals one large batch", async (device) => {
  const sizes = [ROWS, 2 * ROWS, 3];
  const count = sizes.reduce((a, b) => a + b) * CHANNELS;
  const x = numbers(count, 1).map((v, i) => 3 * v + 20 * (i % CHANNELS)), g = numbers(count, 2);
  const whole = await normalise(device, { x, g }, {});
  const collectives = group(sizes.length);
  let row = 0;
  const parts = await Promise.all(sizes.map((rows, replica) => {
    const range = [row * CHANNELS, (row += rows) * CHANNELS] as const;
    const data = { x: x.slice(...range), g: g.slice(...range) };
    return normalise(device, data, { collective: collectives[replica], key: "bn" });
  }));
  assertClose(joined(parts.map((part) => part.output)), whole.output, { bound: 2e-6, what: "output" });
  assertClose(joined(parts.map((p) => p.gradients[0])), whole.gradients[0], { bound: 1e-5, what: "gradient of x" });
  for (const i of [1, 2]) {
    // Each replica reports its own sum; together they are the whole batch's.
    const sum = whole.gradients[i].map((_, c) => parts.reduce((total, part) => total + part.gradients[i][c], 0));
    assertClose(sum, whole.gradients[i], { bound: 1e-5, what: `gradient of parameter ${i}` });
  }
  for (const part of parts) {
    assertClose(part.running[0], whole.running[0], { bound: 1e-6, what: "running mean" });
    assertClose(part.running[1], whole.running[1], { bound: 1e-5, what: "running variance" });
    assertEquals(part.running, parts[0].running);
  }
});

eachDevice(
  "batch norm in evaluation uses running statistics, leaves them, and treats them as constants",
  async (device) => {
    const x = numbers(ROWS * CHANNELS, 1), g = numbers(ROWS * CHANNELS, 2);
    const { output, gradients, running } = await normalise(device, { x, g }, { training: false, relu: false });
    const gamma = numbers(CHANNELS, 11), beta = numbers(CHANNELS, 12), scale = 1 / Math.sqrt(1 + 1e-5);
    assertClose(output, x.map((v, i) => v * scale * gamma[i % CHANNELS] + beta[i % CHANNELS]), {
      bound: 1e-6,
      what: "output",
    });
    assertClose(gradients[0], g.map((v, i) => v * scale * gamma[i % CHANNELS]), { bound: 1e-6, what: "gradient" });
    assertEquals(running.map((values) => [...values]), [Array(CHANNELS).fill(0), Array(CHANNELS).fill(1)]);
  },
);

eachDevice("batch norm leaves running statistics alone without a momentum", async (device) => {
  const x = numbers(ROWS * CHANNELS, 1);
  const { running } = await normalise(device, { x, g: x }, { momentum: undefined });
  assertEquals(running.map((values) => [...values]), [Array(CHANNELS).fill(0), Array(CHANNELS).fill(1)]);
});
