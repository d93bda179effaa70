/** The vision transformer: its names and numbers, gradients by segments and by differences, positions of other sizes. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { countParameters } from "../../nn/count.ts";
import { loadStateDict, stateDict } from "../../nn/state_dict.ts";
import { trunkShape } from "../../nn/trunk_shape.ts";
import { trunkSpec } from "../../nn/trunk_spec.ts";
import { buildTrunk } from "../../nn/trunks.ts";
import { positionResampling, type VitSpec } from "../../nn/vit_spec.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import type { Device } from "../../device/device.ts";
import { eachDevice } from "../devices.ts";
import { numbers } from "../kernels/run.ts";

const SPEC: VitSpec = { kind: "vit", patch: 4, imageSize: 12, widths: [12], depths: [2], heads: 3, mlpRatio: 2 };

Deno.test("published vision transformers have torchvision's and timm's parameters and units", () => {
  // torchvision's vit_b_16 and timm's vit_small_patch16_224, without classifiers.
  assertEquals(countParameters(trunkSpec("vit_b_16")), 86_567_656 - 769_000);
  assertEquals(countParameters(trunkSpec("vit_s_16")), 22_050_664 - 385_000);
  const shape = trunkShape(trunkSpec("vit_b_16"));
  assertEquals([shape.units, shape.unitActivations(224).length, shape.width], [14, 14, 768]);
});

Deno.test("shapes that make no vision transformer are refused", () => {
  assertThrows(() => trunkShape({ ...SPEC, heads: 5 }), RangeError, "5 heads must divide its width, found 12");
  assertThrows(() => trunkShape({ ...SPEC, imageSize: 13 }), RangeError, "patches of 4 pixels must divide");
  assertThrows(() => trunkShape({ ...SPEC, depths: [1, 1] }), RangeError, "one width and one depth, found 1 and 2");
});

Deno.test("positions of another size are resampled as PyTorch does it, those of the same size stay", () => {
  const same = positionResampling(3, { rows: 3, columns: 3 });
  for (let row = 0; row < 10; row++) {
    for (let at = 0; at < 10; at++) assertEquals(Math.abs(same[row * 10 + at]), row === at ? 1 : 0);
  }
  // torch.nn.functional.interpolate of torch.arange(9.).reshape(1, 1, 3, 3) ** 2, size (2, 4), mode="bicubic".
  const expected = [0.935635, 2.008327, 4.969212, 7.684483, 29.348543, 36.258278, 48.344269, 56.896568];
  const matrix = positionResampling(3, { rows: 2, columns: 4 });
  const found = Array.from({ length: 8 }, (_, i) => {
    let sum = 0;
    for (let at = 0; at < 9; at++) sum += matrix[(i + 1) * 10 + 1 + at] * at ** 2;
    return sum;
  });
  for (const [i, value] of found.entries()) assert(Math.abs(value - expected[i]) < 1e-4, `${found}`);
});

eachDevice("a vision transformer has the counted parameters under torchvision's names", async (device) => {
  const trunk = buildTrunk(SPEC, { device, seed: 1, prefix: "trunk." });
  const parameters = trunk.parameters();
  assertEquals(parameters.reduce((sum, { tensor }) => sum + tensor.size, 0), countParameters(SPEC));
  assertEquals(parameters.slice(0, 4).map(({ name, shape }) => [name, shape]), [
    ["trunk.class_token", [1, 1, 12]],
    ["trunk.conv_proj.weight", [12, 3, 4, 4]],
    ["trunk.conv_proj.bias", [12]],
    ["trunk.encoder.pos_embedding", [1, 10, 12]],
  ]);
  const dict = await stateDict(trunk);
  const block = "trunk.encoder.layers.encoder_layer_1";
  assertEquals(dict.get(`${block}.self_attention.in_proj_weight`)?.shape, [36, 12]);
  assertEquals(dict.get(`${block}.mlp.3.weight`)?.shape, [12, 24]);
  const [first] = dict.get(`${block}.self_attention.in_proj_weight`)?.data ?? [];
  assert(first !== 0 && Math.abs(first) < Math.sqrt(6 / 48));
  freeTensors(parameters.map(({ tensor }) => tensor));
});

/** Features' sum weighted by `g`, and its gradients by name. */
async function pass(
  device: Device,
  { segments = [], storage, size = 12, nudge }: {
    segments?: readonly (readonly [number, number])[];
    storage?: "f16";
    size?: number;
    nudge?: { name: string; at: number; by: number };
  },
): Promise<{ value: number; gradients: Map<string, Float32Array> }> {
  const trunk = buildTrunk(SPEC, { device, seed: 3 });
  const dict = await stateDict(trunk);
  for (const [name, { data }] of dict) {
    if (!name.includes("ln")) data.forEach((v, i) => data[i] = 5 * v + 0.01 * (i % 7));
  }
  const nudged = nudge && dict.get(nudge.name)?.data;
  if (nudge !== undefined && nudged !== undefined) nudged[nudge.at] += nudge.by;
  loadStateDict(trunk, dict);
  const x = tensorFrom(device, numbers(2 * size * size * 3, 1), [2, size, size, 3]);
  const tape = new Tape(device, { gradients: true });
  const context = { tape, training: true, updateStatistics: true, pass: "p", storage, segments };
  const features = await trunk.forward(x, context);
  assertEquals(features.shape, [2, 12]);
  const g = numbers(24, 9), [values] = await readTensors([features]);
  const value = values.reduce((sum, feature, i) => sum + feature * g[i], 0);
  const upstream = tape.adopt(tensorFrom(device, g, [2, 12]));
  const found = await tape.backward(features, { gradient: upstream });
  const gradients = new Map<string, Float32Array>();
  for (const { name, tensor } of trunk.parameters()) {
    const gradient = found.get(tensor);
    if (gradient !== undefined) gradients.set(name, (await readTensors([gradient]))[0].slice());
  }
  tape.dispose();
  freeTensors([x, ...trunk.parameters().map((parameter) => parameter.tensor)]);
  return { value, gradients };
}

eachDevice("gradients are those of differences, and the same bits when segments run again", async (device) => {
  const plain = await pass(device, {});
  assertEquals(plain.gradients.size, 4 + 2 * 12 + 2);
  assertEquals((await pass(device, { segments: [[0, 1], [2, 3]] })).gradients, plain.gradients);
  const by = 1e-3;
  // Vectors and, for their layout is the file's, the class token and positions.
  for (
    const name of [
      "class_token",
      "encoder.layers.encoder_layer_0.ln_1.weight",
      "encoder.layers.encoder_layer_1.mlp.0.bias",
    ]
  ) {
    const [up, down] = [
      await pass(device, { nudge: { name, at: 2, by } }),
      await pass(device, { nudge: { name, at: 2, by: -by } }),
    ];
    const difference = (up.value - down.value) / (2 * by), gradient = plain.gradients.get(name)?.[2] ?? 0;
    assert(Math.abs(difference - gradient) < 0.02 * Math.abs(gradient) + 0.02, `${name}: ${difference}, ${gradient}`);
  }
});

eachDevice(
  "images of another size are seen with resampled positions, which learn too; halves begin alike",
  async (device) => {
    const small = await pass(device, { size: 9 });
    assert((small.gradients.get("encoder.pos_embedding") ?? []).some((value) => value !== 0));
    const [full, half] = [await pass(device, {}), await pass(device, { storage: "f16" })];
    assert(
      Math.abs(half.value - full.value) < 0.02 * Math.max(1, Math.abs(full.value)),
      `${half.value}, ${full.value}`,
    );
    assert(half.value !== full.value);
  },
);
