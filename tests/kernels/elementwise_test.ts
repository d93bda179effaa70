import {
  accumulate,
  add,
  addBias,
  elementwiseReference as reference,
  multiply,
  permute,
  permuteReference,
  relu,
  reluGradient,
  scale,
  scaleRows,
  sigmoid,
  sigmoidGradient,
} from "../../kernels/elementwise.ts";
import { columnSums, columnSumsReference } from "../../kernels/reduce.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernel, runKernels } from "./run.ts";

eachDevice("elementwise kernels match their references at odd and at vector sizes", async (device) => {
  for (const count of [1, 63, 1492, 4103]) {
    const a = numbers(count, 1), b = numbers(count, 2);
    for (const [name, kernel] of [["relu", relu], ["sigmoid", sigmoid]] as const) {
      const [, ours] = await runKernel(device, kernel(count), [a, count]);
      assertClose(ours, a.map((v) => reference[name](v)), { bound: 1e-6, what: `${name} ${count}` });
    }
    const pairs = { add, multiply, reluGradient, sigmoidGradient };
    for (const name of Object.keys(pairs) as (keyof typeof pairs)[]) {
      const [, , ours] = await runKernel(device, pairs[name](count), [a, b, count]);
      assertClose(ours, a.map((v, i) => reference[name](v, b[i])), { bound: 1e-6, what: `${name} ${count}` });
    }
    const [total] = await runKernel(device, accumulate(count), [a, b]);
    assertClose(total, a.map((v, i) => v + b[i]), { bound: 1e-6, what: `accumulate ${count}` });
    const [, , scaled] = await runKernel(device, scale(count), [a, Float32Array.of(0.37), count]);
    assertClose(scaled, a.map((v) => v * Math.fround(0.37)), { bound: 1e-6, what: `scale ${count}` });
  }
});

eachDevice("row and column broadcasts match plain loops", async (device) => {
  for (const [rows, columns] of [[7, 5], [3, 8], [1, 373]]) {
    const x = numbers(rows * columns, 3), bias = numbers(columns, 4), factors = numbers(rows, 5);
    const [, , shifted] = await runKernel(device, addBias({ rows, columns }), [x, bias, rows * columns]);
    assertClose(shifted, x.map((v, i) => v + bias[i % columns]), { bound: 1e-6, what: "addBias" });
    const [, , scaled] = await runKernel(device, scaleRows(rows, columns), [x, factors, rows * columns]);
    assertClose(scaled, x.map((v, i) => v * factors[Math.floor(i / columns)]), { bound: 1e-6, what: "scaleRows" });
  }
});

eachDevice("permute() reorders the dimensions of OIHW weights to HWIO", async (device) => {
  const shape = [5, 3, 2, 7], order = [2, 3, 1, 0];
  const x = numbers(210, 6);
  const [, ours] = await runKernel(device, permute(shape, order), [x, 210]);
  assertClose(ours, permuteReference(x, shape, order), { bound: 0, what: "permute" });
});

eachDevice("a grid larger than 65,535 workgroups covers every element", async (device) => {
  const count = 65_536 * 64 + 129;
  const x = new Float32Array(count).fill(-1);
  x[count - 1] = 2;
  x[65_536 * 64] = 3;
  const [, ours] = await runKernel(device, relu(count), [x, count]);
  let sum = 0;
  for (const v of ours) sum += v;
  if (sum !== 5) throw new Error(`relu over ${count}: the sum must be 5, it is ${sum}`);
});

eachDevice("columnSums() matches double precision over many rows", async (device) => {
  for (const [rows, columns] of [[1, 3], [33, 12], [5003, 7], [20_000, 8]]) {
    const x = numbers(rows * columns, rows).map((v) => v + 0.5);
    const { partial, combine, partialCount } = columnSums({ rows, columns });
    const [, , ours] = await runKernels(device, [x, partialCount, columns], [[partial, [0, 1]], [combine, [1, 2]]]);
    assertClose(ours, columnSumsReference(x, rows, columns), { bound: 2e-6, what: `columnSums ${rows}x${columns}` });
  }
});
