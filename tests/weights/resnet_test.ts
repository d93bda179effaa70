/** ResNets among weights: names of every library, shapes told by tensors, and onnxruntime's numbers. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { f32Tensor } from "../../checkpoint/safetensors.ts";
import { RecordingDevice } from "../../device/tune_shapes.ts";
import { classifier } from "../../nn/heads.ts";
import { type ResnetSpec, resnetTable } from "../../nn/resnet_spec.ts";
import { trunkSpec } from "../../nn/trunk_spec.ts";
import { buildTrunk } from "../../nn/trunks.ts";
import { configFor } from "../../weights/configs.ts";
import { WeightsError } from "../../weights/error.ts";
import { fromSeer, namingOf, toSeer } from "../../weights/naming.ts";
import { networkNames, specOf, trunkTensors } from "../../weights/network.ts";
import { writeOnnx } from "../../weights/onnx.ts";
import { joined } from "../../weights/pieces.ts";
import { checkWeights, renameWeights } from "../../weights/weights.ts";
import { relativeError } from "../kernels/run.ts";
import { referenceArrays } from "../reference/arrays.ts";
import { formula, formulaWeights } from "../reference/published_networks.ts";
import { tensorsOf, weightsOf } from "./networks.ts";

const SPEC: ResnetSpec = { kind: "resnet", stemWidth: 6, widths: [12, 24], depths: [1, 2], groups: 3, bottleneck: 2 };
const plain = ["seer", "torchvision", "timm", "vissl"] as const;

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

Deno.test("the tensors that weights of a ResNet must have are those of the model, and tell its shape", () => {
  for (const spec of [SPEC, ...Object.values(resnetTable)]) {
    const model = buildTrunk(spec, { device: device(), seed: undefined, prefix: "trunk." });
    const expected = trunkTensors(spec);
    assertEquals(specOf(new Map(expected.map((tensor) => [tensor.name, tensor]))), spec);
    const built = [...model.parameters(), ...model.buffers()].map(({ name, shape }) => [name, shape.join("x")]);
    const wanted = expected.filter(({ counter }) => !counter).map(({ name, shape }) => [name, shape.join("x")]);
    assertEquals(wanted.sort(), built.sort());
  }
});

Deno.test("a ResNet goes through every naming that knows it and back", () => {
  const weights = checkWeights(weightsOf(SPEC, { classes: 3 }), { naming: "seer" });
  for (const naming of plain) {
    const { tensors, leftOut } = renameWeights(weights, naming);
    assertEquals(leftOut, []);
    assertEquals(namingOf(tensors.keys(), naming), naming);
    const again = checkWeights(tensors, { naming });
    assertEquals(again.spec, SPEC);
    assertEquals(again.tensors, weights.tensors, naming);
  }
  const facts = { squeezed: false, resnet: true };
  assertEquals(
    fromSeer("trunk.layer2.0.downsample.0.weight", { naming: "vissl", ...facts }),
    "_feature_blocks.layer2.0.downsample.0.weight",
  );
  assertEquals(fromSeer("fc.weight", { naming: "timm", ...facts }), "fc.weight");
  assertEquals(toSeer("module.bn1.bias", "torchvision"), "trunk.bn1.bias");
  assertThrows(() => configFor("hf", SPEC), WeightsError, "found 3 groups and 1/2");
});

Deno.test("a ResNet without groups goes through transformers' names and back, beside a RegNet's", () => {
  const spec: ResnetSpec = { kind: "resnet", stemWidth: 6, widths: [12, 24], depths: [1, 2], groups: 1, bottleneck: 4 };
  const weights = checkWeights(weightsOf(spec, { classes: 3 }), { naming: "seer" });
  const { tensors, leftOut } = renameWeights(weights, "hf");
  assertEquals([leftOut, namingOf(tensors.keys())], [[], "hf"]);
  for (
    const name of [
      "resnet.embedder.embedder.convolution.weight",
      "resnet.encoder.stages.1.layers.0.shortcut.normalization.running_mean",
      "resnet.encoder.stages.0.layers.0.layer.2.normalization.bias",
      "classifier.1.weight",
    ]
  ) assertEquals(tensors.has(name), true, name);
  const again = checkWeights(tensors, { naming: "hf" });
  assertEquals([again.spec, again.tensors], [weights.spec, weights.tensors]);
  assertEquals(toSeer("resnet.encoder.stages.1.layers.0.layer.3.convolution.weight", "hf"), undefined);
  assertEquals(configFor("hf", spec, { classes: 3 }), {
    architectures: ["ResNetForImageClassification"],
    model_type: "resnet",
    num_channels: 3,
    embedding_size: 6,
    hidden_sizes: [12, 24],
    depths: [1, 2],
    layer_type: "bottleneck",
    hidden_act: "relu",
    downsample_in_first_stage: false,
    downsample_in_bottleneck: false,
    num_labels: 3,
  });
});

Deno.test("published ResNets have their libraries' names, others none", () => {
  assertEquals(networkNames(trunkSpec("resnext_101_32x8d")), {
    seer: { name: "resnext_101_32x8d", rule: "seer" },
    timm: "resnext101_32x8d",
    torchvision: "resnext101_32x8d",
  });
  assertEquals(networkNames(trunkSpec("resnet_152")).timm, "resnet152");
  assertEquals(networkNames(SPEC), {});
});

Deno.test("a ResNet that lacks a stage, or is asked for as another network, is refused", () => {
  const tensors = weightsOf(SPEC);
  const less = new Map([...tensors].filter(([name]) => !name.includes("layer1")));
  assertThrows(() => checkWeights(less, { naming: "seer" }), WeightsError, "stage 1 is missing");
  const refused = () => checkWeights(tensors, { naming: "seer", spec: trunkSpec("regnety_400mf") });
  assertThrows(refused, WeightsError, "missing");
  const far = new Map([...tensors, ...tensorsOf([{ name: "trunk.layer999.0.conv1.weight", shape: [1] }])]);
  assertThrows(() => checkWeights(far, { naming: "seer" }), WeightsError, "has no place");
});

Deno.test("onnxruntime computes torchvision's logits of ResNet-50 from an exported file", async () => {
  const folder = new URL("../golden", import.meta.url).pathname;
  const reference = await referenceArrays(folder, "published_networks");
  const spec = trunkSpec("resnet_50"), recorder = device();
  const trunk = buildTrunk(spec, { device: recorder, seed: undefined });
  const fc = classifier({ device: recorder, seed: undefined, dim: trunk.width, classes: 1000 });
  const tensors = new Map(
    [trunk, fc].flatMap((module) =>
      [...formulaWeights(module)].map(([name, { shape, data }]) => [name, f32Tensor(data, shape)] as const)
    ),
  );
  const weights = checkWeights(tensors, { naming: "torchvision" });
  const { pieces } = writeOnnx(weights, { dataFile: "none" });
  const session = await InferenceSession.create(joined(pieces), { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const images = Float32Array.from(formula("input", 2 * 3 * 64 * 64), (u) => 2 * u - 1);
  const { logits, features } = await session.run({ images: new Tensor("float32", images, [2, 3, 64, 64]) });
  await session.release();
  assertEquals(features.dims, [2, 2048]);
  assert(logits.data instanceof Float32Array);
  assert(relativeError(logits.data, reference.numbers("logits.resnet50")) < 1e-5);
});
