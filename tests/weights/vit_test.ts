/** Vision transformers among weights: names of every library, shapes told by tensors, what is refused. */
import { assertEquals, assertThrows } from "@std/assert";
import { trunkSpec } from "../../nn/trunk_spec.ts";
import { type VitSpec, vitTable } from "../../nn/vit_spec.ts";
import { configFor } from "../../weights/configs.ts";
import { WeightsError } from "../../weights/error.ts";
import { namingOf, toSeer } from "../../weights/naming.ts";
import { networkNames, specOf, trunkTensors } from "../../weights/network.ts";
import { writeOnnx } from "../../weights/onnx.ts";
import { checkWeights, renameWeights } from "../../weights/weights.ts";
import { tensorsOf, weightsOf } from "./networks.ts";

const SPEC: VitSpec = { kind: "vit", patch: 4, imageSize: 12, widths: [64], depths: [2], heads: 1, mlpRatio: 2 };

Deno.test("the tensors of a vision transformer tell its shape", () => {
  for (const spec of [SPEC, ...Object.values(vitTable)]) {
    const expected = trunkTensors(spec);
    assertEquals(specOf(new Map(expected.map((tensor) => [tensor.name, tensor]))), spec);
  }
});

Deno.test("a vision transformer goes through torchvision's and timm's names and back", () => {
  const weights = checkWeights(weightsOf(SPEC, { classes: 3 }), { naming: "seer" });
  for (const naming of ["seer", "torchvision", "timm"] as const) {
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
  for (const naming of ["hf", "vissl"] as const) {
    assertThrows(() => configFor(naming, SPEC), WeightsError, "export to torchvision or timm");
  }
  const weights = checkWeights(weightsOf(SPEC), { naming: "seer" });
  assertThrows(() => writeOnnx(weights, { dataFile: "none" }), WeightsError, "found a vision transformer");
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
