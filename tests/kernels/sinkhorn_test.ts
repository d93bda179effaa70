import { assert, assertEquals } from "@std/assert";
import type { Device, DeviceBuffer } from "../../device/device.ts";
import { sinkhorn, type SinkhornOptions, sinkhornReference } from "../../kernels/sinkhorn.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, madeUp } from "./close.ts";

const CASES: readonly SinkhornOptions[] = [
  { samples: 32, prototypes: 12, epsilon: 0.05, iterations: 3 },
  { samples: 17, prototypes: 133, epsilon: 0.03, iterations: 10 },
  { samples: 70, prototypes: 65, epsilon: 0.1, iterations: 1 },
];

async function onDevice(device: Device, scores: Float32Array<ArrayBuffer>, options: SinkhornOptions) {
  const { steps, workspaceBytes } = sinkhorn(options);
  const buffers: Record<string, DeviceBuffer> = {
    scores: device.upload(scores),
    codes: device.allocate(scores.byteLength),
    workspace: device.allocate(workspaceBytes),
  };
  for (const step of steps) device.run(step.kernel, step.buffers.map((name) => buffers[name]));
  const [bytes] = await device.read([{ buffer: buffers.codes }]);
  for (const buffer of Object.values(buffers)) device.free(buffer);
  return new Float32Array(bytes.buffer);
}

function rowSums(codes: Float32Array, prototypes: number): number[] {
  const sums: number[] = [];
  for (let first = 0; first < codes.length; first += prototypes) {
    sums.push(codes.subarray(first, first + prototypes).reduce((sum, code) => sum + code, 0));
  }
  return sums;
}

for (const options of CASES) {
  const { samples, prototypes, iterations } = options;
  eachDevice(`sinkhorn() matches the reference: ${samples}×${prototypes}, ${iterations} iterations`, async (device) => {
    const scores = madeUp(samples * prototypes, 1);
    const codes = await onDevice(device, scores, options);
    assertClose(codes, sinkhornReference(scores, options), { bound: 1e-5 });
    for (const sum of rowSums(codes, prototypes)) assert(Math.abs(sum - 1) < 1e-5, `a row sums to ${sum}`);
  });
}

eachDevice("sinkhorn() stays finite where a prototype's exponentials are all zero in f32", async (device) => {
  const options: SinkhornOptions = { samples: 9, prototypes: 5, epsilon: 0.01, iterations: 3 };
  const scores = madeUp(45, 4).map((value, index) => index % 5 === 2 ? -9 : value);
  const codes = await onDevice(device, scores, options);
  assert(codes.every(Number.isFinite));
  for (const sum of rowSums(codes, 5)) assert(Math.abs(sum - 1) < 1e-5, `a row sums to ${sum}`);
});

Deno.test("sinkhornReference() uses every prototype equally when iterated long", () => {
  const options: SinkhornOptions = { samples: 12, prototypes: 4, epsilon: 0.5, iterations: 200 };
  const codes = sinkhornReference(madeUp(48, 5), options);
  for (let k = 0; k < 4; k++) {
    let sum = 0;
    for (let i = 0; i < 12; i++) sum += codes[i * 4 + k];
    assertEquals(Math.abs(sum - 3) < 1e-5, true);
  }
});
