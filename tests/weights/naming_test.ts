import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type RegnetName, regnetStages, regnetTable } from "../../nn/regnet_spec.ts";
import { fromSeer, type Naming, namingOf, namings, toSeer } from "../../weights/naming.ts";
import { networkNames, specOf, trunkTensors } from "../../weights/network.ts";
import { specs } from "./networks.ts";

const publishedNames = Object.keys(regnetTable) as RegnetName[];
const others = namings.filter((naming) => naming !== "seer");

/** SEER's name of a block's layer, in all five namings. */
const examples: Record<Naming, string>[] = [
  {
    seer: "trunk.stem.0.weight",
    torchvision: "stem.0.weight",
    timm: "stem.conv.weight",
    vissl: "_feature_blocks.conv1.stem.0.weight",
    hf: "embedder.embedder.convolution.weight",
  },
  {
    seer: "trunk.trunk_output.block1.block1-0.proj.1.running_mean",
    torchvision: "trunk_output.block1.block1-0.proj.1.running_mean",
    timm: "s1.b1.downsample.bn.running_mean",
    vissl: "_feature_blocks.res2.block1-0.bn.running_mean",
    hf: "encoder.stages.0.layers.0.shortcut.normalization.running_mean",
  },
  {
    seer: "trunk.trunk_output.block3.block3-11.f.se.fc2.bias",
    torchvision: "trunk_output.block3.block3-11.f.se.fc2.bias",
    timm: "s3.b12.se.fc2.bias",
    vissl: "_feature_blocks.res4.block3-11.f.se.excitation.2.bias",
    hf: "encoder.stages.2.layers.11.layer.2.attention.2.bias",
  },
  {
    seer: "trunk.trunk_output.block4.block4-0.f.c.1.num_batches_tracked",
    torchvision: "trunk_output.block4.block4-0.f.c.1.num_batches_tracked",
    timm: "s4.b1.conv3.bn.num_batches_tracked",
    vissl: "_feature_blocks.res5.block4-0.f.final_bn.num_batches_tracked",
    hf: "encoder.stages.3.layers.0.layer.3.normalization.num_batches_tracked",
  },
  { seer: "fc.bias", torchvision: "fc.bias", timm: "head.fc.bias", vissl: "0.clf.0.bias", hf: "classifier.1.bias" },
];

Deno.test("names are those of the libraries' own sources", () => {
  for (const example of examples) {
    for (const naming of namings) {
      assertEquals(fromSeer(example.seer, { naming, squeezed: true }), example[naming]);
      assertEquals(toSeer(example[naming], naming), example.seer);
    }
  }
  assertEquals(
    toSeer("_feature_blocks.res4.block3-part1.block3-11.f.a.0.weight", "vissl"),
    "trunk.trunk_output.block3.block3-11.f.a.0.weight",
  );
  assertEquals(
    toSeer("regnet.encoder.stages.0.layers.1.layer.1.convolution.weight", "hf"),
    "trunk.trunk_output.block1.block1-1.f.b.0.weight",
  );
  assertEquals(toSeer("module.stem.1.bias", "torchvision"), "trunk.stem.1.bias");
  assertEquals(toSeer("0.projection_head.2.bias", "vissl"), "head.2.bias");
  assertEquals(fromSeer("prototypes.weight", { naming: "vissl", squeezed: true }), "0.prototypes0.weight");
  assertEquals(
    fromSeer("trunk.trunk_output.block1.block1-0.f.c.0.weight", { naming: "hf", squeezed: false }),
    "encoder.stages.0.layers.0.layer.2.convolution.weight",
  );
});

