import {
  ntXentCombine,
  ntXentGradient,
  ntXentPartial,
  ntXentPartials,
  ntXentReference,
} from "../../kernels/nt_xent.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernels } from "./run.ts";

for (const [rows, columns] of [[6, 6], [6, 7], [10, 300]]) {
  eachDevice(`NT-Xent of ${rows} rows against ${columns} matches the reference`, async (device) => {
    const shape = { rows, columns, temperature: 0.1, scale: 1 / columns };
    const scores = numbers(rows * columns, 3), others = numbers(columns, 4).map((value) => 6 + value);
    const forward = ntXentReference({ scores }, shape);
    const worldLogSums = new Float32Array(others);
    worldLogSums.set(forward.logSums);
    const expected = ntXentReference({ scores, worldLogSums }, shape);
    const [, , losses, logSums, , gradient] = await runKernels(
      device,
      [scores, ntXentPartials(shape), rows, rows, worldLogSums, rows * columns],
      [[ntXentPartial(shape), [0, 1]], [ntXentCombine(shape), [1, 0, 2, 3]], [ntXentGradient(shape), [0, 4, 5]]],
    );
    assertClose(losses, expected.losses, { bound: 1e-6, what: "losses" });
    assertClose(logSums, expected.logSums, { bound: 1e-6, what: "log-sums" });
    assertClose(gradient, expected.gradient, { bound: 1e-5, what: "gradient" });
  });
}
