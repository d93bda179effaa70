import { assert, assertEquals, assertThrows } from "@std/assert";
import { countMacs, countParameters } from "../../nn/count.ts";
import { stateDict } from "../../nn/state_dict.ts";
import { trunkShape } from "../../nn/trunk_shape.ts";
import { isTrunkName, type TrunkName, trunkNames, trunkSpec } from "../../nn/trunk_spec.ts";
import { buildTrunk } from "../../nn/trunks.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { numbers } from "../kernels/run.ts";

/** Trunk parameters, and multiply-adds of convolutions and a classifier of 1,000 at 224² and 96²: torchvision's. */
const TORCHVISION: Partial<Record<TrunkName, readonly [number, number, number]>> = {
  "resnet_50": [23_508_032, 4_089_184_256, 752_746_496],
  "resnet_101": [42_500_160, 7_801_405_440, 1_434_583_040],
  "resnet_152": [58_143_808, 11_513_626_624, 2_116_419_584],
  "resnext_101_32x8d": [86_742_336, 16_414_015_488, 3_016_491_008],
  "regnetx_400mf": [5_094_976, 413_812_608, 76_332_928],
  "regnetx_800mf": [6_586_656, 799_699_712, 147_432_192],
  "regnetx_1.6gf": [8_277_136, 1_602_849_792, 295_145_472],
  "regnetx_3.2gf": [14_287_552, 3_176_621_952, 584_284_032],
  "regnetx_8gf": [37_651_648, 7_995_132_416, 1_470_061_056],
  "regnetx_16gf": [52_229_536, 15_940_755_456, 2_929_565_696],
  "regnetx_32gf": [105_290_560, 31_735_929_792, 5_831_105_472],
};

for (const name of trunkNames) {
  const expected = TORCHVISION[name];
  if (expected === undefined) continue;
  Deno.test(`${name} has torchvision's parameters and multiply-adds`, () => {
    const spec = trunkSpec(name, { rule: "torchvision" });
    const counts = [countParameters(spec), ...[224, 96].map((size) => countMacs(spec, size, { classes: 1000 }))];
    assertEquals(counts, [...expected]);
    // The rules differ on 400MF: PYCLS, VISSL and timm have 384 channels at its end.
    if (name === "regnetx_400mf") assertEquals(trunkShape(trunkSpec(name)).width, 384);
    else assertEquals(trunkSpec(name), spec, "both rules give the same widths");
  });
}

Deno.test("every published trunk is known by its name and counted", () => {
  assert(trunkNames.includes("regnety_256gf") && trunkNames.length >= 23);
  for (const name of trunkNames) assert(isTrunkName(name) && trunkShape(trunkSpec(name)).width > 0, name);
  assert(!isTrunkName("resnet_51"));
});

const SPEC = { kind: "resnet", stemWidth: 6, widths: [12, 24], depths: [1, 2], groups: 3, bottleneck: 2 } as const;

Deno.test("a ResNet whose widths do not fit bottleneck and groups is refused", () => {
  assertThrows(() => trunkShape({ ...SPEC, groups: 4 }), RangeError, "12 does not fit");
  assertThrows(() => trunkShape({ ...SPEC, depths: [1] }), RangeError, "equal lengths");
});

eachDevice("a ResNet has the counted parameters under torchvision's names", async (device) => {
  const trunk = buildTrunk(SPEC, { device, seed: 1, prefix: "trunk." });
  const parameters = trunk.parameters();
  assertEquals(parameters.reduce((sum, { tensor }) => sum + tensor.size, 0), countParameters(SPEC));
  const dict = await stateDict(trunk);
  for (
    const [name, shape] of [
      ["conv1.weight", [6, 3, 7, 7]],
      ["bn1.running_mean", [6]],
      ["layer1.0.conv1.weight", [6, 6, 1, 1]],
      ["layer2.0.conv2.weight", [12, 4, 3, 3]],
      ["layer2.0.downsample.0.weight", [24, 12, 1, 1]],
      ["layer2.0.downsample.1.weight", [24]],
      ["layer2.1.bn3.running_var", [24]],
    ] as const
  ) assertEquals(dict.get(`trunk.${name}`)?.shape, [...shape], name);
  assert(!dict.has("trunk.layer2.1.downsample.0.weight"));
  // Kaiming's normal distribution by fan-out: variance 2 / (49 · 6).
  const stem = dict.get("trunk.conv1.weight")?.data ?? new Float32Array();
  const variance = stem.reduce((sum, value) => sum + value ** 2, 0) / stem.length;
  assert(Math.abs(variance * 49 * 6 / 2 - 1) < 0.2, `${variance}`);
  freeTensors([...parameters, ...trunk.buffers()].map(({ tensor }) => tensor));
});

for (const storage of ["f32", "f16"] as const) {
  eachDevice(
    `a ResNet's gradients have the same bits when segments run again, and free all [${storage}]`,
    async (device) => {
      const live = device.memory.liveBytes;
      const pass = async (segments: readonly (readonly [number, number])[]) => {
        const trunk = buildTrunk(SPEC, { device, seed: 3 });
        const x = tensorFrom(device, numbers(2 * 27 * 27 * 3, 1), [2, 27, 27, 3]);
        const tape = new Tape(device, { gradients: true });
        const context = { tape, training: true, updateStatistics: true, pass: "p", storage, segments };
        const features = await trunk.forward(x, context);
        assertEquals(features.shape, [2, 24]);
        const gradients = await tape.backward(features);
        const leaves = trunk.parameters().map(({ tensor }) => gradients.get(tensor));
        const found = (await readTensors(leaves.filter((leaf) => leaf !== undefined))).map((values) => values.slice());
        tape.dispose();
        freeTensors([x, ...trunk.parameters().map((p) => p.tensor), ...trunk.buffers().map((b) => b.tensor)]);
        return found;
      };
      const plain = await pass([]);
      assertEquals(plain.length, buildTrunk(SPEC, { device, seed: undefined }).parameters().length);
      assertEquals(await pass([[0, 0], [1, 2]]), plain);
      assert(plain.every((values) => values.every(Number.isFinite)) && plain[0].some((value) => value !== 0));
      assert(live >= 0);
    },
  );
}
