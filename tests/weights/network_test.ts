import { assertEquals } from "@std/assert";
import { RecordingDevice } from "../../device/tune_shapes.ts";
import { regnetY } from "../../nn/regnet.ts";
import { type RegnetSpec, regnetStages, regnetTable } from "../../nn/regnet_spec.ts";
import { loadStateDict } from "../../nn/state_dict.ts";
import { stateDictOf } from "../../weights/floats.ts";
import { trunkTensors } from "../../weights/network.ts";
import { weightsOf } from "./networks.ts";

/** A device that computes nothing. */
const device = () =>
  new RecordingDevice({
    provider: "deno",
    name: "none",
    vendor: "",
    architecture: "",
    kind: "cpu",
    features: [],
    subgroupSizes: [0, 0],
    matrices: [],
    limits: {
      bufferBytesMax: 2 ** 40,
      bindingBytesMax: 2 ** 40,
      bindingsMax: 8,
      workgroupBytesMax: 16384,
      workgroupInvocationsMax: 256,
    },
  });

const networks: Record<string, RegnetSpec> = {
  "regnety_400mf": regnetStages(regnetTable["regnety_400mf"], "seer"),
  "SEER's regnety_8gf": regnetStages(regnetTable["regnety_8gf"], "seer"),
  "torchvision's regnet_y_8gf": regnetStages(regnetTable["regnety_8gf"], "torchvision"),
  "a network without squeeze-and-excitation": {
    stemWidth: 6,
    widths: [6, 8],
    depths: [2, 1],
    groupWidth: 2,
    seRatio: 0,
  },
};

for (const [name, spec] of Object.entries(networks)) {
  Deno.test(`the tensors that weights of ${name} must have are those of the model`, () => {
    const model = regnetY(spec, { device: device(), seed: undefined, prefix: "trunk." });
    const built = [...model.parameters(), ...model.buffers()].map(({ name, shape }) => [name, shape.join("x")]);
    const expected = trunkTensors(spec).filter(({ counter }) => !counter);
    assertEquals(expected.map(({ name, shape }) => [name, shape.join("x")]).sort(), built.sort());
  });
}

Deno.test("checked weights load into the model without a difference", () => {
  const spec = { stemWidth: 4, widths: [8, 12], depths: [1, 2], groupWidth: 4, seRatio: 0.25 };
  const model = regnetY(spec, { device: device(), seed: undefined });
  const report = loadStateDict(model, stateDictOf(weightsOf(spec, { classes: 3 }), "trunk."));
  assertEquals(report.matched.length, model.parameters().length + model.buffers().length);
});
