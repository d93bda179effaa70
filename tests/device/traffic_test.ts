import { assert, assertEquals } from "@std/assert";
import type { AdapterDescription } from "../../device/device.ts";
import { familyOf, trafficOf } from "../../device/traffic.ts";
import { regnetY } from "../../nn/regnet.ts";
import { conv2d } from "../../tensor/ops/conv2d.ts";
import { Tape } from "../../tensor/tape.ts";
import { zeros } from "../../tensor/tensor.ts";

/** A GPU that is not here. */
const ADAPTER: AdapterDescription = {
  provider: "dawn",
  name: "imagined",
  vendor: "",
  architecture: "",
  kind: "gpu",
  features: ["f16"],
  subgroupSizes: [0, 0],
  matrices: [],
  limits: {
    bufferBytesMax: 2 ** 40,
    bindingBytesMax: 2 ** 40,
    bindingsMax: 10,
    workgroupBytesMax: 32_768,
    workgroupInvocationsMax: 1024,
  },
};

Deno.test("a plain convolution moves its input, weights and output once a pass, which is the ideal", async () => {
  const traffic = await trafficOf({ adapter: { ...ADAPTER, kind: "cpu" } }, async (device) => {
    const x = zeros(device, [2, 8, 8, 16], { requiresGradient: true });
    const weight = zeros(device, [1, 1, 16, 32]);
    const tape = new Tape(device, { gradients: true });
    await tape.backward(conv2d(tape, x, weight));
  });
  const input = 4 * 2 * 64 * 16, output = 4 * 2 * 64 * 32, weights = 4 * 16 * 32;
  assertEquals(traffic.idealBytes, 2 * (input + output + weights));
  assertEquals(traffic.boundBytes, traffic.idealBytes);
  assertEquals(traffic.launches, 2);
  // Forward's three, and the two gradients; nothing is freed before the end of the backward pass but what it consumed.
  assert(traffic.peakBytes >= input + output + weights && traffic.peakBytes <= 2 * (input + output) + weights);
  assertEquals([...traffic.byKernel.keys()].sort(), ["conv2d forward", "conv2d input gradient"]);
});

Deno.test("a RegNetY's passes on a GPU move at most twice the ideal, and f16 saves a third or more", async () => {
  const spec = { stemWidth: 16, widths: [32, 64], depths: [1, 2], groupWidth: 16 };
  const count = (storage: "f32" | "f16") =>
    trafficOf({ adapter: ADAPTER }, async (device) => {
      const network = regnetY(spec, { device, seed: undefined });
      const tape = new Tape(device, { gradients: true });
      const context = { tape, training: true, updateStatistics: true, pass: "crops", storage };
      await tape.backward(await network.forward(zeros(device, [8, 64, 64, 3]), context));
    });
  const [full, half] = [await count("f32"), await count("f16")];
  assert(full.boundBytes > full.idealBytes && full.boundBytes < 2 * full.idealBytes, JSON.stringify(full));
  assert(half.boundBytes < 0.67 * full.boundBytes, `${half.boundBytes} of ${full.boundBytes}`);
});

Deno.test("familyOf() takes the shape out of a label", () => {
  assertEquals(familyOf("conv2d forward 3x3/2 32→64, 8×16×16"), "conv2d forward");
  assertEquals(familyOf("load normalised relu 2x9x24 f32"), "load normalised relu");
  assertEquals(familyOf("find overflow"), "find overflow");
});