Deno.test("what a library has no place for has no name, and foreign names are not guessed", () => {
  for (const naming of ["torchvision", "timm", "hf"] as const) {
    assertEquals(fromSeer("head.0.weight", { naming, squeezed: true }), undefined);
    assertEquals(fromSeer("prototypes.weight", { naming, squeezed: true }), undefined);
  }
  for (
    const name of [
      "stem.2.weight",
      "trunk_output.block1.block2-0.f.a.0.weight",
      "trunk_output.block1.block1-00.f.a.0.weight",
      "layer1.0.conv4.weight",
      "fc",
      "",
    ]
  ) {
    assertEquals(toSeer(name, "torchvision"), undefined, name);
  }
  assertEquals(toSeer("s1.b0.conv1.conv.weight", "timm"), undefined, "timm counts blocks from 1");
  assertEquals(toSeer("s0.b1.conv1.conv.weight", "timm"), undefined);
  assertEquals(toSeer("_feature_blocks.res1.block0-0.f.a.0.weight", "vissl"), undefined);
});

/** Translates the trunk of a network from library to library and back, and asserts that nothing is lost. */
function assertRoundTrips(tensors: readonly string[], squeezed: boolean): void {
  for (const naming of others) {
    const names = tensors.map((name) => fromSeer(name, { naming, squeezed }));
    assertEquals(new Set(names).size, tensors.length, `${naming} gives every tensor a name of its own`);
    assertEquals(names.map((name) => toSeer(name ?? "", naming)), [...tensors]);
    assertEquals(namingOf(names.map((name) => name ?? "")), naming);
  }
}

Deno.test("every published network goes through every naming and back", () => {
  for (const name of publishedNames) {
    for (const rule of ["seer", "torchvision"] as const) {
      const tensors = trunkTensors(regnetStages(regnetTable[name], rule));
      assertRoundTrips(tensors.map((tensor) => tensor.name), true);
    }
  }
});

Deno.test("any network goes through every naming and back, and its shape is found in its tensors", () => {
  fc.assert(fc.property(specs, (spec) => {
    const tensors = trunkTensors(spec);
    assertRoundTrips(tensors.map(({ name }) => name), spec.seRatio > 0);
    const found = specOf(new Map(tensors.map((tensor) => [tensor.name, tensor])));
    assertEquals(trunkTensors(found), tensors);
  }));
});

Deno.test("SEER's 8GF is timm's regnety_080 and never torchvision's network of that name", () => {
  const names = (name: RegnetName, rule: "seer" | "torchvision") => networkNames(regnetStages(regnetTable[name], rule));
  assertEquals(names("regnety_8gf", "seer"), { seer: { name: "regnety_8gf", rule: "seer" }, timm: "regnety_080" });
  assertEquals(names("regnety_8gf", "torchvision"), {
    seer: { name: "regnety_8gf", rule: "torchvision" },
    timm: "regnety_080_tv",
    torchvision: "regnet_y_8gf",
  });
  assertEquals(names("regnety_800mf", "torchvision").timm, "regnety_008_tv");
  assertEquals(names("regnetx_400mf", "torchvision"), {
    seer: { name: "regnetx_400mf", rule: "torchvision" },
    timm: "regnetx_004_tv",
    torchvision: "regnet_x_400mf",
  });
  const differing: readonly RegnetName[] = ["regnety_8gf", "regnety_800mf", "regnetx_400mf"];
  for (const name of publishedNames.filter((name) => !differing.includes(name))) {
    assertEquals(names(name, "seer"), names(name, "torchvision"), name);
    assertEquals(names(name, "seer").seer, { name, rule: "seer" });
  }
  assertEquals(names("regnety_256gf", "seer").timm, "regnety_2560");
  assertEquals(names("regnety_64gf", "seer").torchvision, undefined, "torchvision has none");
  assertEquals(networkNames({ widths: [8], depths: [1], groupWidth: 8 }), {});
});

Deno.test("the shape of a published network is found in its tensors", () => {
  for (const name of publishedNames) {
    const spec = regnetStages(regnetTable[name], "seer");
    const found = specOf(new Map(trunkTensors(spec).map((tensor) => [tensor.name, tensor])));
    assertEquals(found, { stemWidth: 32, seRatio: 0.25, ...spec });
    assert(networkNames(found).seer);
  }
});
