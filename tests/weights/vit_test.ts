/** Vision transformers among weights: names of every library, shapes told by tensors, what is refused. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { f32Tensor } from "../../checkpoint/safetensors.ts";
import { openDevice } from "../../device/open.ts";
import { classifier } from "../../nn/heads.ts";
import { loadStateDict, stateDict } from "../../nn/state_dict.ts";
import { trunkSpec } from "../../nn/trunk_spec.ts";
import { buildTrunk } from "../../nn/trunks.ts";
import { type VitSpec, vitTable } from "../../nn/vit_spec.ts";
import { configFor } from "../../weights/configs.ts";
import { WeightsError } from "../../weights/error.ts";
import { namingOf, toSeer } from "../../weights/naming.ts";
import { networkNames, specOf, trunkTensors } from "../../weights/network.ts";
import { writeOnnx } from "../../weights/onnx.ts";
import { joined } from "../../weights/pieces.ts";
import { checkWeights, readWeights, renameWeights } from "../../weights/weights.ts";
import { Tape } from "../../tensor/tape.ts";
import { readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { providersPresent } from "../devices.ts";
import { numbers, relativeError } from "../kernels/run.ts";
import { channelsLast } from "../reference/arrays.ts";
import { tensorsOf, weightsOf } from "./networks.ts";

const SPEC: VitSpec = { kind: "vit", patch: 4, imageSize: 12, widths: [64], depths: [2], heads: 1, mlpRatio: 2 };

Deno.test("the tensors of a vision transformer tell its shape", () => {
  for (const spec of [SPEC, ...Object.values(vitTable)]) {
    const expected = trunkTensors(spec);
    assertEquals(specOf(new Map(expected.map((tensor) => [tensor.name, tensor]))), spec);
  }
});

Deno.test("a vision transformer goes through torchvision's, timm's and transformers' names and back", () => {
  const weights = checkWeights(weightsOf(SPEC, { classes: 3 }), { naming: "seer" });
  for (const naming of ["seer", "torchvision", "timm", "hf"] as const) {
    const { tensors, leftOut } = renameWeights(weights, naming);
    assertEquals(leftOut, []);
    assertEquals(namingOf(tensors.keys()), naming);
    const again = checkWeights(tensors, { naming });
    assertEquals(again.spec, SPEC);
    assertEquals(again.tensors, weights.tensors, naming);
  }
  const { tensors } = renameWeights(weights, "timm");
  for (const name of ["cls_token", "pos_embed", "blocks.1.attn.qkv.weight", "blocks.0.mlp.fc2.bias", "norm.weight"]) {
    assertEquals(tensors.has(name), true, name);
  }
  assertEquals([tensors.has("head.weight"), renameWeights(weights, "torchvision").tensors.has("heads.head.bias")], [
    true,
    true,
  ]);
  // As torchvision named them before 0.14.
  const block = "encoder.layers.encoder_layer_3";
  assertEquals(toSeer(`${block}.mlp.linear_2.bias`, "torchvision"), `trunk.${block}.mlp.3.bias`);
  assertEquals(toSeer(`${block}.mlp.1.bias`, "torchvision"), undefined);
});

Deno.test("published vision transformers have their libraries' names, others none", () => {
  assertEquals(networkNames(trunkSpec("vit_b_16")), {
    seer: { name: "vit_b_16", rule: "seer" },
    timm: "vit_base_patch16_224",
    torchvision: "vit_b_16",
  });
  assertEquals(networkNames(trunkSpec("vit_s_16")).torchvision, undefined);
  assertEquals(networkNames(SPEC), {});
});

Deno.test("what no library expresses, and what does not fit together, is refused", () => {
  assertThrows(() => configFor("vissl", SPEC), WeightsError, "export to torchvision or timm");
  assertEquals(configFor("hf", SPEC, { classes: 3 }), {
    architectures: ["ViTForImageClassification"],
    model_type: "vit",
    num_channels: 3,
    hidden_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 1,
    intermediate_size: 128,
    hidden_act: "gelu",
    image_size: 12,
    patch_size: 4,
    qkv_bias: true,
    layer_norm_eps: 1e-6,
    num_labels: 3,
  });
  const apart = new Map(renameWeights(checkWeights(weightsOf(SPEC), { naming: "seer" }), "hf").tensors);
  const [query, key] = ["query", "key"].map((part) => `vit.encoder.layer.1.attention.attention.${part}.weight`);
  assertEquals([apart.get(query)?.shape, apart.get(key)?.shape], [[64, 64], [64, 64]]);
  apart.delete(key);
  assertThrows(() => checkWeights(apart, { naming: "hf" }), WeightsError, query);
  const tensors = weightsOf(SPEC);
  const without = (part: string) => new Map([...tensors].filter(([name]) => !name.includes(part)));
  assertThrows(() => checkWeights(without("pos_embedding"), { naming: "seer" }), WeightsError, "no square");
  assertThrows(() => checkWeights(without("ln_2.bias"), { naming: "seer" }), WeightsError, "ln_2.bias");
  const far = new Map([
    ...tensors,
    ...tensorsOf([{ name: "trunk.encoder.layers.encoder_layer_999.ln_1.bias", shape: [64] }]),
  ]);
  assertThrows(() => checkWeights(far, { naming: "seer" }), WeightsError, "cannot make its 1000 blocks");
});

Deno.test("onnxruntime computes this project's features and logits of a vision transformer, and the file is read back", async () => {
  const device = await openDevice({ provider: providersPresent()[0] });
  const trunk = buildTrunk(SPEC, { device, seed: 3, prefix: "trunk." });
  const fc = classifier({ device, seed: 4, dim: 64, classes: 5 });
  const state = [...await stateDict(trunk), ...await stateDict(fc)];
  // Away from the start, so that every part counts.
  for (const [name, { data }] of state) data.forEach((value, i) => data[i] = value + 0.05 * Math.sin(i + name.length));
  for (const module of [trunk, fc]) {
    loadStateDict(
      module,
      new Map(state.filter(([name]) => name.startsWith(module === fc ? "fc" : "trunk"))),
    );
  }
  const pixels = numbers(2 * 3 * 12 * 12, 1), tape = new Tape(device, { gradients: false });
  const x = tensorFrom(device, channelsLast(pixels, [2, 3, 12, 12]), [2, 12, 12, 3]);
  const context = { tape, training: false, updateStatistics: false, pass: "evaluation" };
  const features = await trunk.forward(x, context);
  const [expectedFeatures, expected] = await readTensors([features, await fc.forward(features, context)]);
  const weights = checkWeights(new Map(state.map(([name, { shape, data }]) => [name, f32Tensor(data, shape)])), {
    naming: "seer",
  });
  const file = joined(writeOnnx(weights, { dataFile: "none" }).pieces);
  const session = await InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const found = await session.run({ images: new Tensor("float32", pixels, [2, 3, 12, 12]) });
  await session.release();
  assert(found.logits.data instanceof Float32Array && found.features.data instanceof Float32Array);
  assert(relativeError(found.features.data, expectedFeatures) < 1e-5);
  assert(relativeError(found.logits.data, expected) < 1e-5);
  const again = readWeights(file);
  assertEquals([again.naming, again.tensors], ["torchvision", weights.tensors]);
  tape.dispose();
  device.destroy();
});
