import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  linearProbe,
  probeOrder,
  probeRate,
  probeState,
  probeStep,
  standardizeSets,
} from "../../evaluate/linear_probe.ts";
import { matrixFrom } from "../../evaluate/matrix.ts";
import { relativeError } from "../kernels/run.ts";
import { readReference } from "../reference/read_reference.ts";
import { clusters, collapsed, rows } from "./sets.ts";

Deno.test("probeStep() equals five steps of PyTorch's SGD with Nesterov momentum", async () => {
  const path = new URL("../golden/linear_probe_steps.safetensors", import.meta.url).pathname;
  const { tensors, metadata } = await readReference(path);
  const floats = (name: string) => new Float32Array(tensors[name].bytes.buffer);
  const [count, columns] = tensors.features.shape;
  const state = probeState({ classes: tensors.weight0.shape[0], columns }, floats("weight0"));
  const batch = {
    features: matrixFrom(floats("features"), columns),
    labels: new Uint32Array(tensors.labels.bytes.buffer),
    rows: Array.from({ length: count }, (_, i) => i),
  };
  const losses = Array.from({ length: 5 }, () =>
    probeStep(state, batch, {
      learningRate: JSON.parse(metadata.lr),
      momentum: JSON.parse(metadata.momentum),
      weightDecay: JSON.parse(metadata.weight_decay),
    }));
  assert(relativeError(losses, JSON.parse(metadata.losses)) < 1e-6);
  assert(relativeError(state.weight, floats("weight5")) < 1e-6);
  assert(relativeError(state.bias, floats("bias5")) < 1e-6);
});

Deno.test("linearProbe() separates clusters, the same way every time", () => {
  const train = clusters({ count: 300, classes: 5, columns: 12, spread: 0.5, seed: 5 });
  const test = clusters({ count: 100, classes: 5, columns: 12, spread: 0.5, seed: 6 });
  const accuracy = linearProbe(train, test, { epochs: 10 });
  assert(accuracy > 0.95, `accuracy ${accuracy}`);
  assertEquals(linearProbe(train, test, { epochs: 10 }), accuracy);
});

Deno.test("linearProbe() learns what scale and offset hide", () => {
  const train = clusters({ count: 300, classes: 3, columns: 6, spread: 0.3, seed: 7 });
  const hidden = { ...train, features: matrixFrom(train.features.data.map((v) => 1e-3 * v + 5), 6) };
  assert(linearProbe(hidden, hidden, { epochs: 10 }) > 0.95);
});

Deno.test("collapsed features give at most the share of the largest class", () => {
  const train = collapsed(90, 3), test = collapsed(60, 3);
  assert(linearProbe(train, test, { epochs: 3 }) <= 1 / 3 + 1e-9);
});

Deno.test("a column that is constant up to rounding stands for nothing", () => {
  const train = { features: rows([0.7, 1], [0.70000005, 3]), labels: Uint32Array.of(0, 1) };
  assertEquals([...standardizeSets(train, train).train.features.data], [0, -1, 0, 1]);
});

Deno.test("the test set is standardised by the training set's statistics", () => {
  const train = { features: rows([0], [2]), labels: Uint32Array.of(0, 1) };
  const test = { features: rows([5]), labels: Uint32Array.of(0) };
  assertEquals([...standardizeSets(train, test).test.features.data], [4]);
});

Deno.test("the order of rows is a permutation that depends on seed and epoch alone", () => {
  const order = probeOrder(50, { seed: 1, epoch: 2 });
  assertEquals(order.toSorted((a, b) => a - b), Array.from({ length: 50 }, (_, i) => i));
  assertEquals(probeOrder(50, { seed: 1, epoch: 2 }), order);
  assert(probeOrder(50, { seed: 1, epoch: 3 }).join() !== order.join());
});

Deno.test("the learning rate falls from its peak to nearly 0 along half a cosine", () => {
  assertEquals(probeRate(0, { peak: 0.4, steps: 10 }), 0.4);
  assertAlmostEquals(probeRate(5, { peak: 0.4, steps: 10 }), 0.2, 1e-12);
  assert(probeRate(9, { peak: 0.4, steps: 10 }) < 0.01);
});

Deno.test("features that are no numbers are refused", () => {
  const broken = { features: rows([Infinity]), labels: Uint32Array.of(0) };
  assertThrows(() => linearProbe(broken, broken), RangeError, "found Infinity in row 0");
});
