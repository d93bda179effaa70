import { assertEquals, assertRejects } from "@std/assert";
import { resolveRecipe } from "../../api/recipe.ts";
import { ConfigError } from "../../config.ts";

Deno.test("a recipe changes the keys it names and keeps the rest of its preset", async () => {
  const config = await resolveRecipe({
    preset: "quickstart",
    data: { folder: "/images" },
    crops: [{ size: 32, count: 3, scale: [0.2, 1] }],
    assignCrops: [0, 2],
    cluster: { adapters: [{ provider: "dawn", environment: { CUDA_VISIBLE_DEVICES: "1" } }] },
  });
  assertEquals(config.data, { folder: "/images", sideMax: 64, cacheBytes: 512 * 2 ** 20 });
  assertEquals(config.crops.length, 1);
  assertEquals(config.cluster.trainers, 2);
  assertEquals(config.cluster.adapters[0].environment, { CUDA_VISIBLE_DEVICES: "1" });
});

Deno.test("a recipe that names a model withdraws its preset's stages, and epochs its steps", async () => {
  const config = await resolveRecipe({ preset: "quickstart", model: { name: "regnety_400mf" }, epochs: 2 });
  assertEquals([config.model.name, config.model.widths], ["regnety_400mf", undefined]);
  assertEquals([config.epochs, config.steps], [2, undefined]);
});

Deno.test("an unknown key or preset in a recipe names the nearest right one", async () => {
  const misspelt = JSON.parse('{ "optimizer": { "momentun": 0.9 }, "steps": 3 }');
  await assertRejects(() => resolveRecipe(misspelt), ConfigError, 'did you mean "optimizer.momentum"?');
  await assertRejects(() => resolveRecipe({ preset: "quikstart" }), ConfigError, 'did you mean "quickstart"?');
  await assertRejects(() => resolveRecipe({ preset: "quickstart", steps: -1 }), ConfigError, "steps must be");
});
