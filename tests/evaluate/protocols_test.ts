import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import sharp from "sharp";
import type { ImageSource } from "../../data/source.ts";
import type { Device } from "../../device/device.ts";
import { moduleEmbedding, openImages } from "../../evaluate/features.ts";
import { planProtocol, type Protocol } from "../../evaluate/protocol.ts";
import { formatProtocol } from "../../evaluate/protocol_text.ts";
import { type ProtocolSettings, recipeWith, runProtocol } from "../../evaluate/protocols.ts";
import { RECIPES } from "../../evaluate/recipes.ts";
import { regnetY } from "../../nn/regnet.ts";
import { freeTensors } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";

/** Red, green and blue images of several tones, in two parts. */
async function colours(): Promise<ImageSource> {
  const files: { name: string; bytes: Uint8Array<ArrayBuffer> }[] = [];
  for (const part of ["train", "val"]) {
    for (const [c, name] of ["red", "green", "blue"].entries()) {
      for (let i = 0; i < 8; i++) {
        const tone = 120 + 15 * i + (part === "val" ? 5 : 0);
        const [r, g, b] = [0, 1, 2].map((channel) => channel === c ? tone : 10);
        const png = await sharp({ create: { width: 16, height: 16, channels: 3, background: { r, g, b } } }).png()
          .toBuffer();
        files.push({ name: `${part}/${name}/${part}${i}.png`, bytes: Uint8Array.from(png) });
      }
    }
  }
  return { size: files.length, name: (i) => files[i].name, read: (i) => Promise.resolve(files[i].bytes) };
}

const source = await colours();

async function run(
  device: Device,
  name: string,
  { settings, protocol = planProtocol(source) }: { settings?: ProtocolSettings; protocol?: Protocol } = {},
) {
  const spec = { stemWidth: 8, widths: [8, 16], depths: [1, 1], groupWidth: 8 };
  const trunk = regnetY(spec, { device, seed: 3 });
  try {
    const run = { device, trunk, embed: moduleEmbedding(trunk), images: openImages(source), protocol };
    return await runProtocol(name, { ...run, settings: { size: 16, ...settings } });
  } finally {
    freeTensors([...trunk.parameters(), ...trunk.buffers()].map(({ tensor }) => tensor));
  }
}

eachDevice("protocols on features tell colours apart, each in its own figures", async (device) => {
  const knn = await run(device, "knn", { settings: { neighbours: [3], temperatures: [0.07, 1] } });
  assertEquals(knn.rows.map(({ name }) => name), ["k 3, T 0.07", "k 3, T 1"]);
  assertEquals([knn.rows[0].figures["top-1"], knn.train.images, knn.test.images], [1, 24, 24]);
  assertEquals(knn.rows[0].perClass, [1, 1, 1]);
  const { rows: [retrieved] } = await run(device, "retrieval");
  assertEquals([retrieved.figures["recall@1"], retrieved.figures.mAP > 0.9], [1, true]);
  const { rows: [svm] } = await run(device, "svm", { settings: { costs: [10, 100] } });
  assertEquals(svm.figures["mAP (area)"], 1);
  const { rows } = await run(device, "low-shot-svm", { settings: { shots: [1, 4], draws: 2, costs: [100] } });
  assertEquals(rows.map(({ name }) => name), ["1 per class", "4 per class"]);
});

eachDevice(
  "protocols that train use the published recipe with what is overridden, and only layers that exist",
  async (device) => {
    const settings = { epochs: 2, batch: 12, headRate: 2 };
    const result = await run(device, "linear", { settings });
    assertEquals(result.rows.map(({ name }) => name), ["pooled + BN"]);
    assertEquals([result.settings.epochs, result.settings.weightDecay], [2, 5e-4]);
    const text = formatProtocol(result);
    assertStringIncludes(text, "3 classes; learnt on train (24 images), tested on val (24)");
    assertStringIncludes(text, "95% interval");
  },
);

eachDevice("images of several classes are for multi-label protocols alone", async (device) => {
  const single = planProtocol(source);
  const protocol: Protocol = {
    ...single,
    labelling: "multi",
    marksOf: (id) => Int8Array.from(single.classes, (_, c) => c === single.labelOf(id) || c === 2 ? 1 : 0),
  };
  const { rows: [row] } = await run(device, "multi-label", {
    protocol,
    settings: { epochs: 2, batch: 12, headRate: 4 },
  });
  assertEquals(row.perClass?.length, 3);
  assert(row.figures.mAP > 0.5);
  await assertRejects(() => run(device, "knn", { protocol }), RangeError, "use svm or low-shot-svm or multi-label");
});

eachDevice("an unknown protocol is refused with the known ones", async (device) => {
  await assertRejects(() => run(device, "guess"), RangeError, "known protocols are knn, retrieval");
});

Deno.test("a shorter training falls at the same share of its epochs, and a size moves crops and test", () => {
  const recipe = recipeWith("linear", { epochs: 7, size: 64, trunkRate: 0.5 });
  assertEquals(recipe.schedule, { kind: "steps", epochs: [2, 4, 6], factor: 0.1 });
  assertEquals([recipe.crop.size, recipe.test], [64, { size: 64, resize: 73 }]);
  assertEquals(recipe.learningRate, { trunk: 0.5, head: 0.01 });
  assertEquals(recipeWith("finetune", {}), { ...RECIPES["finetune"] });
});
