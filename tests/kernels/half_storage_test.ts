import { batchNormApply, batchNormReference } from "../../kernels/batch_norm.ts";
import {
  add,
  addBias,
  cast,
  elementwiseReference as reference,
  relu,
  reluGradient,
} from "../../kernels/elementwise.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { columnSums, columnSumsReference } from "../../kernels/reduce.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "./run.ts";
import { type Bound, runProgram, stored } from "./tile/run.ts";

/** One rounding to f16. */
const HALF = 5e-4;

/** A program of one kernel whose buffers are called as `names`. */
const programOf = (kernel: Kernel, names: readonly string[]) => ({
  launches: [{ kernel, buffers: names }],
  workspaceBytes: 0,
});

const half = (data: Bound["data"]): Bound => ({ data, storage: "f16" });

eachDevice("elementwise kernels compute in f32 over f16 arrays, at odd and at vector sizes", async (device) => {
  for (const count of [63, 1492]) {
    const a = stored(numbers(count, 1), "f16"), b = stored(numbers(count, 2), "f16");
    const run = async (kernel: Kernel, names: readonly string[]) => {
      const bound = { a: half(a), b: half(b), result: half(count) };
      return (await runProgram<string>(device, programOf(kernel, names), bound)).get("result") ?? [];
    };
    const check = (ours: ArrayLike<number>, expected: Float32Array, what: string) =>
      assertClose(ours, expected, { bound: HALF, what: `${what} ${count}` });
    check(await run(relu(count, "f16"), ["a", "result"]), a.map(reference.relu), "relu");
    const pair = ["a", "b", "result"];
    check(await run(add(count, "f16"), pair), a.map((v, i) => v + b[i]), "add");
    const masked = a.map((v, i) => reference.reluGradient(v, b[i]));
    check(await run(reluGradient(count, "f16"), pair), masked, "relu gradient");
  }
});

eachDevice("cast() rounds to f16 to the nearest and keeps what is too large as infinite", async (device) => {
  const x = Float32Array.of(1, 0.1, -3.14159, 65_504, 1e6, -1e6, 1e-7);
  const bound = { x: { data: x }, result: half(x.length) };
  const found = await runProgram<string>(
    device,
    programOf(cast(x.length, { from: "f32", to: "f16" }), ["x", "result"]),
    bound,
  );
  const ours = [...found.get("result") ?? []], expected = [...new Float16Array(x)];
  ours.forEach((value, i) => {
    if (!Object.is(value, expected[i])) throw new Error(`${x[i]} must become ${expected[i]}, it became ${value}`);
  });
});

eachDevice("addBias() and columnSums() take f16 rows and keep biases and sums in f32", async (device) => {
  for (const [rows, columns] of [[70, 5], [33, 12]]) {
    const shape = { rows, columns, storage: "f16" } as const;
    const x = stored(numbers(rows * columns, 3), "f16"), bias = numbers(columns, 4);
    const { partial, combine, partialCount } = columnSums(shape);
    const launches = [
      { kernel: addBias(shape), buffers: ["x", "bias", "result"] },
      { kernel: partial, buffers: ["x", "partials"] },
      { kernel: combine, buffers: ["partials", "sums"] },
    ];
    const found = await runProgram<string>(device, { launches, workspaceBytes: 0 }, {
      x: half(x),
      bias: { data: bias },
      result: half(rows * columns),
      partials: { data: partialCount },
      sums: { data: columns },
    });
    const biased = x.map((v, i) => v + bias[i % columns]);
    assertClose(found.get("result") ?? [], biased, { bound: HALF, what: "addBias" });
    assertClose(found.get("sums") ?? [], columnSumsReference(x, rows, columns), { bound: 1e-6, what: "columnSums" });
  }
});

eachDevice("batchNormApply() normalises f16 numbers by f32 tables", async (device) => {
  const shape = { rows: 50, channels: 7, storage: "f16" } as const;
  const x = stored(numbers(350, 1).map((v, i) => 3 * v + i % 7), "f16");
  const gamma = numbers(7, 2), beta = numbers(7, 3);
  const expected = batchNormReference({ x, gamma, beta, g: x }, { ...shape, epsilon: 1e-5, relu: true });
  const inverse = expected.variance.map((v) => 1 / Math.sqrt(v + 1e-5));
  const normaliser = Float32Array.from([...expected.mean, ...gamma.map((v, i) => v * inverse[i]), ...beta, ...inverse]);
  const kernel = batchNormApply(shape, { relu: true });
  const found = await runProgram<string>(device, programOf(kernel, ["x", "normaliser", "result"]), {
    x: half(x),
    normaliser: { data: normaliser },
    result: half(350),
  });
  assertClose(found.get("result") ?? [], expected.output, { bound: HALF, what: "output" });
});
