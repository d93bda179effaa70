import { normalizeColumnsInPlace, normalizeColumnsReference } from "../../kernels/normalize_columns.ts";
import { swavTargets, swavTargetsReference } from "../../kernels/swav_targets.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernel } from "./run.ts";

eachDevice(
  "normalizeColumnsInPlace() gives prototypes unit length at odd sizes, and leaves a zero one",
  async (device) => {
    for (const [rows, columns] of [[13, 29], [256, 65], [1, 1]]) {
      const x = numbers(rows * columns, 1);
      if (columns > 1) { for (let row = 0; row < rows; row++) x[row * columns + 1] = 0; }
      const [ours] = await runKernel(device, normalizeColumnsInPlace(rows, columns), [x]);
      assertClose(ours, normalizeColumnsReference(x, { rows, columns }), { bound: 1e-6, what: `${rows}x${columns}` });
    }
  },
);

eachDevice("swavTargets() sums the codes of the other assign crops", async (device) => {
  for (const assignCrops of [[0, 1], [2], [0, 1, 3]]) {
    const shape = { batch: 5, crops: 4, prototypes: 7, assignCrops };
    const codes = numbers(assignCrops.length * 35, 2);
    const [, ours] = await runKernel(device, swavTargets(shape), [codes, 140]);
    assertClose(ours, swavTargetsReference(codes, shape), { bound: 1e-6, what: `assign crops ${assignCrops}` });
  }
});
