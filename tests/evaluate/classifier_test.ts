import { assert, assertEquals, assertRejects } from "@std/assert";
import sharp from "sharp";
import { randomStream } from "../../data/random.ts";
import type { ImageSource } from "../../data/source.ts";
import type { Device } from "../../device/device.ts";
import { classificationResult, scoreRanks } from "../../evaluate/classification.ts";
import { type ClassifierOptions, trainClassifier } from "../../evaluate/classifier.ts";
import { openImages } from "../../evaluate/features.ts";
import { type ClassifierRecipe, headName, rateFactor, RECIPES } from "../../evaluate/recipes.ts";
import { regnetY } from "../../nn/regnet.ts";
import { stateDict } from "../../nn/state_dict.ts";
import { freeTensors, readTensors } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";

/** Stripes, upright in class 0 and lying in class 1, of random colour and place. */
async function stripes(count: number): Promise<ImageSource> {
  const files: Uint8Array<ArrayBuffer>[] = [];
  for (let i = 0; i < count; i++) {
    const random = randomStream({ seed: 5, purpose: "stripes", indices: [i] });
    const pixels = new Uint8Array(32 * 32 * 3);
    const [phase, tone] = [random.integer(0, 8), random.integer(0, 100)];
    for (let y = 0; y < 32; y++) {
      for (let x = 0; x < 32; x++) {
        const on = ((i % 2 === 0 ? x : y) + phase) % 8 < 4;
        pixels.fill(on ? 250 - tone : tone, (y * 32 + x) * 3, (y * 32 + x) * 3 + 3);
      }
    }
    const png = await sharp(pixels, { raw: { width: 32, height: 32, channels: 3 } }).png().toBuffer();
    files.push(Uint8Array.from(png));
  }
  return { size: count, name: (i) => `${i}.png`, read: (i) => Promise.resolve(files[i]) };
}

const source = await stripes(72);

const recipe: ClassifierRecipe = {
  ...RECIPES["finetune"],
  epochs: 8,
  batch: 16,
  learningRate: { trunk: 4, head: 4 },
  schedule: { kind: "cosine" },
  crop: { size: 32, scale: [0.6, 1], jitterProbability: 0, grayProbability: 0, blurProbability: 0 },
  test: { size: 32, resize: 32 },
};

function tinyTrunk(device: Device) {
  return regnetY({ stemWidth: 8, widths: [8, 16], depths: [1, 1], groupWidth: 8 }, { device, seed: 3 });
}

function optionsFor(device: Device, changed: Partial<ClassifierOptions> = {}): ClassifierOptions {
  const marks = (id: number) => Int8Array.of(id % 2 === 0 ? 1 : 0, id % 2);
  const ids = Array.from({ length: 72 }, (_, id) => id);
  return {
    device,
    trunk: tinyTrunk(device),
    images: openImages(source),
    train: { ids: ids.slice(0, 48), marksOf: marks },
    test: { ids: ids.slice(48), marksOf: marks },
    classes: 2,
    recipe,
    ...changed,
  };
}

function freeTrunk({ trunk }: ClassifierOptions): void {
  freeTensors([...trunk.parameters(), ...trunk.buffers()].map(({ tensor }) => tensor));
}

function accuracy(scores: Float32Array, ids: readonly number[]): number {
  const labels = Uint32Array.from(ids, (id) => id % 2);
  return classificationResult(scoreRanks(scores, labels, 2), labels, { classes: 2 }).top1;
}

eachDevice(
  "fine-tuning learns what a frozen random trunk's pooled features hardly tell, and frees its memory",
  async (device) => {
    const before = device.memory.liveBytes;
    const losses: number[] = [];
    const options = optionsFor(device, { onEpoch: (epoch) => losses.push(epoch.losses[0]) });
    const { heads, ids } = await trainClassifier(options);
    assertEquals([heads.length, ids.length, losses.length], [1, 24, 8]);
    assert(losses[7] < 0.5 * losses[0], losses.join(" "));
    assert(accuracy(heads[0].scores, ids) > 0.9, `${accuracy(heads[0].scores, ids)}`);
    freeTrunk(options);
    assertEquals(device.memory.liveBytes, before);
  },
);

