/** The ops of vision transformers on the tape: values and gradients of leaves against the kernels' CPU references. */
import { assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { attentionReference } from "../../kernels/attention.ts";
import { geluReference } from "../../kernels/gelu.ts";
import { layerNormReference } from "../../kernels/layer_norm.ts";
import { joinTokensReference } from "../../kernels/tokens.ts";
import { attention } from "../../tensor/ops/attention.ts";
import { gelu } from "../../tensor/ops/gelu.ts";
import { layerNorm } from "../../tensor/ops/layer_norm.ts";
import { linear } from "../../tensor/ops/linear.ts";
import { classToken, joinTokens } from "../../tensor/ops/tokens.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "../kernels/run.ts";

/** Runs an op on leaves; its output, and the leaves' gradients for the upstream gradient `g`. Nothing may be left over. */
async function differentiate(
  device: Device,
  leaves: readonly { data: Float32Array<ArrayBuffer>; shape: readonly number[] }[],
  { op, g }: { op: (tape: Tape, leaves: readonly Tensor[]) => Tensor; g: Float32Array<ArrayBuffer> },
): Promise<Float32Array[]> {
  const before = device.memory.liveBytes;
  const tensors = leaves.map(({ data, shape }) => tensorFrom(device, data, shape, { requiresGradient: true }));
  const tape = new Tape(device, { gradients: true });
  const output = op(tape, tensors);
  const [value] = (await readTensors([output])).map((part) => part.slice());
  const upstream = tape.adopt(tensorFrom(device, g, output.shape));
  const gradients = await tape.backward(output, { gradient: upstream });
  const found = await readTensors(tensors.map((tensor) => gradients.get(tensor) ?? tensor));
  const copies = found.map((part) => part.slice());
  tape.dispose();
  freeTensors(tensors);
  assertEquals(device.memory.liveBytes, before);
  return [value, ...copies];
}

eachDevice("GELU and layer normalisation on the tape match their references", async (device) => {
  const x = numbers(2 * 3 * 14, 1), g = numbers(x.length, 2), shape = [2, 3, 14];
  const [y, towards] = await differentiate(device, [{ data: x, shape }], { g, op: (tape, [x]) => gelu(tape, x) });
  assertClose(y, x.map(geluReference.gelu), { bound: 1e-6, what: "gelu" });
  assertClose(towards, x.map((v, i) => geluReference.geluGradient(g[i], v)), { bound: 1e-6, what: "its gradient" });
  const weight = numbers(14, 3), bias = numbers(14, 4), epsilon = 1e-6;
  const ours = await differentiate(
    device,
    [{ data: x, shape }, { data: weight, shape: [14] }, { data: bias, shape: [14] }],
    { g, op: (tape, [x, weight, bias]) => layerNorm(tape, x, { weight, bias, epsilon }) },
  );
  const expected = layerNormReference({ x, g, weight, bias }, { rows: 6, columns: 14, epsilon });
  for (const [i, what] of (["output", "x", "weight", "bias"] as const).entries()) {
    assertClose(ours[i], expected[what], { bound: 5e-6, what });
  }
});

eachDevice("attention on the tape matches its reference, and refuses heads that do not divide", async (device) => {
  const sizes = { images: 2, tokens: 5, heads: 3, features: 4 };
  const qkv = numbers(2 * 5 * 36, 1), g = numbers(2 * 5 * 12, 2), shape = [2, 5, 36];
  const [output, towards] = await differentiate(device, [{ data: qkv, shape }], {
    g,
    op: (tape, [x]) => attention(tape, x, { heads: 3 }),
  });
  const expected = attentionReference({ qkv, g }, sizes);
  assertClose(output, expected.output, { bound: 2e-6, what: "output" });
  assertClose(towards, expected.gradient, { bound: 5e-6, what: "gradient" });
  const tape = new Tape(device, { gradients: false });
  const x = tape.allocate(shape);
  assertThrows(() => attention(tape, x, { heads: 5 }), RangeError, "5 heads must divide");
  tape.dispose();
});

eachDevice("joined tokens and the class token on the tape match their references", async (device) => {
  const sizes = { images: 3, tokens: 5, width: 6 };
  const patches = numbers(3 * 4 * 6, 1), own = numbers(6, 2), positions = numbers(30, 3), g = numbers(90, 4);
  const leaves = [{ data: patches, shape: [3, 4, 6] }, { data: own, shape: [6] }, { data: positions, shape: [5, 6] }];
  const [output, ...towards] = await differentiate(device, leaves, {
    g,
    op: (tape, [patches, own, positions]) => joinTokens(tape, patches, own, positions),
  });
  const expected = joinTokensReference({ patches, classToken: own, positions, g }, sizes);
  assertClose(output, expected.output, { bound: 1e-6, what: "tokens" });
  assertClose(towards[0], expected.patches, { bound: 1e-6, what: "patches" });
  assertClose(towards[1], expected.positions.slice(0, 6), { bound: 1e-6, what: "class token" });
  assertClose(towards[2], expected.positions, { bound: 1e-6, what: "positions" });
  const [first, spread] = await differentiate(device, [{ data: g, shape: [3, 5, 6] }], {
    g: numbers(18, 5),
    op: (tape, [x]) => classToken(tape, x),
  });
  assertEquals([...first], [0, 1, 2].flatMap((image) => [...g.subarray(image * 30, image * 30 + 6)]));
  assertEquals(spread.filter((value) => value !== 0).length, 18);
});

eachDevice("a linear layer keeps the dimensions before the last, small or large", async (device) => {
  for (const outputs of [4, 3000]) {
    const x = numbers(2 * 3 * 700, 1), weight = numbers(700 * outputs, 2);
    const tape = new Tape(device, { gradients: false });
    const inputs = [
      tensorFrom(device, x, [2, 3, 700]),
      tensorFrom(device, x, [6, 700]),
      tensorFrom(device, weight, [700, outputs]),
    ];
    const deep = linear(tape, inputs[0], inputs[2]), flat = linear(tape, inputs[1], inputs[2]);
    assertEquals([deep.shape, flat.shape], [[2, 3, outputs], [6, outputs]]);
    const [ours, expected] = await readTensors([deep, flat]);
    assertEquals(ours, expected);
    tape.dispose();
    freeTensors(inputs);
  }
});
