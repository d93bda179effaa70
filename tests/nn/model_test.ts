import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { countParameters } from "../../nn/count.ts";
import { projectionHead, prototypes } from "../../nn/heads.ts";
import { initialise } from "../../nn/initialise.ts";
import { toDevice, toFile } from "../../nn/module.ts";
import { regnetY } from "../../nn/regnet.ts";
import { loadStateDict, stateDict } from "../../nn/state_dict.ts";
import { Tape } from "../../tensor/tape.ts";
import { readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { numbers } from "../kernels/run.ts";

const SPEC = { stemWidth: 8, widths: [16, 24], depths: [1, 2], groupWidth: 8 };

eachDevice("a RegNetY has as many parameters as countParameters() says, under torchvision's names", async (device) => {
  const network = regnetY(SPEC, { device, seed: 1 });
  const parameters = network.parameters();
  assertEquals(parameters.reduce((sum, { tensor }) => sum + tensor.size, 0), countParameters(SPEC));
  assertEquals(new Set(parameters.map(({ name }) => name)).size, parameters.length);
  const dict = await stateDict(network);
  for (
    const [name, shape] of [
      ["stem.0.weight", [8, 3, 3, 3]],
      ["trunk_output.block1.block1-0.proj.0.weight", [16, 8, 1, 1]],
      ["trunk_output.block2.block2-1.f.b.0.weight", [24, 8, 3, 3]],
      ["trunk_output.block2.block2-0.f.se.fc1.weight", [4, 24, 1, 1]],
      ["trunk_output.block2.block2-1.f.se.fc2.bias", [24]],
      ["trunk_output.block1.block1-0.f.c.1.running_var", [16]],
    ] as const
  ) assertEquals(dict.get(name)?.shape, [...shape], name);
});

eachDevice("a state dict goes through a model of another seed unchanged", async (device) => {
  const dict = await stateDict(regnetY(SPEC, { device, seed: 1 }));
  const other = regnetY(SPEC, { device, seed: 2 });
  assertNotEquals((await stateDict(other)).get("stem.0.weight")?.data, dict.get("stem.0.weight")?.data);
  const report = loadStateDict(other, dict);
  assertEquals(report.matched.length, dict.size);
  assertEquals(await stateDict(other), dict);
});

eachDevice(
  "loadStateDict() names what is missing, unexpected and of another shape, and changes nothing",
  async (device) => {
    const network = regnetY(SPEC, { device, seed: 1 });
    const before = await stateDict(network);
    const dict = new Map(before);
    dict.delete("stem.1.bias");
    dict.set("fc.weight", { shape: [1], data: Float32Array.of(1) });
    dict.set("stem.0.weight", { shape: [9, 3, 3, 3], data: new Float32Array(243) });
    dict.set("stem.1.num_batches_tracked", { shape: [], data: Float32Array.of(1) });
    const error = assertThrows(() => loadStateDict(network, dict), TypeError, "stem.1.bias");
    for (const part of ["fc.weight", "given [9, 3, 3, 3]", "unexpected (1)"]) {
      assert(
        error.message.includes(part),
        part,
      );
    }
    assertEquals(await stateDict(network), before);
    assertEquals(loadStateDict(network, dict, { strict: false }).missing, ["stem.1.bias"]);
  },
);

eachDevice("equal seeds give equal bits, forward and backward, also on interleaved tapes", async (device) => {
  const network = regnetY(SPEC, { device, seed: 3 });
  const head = projectionHead({ device, seed: 3, prefix: "head.", dims: [24, 10, 6], batchNorm: true });
  assertEquals(head.parameters().map(({ name }) => name), [
    "head.0.weight",
    "head.0.bias",
    "head.1.weight",
    "head.1.bias",
    "head.3.weight",
    "head.3.bias",
  ]);
  const images = tensorFrom(device, numbers(2 * 17 * 17 * 3, 4), [2, 17, 17, 3]);
  const run = async () => {
    const tape = new Tape(device, { gradients: true });
    const context = { tape, training: true, updateStatistics: false, pass: "p" };
    const output = await head.forward(await network.forward(images, context), context);
    const values = readTensors([output]);
    const gradients = await tape.backward(output);
    const result = [...await values, ...await readTensors([...gradients.values()])];
    tape.dispose();
    return result;
  };
  const [first, second] = await Promise.all([run(), run()]);
  assertEquals(first, second);
});

eachDevice("forward without gradients keeps no activation of the layers", async (device) => {
  const network = regnetY(SPEC, { device, seed: 3 });
  const images = tensorFrom(device, numbers(2 * 32 * 32 * 3, 4), [2, 32, 32, 3]);
  const before = device.memory.liveBytes;
  const tape = new Tape(device, { gradients: false });
  await network.forward(images, { tape, training: false, updateStatistics: false, pass: "p" });
  // Features and the normalisers' tables are all that may be left.
  assert(device.memory.liveBytes - before < 16_384, `${device.memory.liveBytes - before} bytes are left`);
  tape.dispose();
  assertEquals(device.memory.liveBytes, before);
});

eachDevice("prototypes are a linear layer without bias, in PyTorch's range", async (device) => {
  const layer = prototypes({ device, seed: 1, prefix: "prototypes.", dim: 64, count: 100 });
  assertEquals(layer.parameters().map(({ name, shape }) => [name, shape]), [["prototypes.weight", [100, 64]]]);
  const [values] = await readTensors([layer.weight.tensor]);
  const largest = values.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
  assert(largest <= 1 / 8 && largest > 0.12, `${largest} must be just under 1/8`);
});

Deno.test("initialise() draws the distribution it is asked for, from the name and seed alone", () => {
  const options = { seed: 5, name: "stem.0.weight", count: 40_001 };
  const normal = initialise({ kind: "normal", deviation: 0.5 }, options);
  const mean = normal.reduce((a, b) => a + b) / normal.length;
  const deviation = Math.sqrt(normal.reduce((a, b) => a + (b - mean) ** 2, 0) / normal.length);
  assert(Math.abs(mean) < 0.01 && Math.abs(deviation - 0.5) < 0.01, `mean ${mean}, deviation ${deviation}`);
  const shorter = initialise({ kind: "normal", deviation: 0.5 }, { ...options, count: 10 });
  assertEquals(shorter, normal.slice(0, 10));
  for (const other of [{ ...options, seed: 6 }, { ...options, name: "stem.0.bias" }]) {
    assertNotEquals(initialise({ kind: "normal", deviation: 0.5 }, other), normal);
  }
});

Deno.test("device and file layouts are each other's inverse", () => {
  const x = numbers(5 * 3 * 2 * 4, 1), layout = { kind: "convolution", shape: [5, 3, 2, 4] } as const;
  assertEquals(toFile(toDevice(x, layout), layout), x);
  // o=1, i=2, y=1, x=3 lies at ((y·4 + x)·3 + i)·5 + o on the device.
  assertEquals(toDevice(x, layout)[((1 * 4 + 3) * 3 + 2) * 5 + 1], x[((1 * 3 + 2) * 2 + 1) * 4 + 3]);
});