eachDevice("several heads on a frozen trunk learn at once, and the trunk stays as it is", async (device) => {
  const options = optionsFor(device, {
    recipe: {
      ...recipe,
      epochs: 2,
      learningRate: { trunk: 0, head: 1 },
      heads: [{ layer: "stage1", grid: [4, 4], batchNorm: true }, { layer: "pooled" }],
    },
  });
  const weights = await stateDict(options.trunk);
  const { heads } = await trainClassifier(options);
  assertEquals(heads.map(({ name }) => name), ["stage1 4x4 + BN", "pooled"]);
  assertEquals(await stateDict(options.trunk), weights);
  freeTrunk(options);
});

eachDevice("the same seed gives the same bits, another seed others", async (device) => {
  const run = async (seed: number) => {
    const options = optionsFor(device, { seed, recipe: { ...recipe, epochs: 1 } });
    const { heads } = await trainClassifier(options);
    const [weights] = await readTensors([options.trunk.parameters()[0].tensor]);
    freeTrunk(options);
    return { scores: heads[0].scores, weights: weights.slice() };
  };
  const [once, again, other] = [await run(1), await run(1), await run(2)];
  assertEquals(once, again);
  assert(once.scores.some((score, i) => score !== other.scores[i]));
});

eachDevice("images of several classes are learnt by binary cross-entropy", async (device) => {
  // Class 2 is shown by every image, class 3 is left out of every count.
  const marks = (id: number) => Int8Array.of(id % 2 === 0 ? 1 : 0, id % 2, 1, -1);
  const ids = Array.from({ length: 72 }, (_, id) => id);
  const options = optionsFor(device, {
    classes: 4,
    train: { ids: ids.slice(0, 48), marksOf: marks },
    test: { ids: ids.slice(48), marksOf: marks },
    recipe: { ...recipe, loss: "sigmoid", learningRate: { trunk: 4, head: 16 } },
  });
  const { heads: [{ scores }], ids: tested } = await trainClassifier(options);
  const right = tested.filter((id, row) => scores[4 * row + id % 2] > scores[4 * row + 1 - id % 2]);
  assert(right.length >= 20, `${right.length} of 24`);
  assert(tested.every((_, row) => scores[4 * row + 2] > 0));
  freeTrunk(options);
});

eachDevice("what cannot be trained is refused", async (device) => {
  const refused = async (changed: Partial<ClassifierOptions>, message: string) => {
    const options = optionsFor(device, changed);
    await assertRejects(() => trainClassifier(options), RangeError, message);
    freeTrunk(options);
  };
  await refused({ train: { ids: [], marksOf: () => Int8Array.of(1, 0) } }, "it needs training images, found none");
  const two = { ...recipe, heads: [{ layer: "pooled" }, { layer: "pooled" }] } as const;
  await refused({ recipe: two }, "a trunk that learns needs exactly one head, found 2");
  await refused({ recipe: { ...recipe, heads: [{ layer: "stage1" }] } }, "needs a head on the pooled features");
  const deep = { ...recipe, learningRate: { trunk: 0, head: 1 }, heads: [{ layer: "stage4" }] } as const;
  await refused({ recipe: deep }, "the trunk has 2 stages and no stage4");
  const wild = { ...recipe, epochs: 3, learningRate: { trunk: 1e38, head: 1e38 } };
  await refused({ recipe: wild }, "lower the learning rate");
});

Deno.test("recipes fall as published and heads are named", () => {
  const { schedule, epochs } = RECIPES["linear"];
  const at = (epoch: number) => rateFactor(schedule, { epoch, epochs });
  assertEquals([at(7.9), at(8), at(16), at(24)].map((x) => Number(x.toPrecision(3))), [1, 0.1, 0.01, 0.001]);
  assertEquals(rateFactor({ kind: "cosine" }, { epoch: 5, epochs: 10 }), 0.5 * (1 + Math.cos(Math.PI / 2)));
  assertEquals(RECIPES["linear"].heads.map(headName), ["stage3 3x1 + BN", "stage4 2x1 + BN", "pooled + BN"]);
});
