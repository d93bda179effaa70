import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { type RegNetY, regnetY } from "../../nn/regnet.ts";
import type { Segment } from "../../nn/segments.ts";
import { stateDict } from "../../nn/state_dict.ts";
import type { VectorSum } from "../../tensor/ops/norm_table.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Storage, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { numbers } from "../kernels/run.ts";

const spec = { stemWidth: 8, widths: [8, 16], depths: [2, 2], groupWidth: 8 };
const images = numbers(2 * 32 * 32 * 3, 1);

function free(trunk: RegNetY): void {
  freeTensors([...trunk.parameters(), ...trunk.buffers()].map(({ tensor }) => tensor));
}

/** One forward and backward pass; all that may differ by segments. */
async function pass(
  device: Device,
  { segments, storage, collective }: { segments?: readonly Segment[]; storage?: Storage; collective?: VectorSum },
) {
  const trunk = regnetY(spec, { device, seed: 5 });
  const x = tensorFrom(device, images, [2, 32, 32, 3]);
  const tape = new Tape(device, { gradients: true });
  const before = device.memory.liveBytes;
  const names = new Map(trunk.parameters().map(({ tensor, name }) => [tensor, name]));
  const order: string[] = [];
  try {
    const context = { tape, training: true, updateStatistics: true, pass: "p", storage, collective, segments };
    const features = await trunk.forward(x, context);
    const kept = device.memory.liveBytes - before;
    const [values] = await readTensors([features]);
    const gradients = await tape.backward(features, { onGradient: (leaf) => order.push(names.get(leaf) ?? "?") });
    const found = await readTensors(trunk.parameters().map(({ tensor }) => gradients.get(tensor) ?? tensor));
    const buffers = await stateDict({ parameters: () => [], buffers: () => trunk.buffers() });
    return { kept, results: { values: values.slice(), found: found.map((g) => g.slice()), order, buffers } };
  } finally {
    tape.dispose();
    freeTensors([x]);
    free(trunk);
  }
}

const CUTS: readonly (readonly Segment[])[] = [
  [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]],
  [[0, 4]],
  [[1, 2]],
  [[0, 1], [3, 4]],
];

for (const storage of ["f32", "f16"] as const) {
  eachDevice(
    `segments give the same bits and keep less: features, gradients, order, statistics [${storage}]`,
    async (device) => {
      const live = device.memory.liveBytes;
      const plain = await pass(device, { storage });
      for (const segments of storage === "f32" ? CUTS : CUTS.slice(0, 1)) {
        const { kept, results } = await pass(device, { segments, storage });
        assertEquals(results, plain.results, JSON.stringify(segments));
        assert(kept < plain.kept, `${kept} of ${plain.kept} bytes kept by ${JSON.stringify(segments)}`);
      }
      assertEquals(device.memory.liveBytes, live);
    },
  );
}

eachDevice("what replicas exchange forward is exchanged once, not again when a segment runs again", async (device) => {
  const exchanges = async (segments?: readonly Segment[]) => {
    const keys: string[] = [];
    const collective: VectorSum = {
      allReduce(key, values) {
        keys.push(key);
        return Promise.resolve(values.map((value) => 2 * value));
      },
    };
    const { results } = await pass(device, { segments, collective });
    return { keys, results };
  };
  assertEquals(await exchanges(CUTS[0]), await exchanges());
});

eachDevice("a forward-only pass ignores segments and frees all", async (device) => {
  const live = device.memory.liveBytes;
  const trunk = regnetY(spec, { device, seed: 5 });
  const x = tensorFrom(device, images, [2, 32, 32, 3]);
  const tape = new Tape(device, { gradients: false });
  const context = { tape, training: true, updateStatistics: false, pass: "p" };
  const [plain] = (await readTensors([await trunk.forward(x, context)])).map((values) => values.slice());
  const [cut] = await readTensors([await trunk.forward(x, { ...context, segments: CUTS[0] })]);
  assertEquals(cut, plain);
  tape.dispose();
  await assertRejects(
    () => trunk.forward(x, { ...context, segments: [[4, 5]] }),
    RangeError,
    "Cannot run units 4-5 again",
  );
  freeTensors([x]);
  free(trunk);
  assertEquals(device.memory.liveBytes, live);
});
