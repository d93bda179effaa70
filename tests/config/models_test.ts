import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, headDims, loadConfig, modelSpec, parseConfig, type TrainConfigInput } from "../../config.ts";
import { resnetTable } from "../../nn/resnet_spec.ts";

const parse = (model: TrainConfigInput["model"]) => parseConfig({ steps: 1, model }, { source: "the test" });

Deno.test("a model's name gives the published trunk of any family", () => {
  const config = parse({ name: "resnext_101_32x8d" });
  assertEquals(modelSpec(config), resnetTable.resnext_101_32x8d);
  assertEquals(headDims(config)[0], 2048);
  assertEquals(modelSpec(parse({ name: "regnetx_400mf", rule: "torchvision" })), {
    stemWidth: 32,
    seRatio: 0,
    widths: [32, 64, 160, 400],
    depths: [1, 2, 7, 12],
    groupWidth: 16,
  });
});

Deno.test("explicit stages of a ResNet take the usual bottleneck and one group where nothing is said", () => {
  const stages = { family: "resnet", stemWidth: 8, widths: [16, 32], depths: [1, 1] } as const;
  const { family: _family, ...shape } = stages;
  assertEquals(modelSpec(parse(stages)), { kind: "resnet", ...shape, groups: 1, bottleneck: 4 });
  const faults: [TrainConfigInput["model"], string][] = [
    [{ ...stages, groupWidth: 8 }, "model.groupWidth"],
    [{ ...stages, groups: 3 }, "multiples of bottleneck times groups (12)"],
    [{ ...stages, depths: [1] }, "as many stages"],
    [{ ...stages, family: undefined }, "model.groupWidth"],
    [{ ...stages, family: undefined, groupWidth: 8, bottleneck: 2 }, "model.bottleneck"],
    [{ name: "resnet_5" }, 'did you mean "resnet_50"'],
    [{ name: "resnet_50", widths: [8] }, "model.widths"],
  ];
  for (const [model, text] of faults) assertThrows(() => parse(model), ConfigError, text);
});

Deno.test("the command line turns a preset's RegNet into a ResNet, and names replace stages", async () => {
  const resnet = await loadConfig({ preset: "test-tiny", overrides: [["model.family", "resnet"]] });
  assertEquals(modelSpec(resnet), {
    kind: "resnet",
    stemWidth: 8,
    widths: [16, 24],
    depths: [1, 1],
    groups: 1,
    bottleneck: 4,
  });
  const named = await loadConfig({ preset: "test-tiny", overrides: [["model.name", "resnet_50"]] });
  assertEquals(modelSpec(named), resnetTable.resnet_50);
});
