/** Two trunk passes of a group of replicas side by side: the bits of one after the other, half the exchanges. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { memoryGroup } from "../../collectives/memory_collective.ts";
import type { Device } from "../../device/device.ts";
import type { ForwardContext } from "../../nn/module.ts";
import { regnetY } from "../../nn/regnet.ts";
import type { Segment } from "../../nn/segments.ts";
import { stateDict } from "../../nn/state_dict.ts";
import { runLanes } from "../../tensor/lanes.ts";
import { concatRows } from "../../tensor/ops/rows.ts";
import type { VectorSum } from "../../tensor/ops/norm_table.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { numbers } from "../kernels/run.ts";

const spec = { stemWidth: 8, widths: [8, 16], depths: [1, 2], groupWidth: 8 };
const SIZES = [32, 16];

/** One replica's passes over both sizes, forward and back. */
async function replicaStep(
  device: Device,
  { member, sum, lanes, segments }: { member: number; sum: VectorSum; lanes: boolean; segments?: readonly Segment[] },
) {
  const trunk = regnetY(spec, { device, seed: 5 });
  const tape = new Tape(device, { gradients: true });
  const keys: string[] = [];
  const collective: VectorSum = {
    allReduce(key, values) {
      keys.push(key);
      return sum.allReduce(key, values);
    },
  };
  const shared = { tape, training: true, updateStatistics: true, collective, segments };
  const views = SIZES.map((size) =>
    tape.adopt(tensorFrom(device, numbers(2 * size * size * 3, member + size), [2, size, size, 3]))
  );
  try {
    const passes = views.map((view, i) => (lane?: Partial<ForwardContext>) =>
      trunk.forward(view, { ...shared, ...lane, pass: `crops ${i}` })
    );
    const features: Tensor[] = [];
    if (lanes) features.push(...await runLanes(tape, { collective, passes }));
    else for (const pass of passes) features.push(await pass());
    const output = concatRows(tape, features);
    const [values] = await readTensors([output]);
    const gradients = await tape.backward(output);
    const found = await readTensors(trunk.parameters().map(({ tensor }) => gradients.get(tensor) ?? tensor));
    const buffers = await stateDict({ parameters: () => [], buffers: () => trunk.buffers() });
    return { keys, results: { values: values.slice(), found: found.map((each) => each.slice()), buffers } };
  } finally {
    tape.dispose();
    freeTensors([...trunk.parameters(), ...trunk.buffers()].map(({ tensor }) => tensor));
  }
}

async function groupStep(device: Device, options: { lanes: boolean; segments?: readonly Segment[] }) {
  return await Promise.all(
    memoryGroup(2).map((sum, member) => replicaStep(device, { member, sum, ...options })),
  );
}

eachDevice("passes side by side give the bits of passes in turn, with half the exchanges", async (device) => {
  const live = device.memory.liveBytes;
  const inTurn = await groupStep(device, { lanes: false });
  for (const segments of [undefined, [[0, 0], [1, 2]]] as const) {
    const together = await groupStep(device, { lanes: true, segments });
    for (const member of [0, 1]) {
      assertEquals(together[member].results, inTurn[member].results);
      assertEquals(2 * together[member].keys.length, inTurn[member].keys.length);
    }
    assert(together[0].keys[0].startsWith("crops 0/stem.1/mean + crops 1/stem.1/mean"), together[0].keys[0]);
  }
  assertEquals(device.memory.liveBytes, live);
});

eachDevice("a pass that fails ends the passes beside it, with its own error", async (device) => {
  const tape = new Tape(device, { gradients: true });
  const [collective] = memoryGroup(2);
  const waiting = runLanes(tape, {
    collective,
    passes: [
      async ({ collective }) => {
        await collective.allReduce("a", new Float32Array(1));
        throw new Error("unreachable: the other lane has failed");
      },
      () => Promise.reject(new Error("out of memory")),
    ],
  });
  await assertRejects(() => waiting, Error, "out of memory");
  tape.dispose();
});
