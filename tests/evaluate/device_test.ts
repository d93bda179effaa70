import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import sharp from "sharp";
import { type ImageSource } from "../../data/source.ts";
import { deviceLinearProbe } from "../../evaluate/device_probe.ts";
import { deviceNeighbours, deviceSimilarity } from "../../evaluate/device_similarity.ts";
import { evaluate } from "../../evaluate/evaluate.ts";
import { type Embed, extractFeatures, moduleEmbedding, openImages } from "../../evaluate/features.ts";
import { Sequence } from "../../nn/heads.ts";
import { buildTrunk } from "../../nn/trunks.ts";
import { knnAccuracy } from "../../evaluate/knn.ts";
import { linearProbe } from "../../evaluate/linear_probe.ts";
import { pixelEmbedding } from "../../evaluate/pixels.ts";
import { planProtocol } from "../../evaluate/protocol.ts";
import { formatReport } from "../../evaluate/report.ts";
import { cpuSimilarity } from "../../evaluate/similarity.ts";
import { regnetY } from "../../nn/regnet.ts";
import { freeTensors } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { assertClose } from "../kernels/run.ts";
import { clusters } from "./sets.ts";

const noNormalisation = { mean: [0, 0, 0], std: [1, 1, 1] } as const;

/** Images of one colour each, encoded as PNG; an empty colour is a broken file. */
async function colours(
  images: Readonly<Record<string, readonly number[]>>,
  width = 8,
  height = 8,
): Promise<ImageSource> {
  const names = Object.keys(images);
  const files = await Promise.all(names.map(async (name) => {
    const [r, g, b] = images[name];
    if (r === undefined) return new Uint8Array([1, 2, 3]);
    const picture = sharp({ create: { width, height, channels: 3, background: { r, g, b } } });
    return Uint8Array.from(await picture.png().toBuffer());
  }));
  return { size: names.length, name: (i) => names[i], read: (i) => Promise.resolve(files[i]) };
}

eachDevice("deviceSimilarity() equals the CPU's scores at odd sizes, over several blocks", async (device) => {
  for (const [queries, gallery, columns] of [[3, 5, 7], [1, 1, 1], [701, 1501, 13]]) {
    const a = clusters({ count: queries, classes: queries, columns, spread: 1, seed: 1 }).features;
    const b = clusters({ count: gallery, classes: gallery, columns, spread: 1, seed: 2 }).features;
    const expected = cpuSimilarity(a, b)[Symbol.iterator]();
    for await (const block of deviceSimilarity(device)(a, b)) {
      const { value } = expected.next();
      assertEquals([block.first, block.rows], [value?.first, value?.rows]);
      assertClose(block.scores, value?.scores ?? [], { bound: 1e-6, what: `${queries}x${gallery}x${columns}` });
    }
    assert(expected.next().done);
  }
});

eachDevice("k-NN gives the same accuracy on the device as on the CPU", async (device) => {
  const train = clusters({ count: 150, classes: 6, columns: 9, spread: 1.2, seed: 8 });
  const test = clusters({ count: 101, classes: 6, columns: 9, spread: 1.2, seed: 9 });
  const expected = await knnAccuracy(train, test);
  assert(expected > 0.3 && expected < 1, `accuracy ${expected}`);
  assertAlmostEquals(await knnAccuracy(train, test, { nearest: deviceNeighbours(device) }), expected, 1e-9);
});

eachDevice("the linear probe gives the same accuracy on the device as on the CPU", async (device) => {
  for (const columns of [7, 300]) {
    const spread = columns === 7 ? 1.5 : 12;
    const train = clusters({ count: 75, classes: 5, columns, spread, seed: 10 });
    const test = clusters({ count: 60, classes: 5, columns, spread, seed: 11 });
    const options = { epochs: 4, batch: 32 };
    const expected = linearProbe(train, test, options);
    assert(expected > 0.3 && expected < 1, `accuracy ${expected}`);
    const before = device.memory.liveBytes;
    assertAlmostEquals(await deviceLinearProbe(train, test, { device, ...options }), expected, 0.02);
    assertEquals(device.memory.liveBytes, before);
  }
});

eachDevice("extractFeatures() sees whole images in order and leaves unreadable ones out", async (device) => {
  const source = await colours({ red: [255, 0, 0], broken: [], green: [0, 51, 0], blue: [0, 0, 255] });
  const images = openImages(source);
  const before = device.memory.liveBytes;
  const { features, ids } = await extractFeatures({
    device,
    images,
    ids: [3, 1, 0, 2],
    embed: pixelEmbedding,
    size: 2,
    batch: 3,
    normalisation: noNormalisation,
  });
  assertEquals(device.memory.liveBytes, before);
  assertEquals(ids, [3, 0, 2]);
  assertEquals([...images.unreadable.keys()], [1]);
  const row = (r: number, g: number, b: number) => [0, 1, 2, 3].flatMap(() => [r, g, b]);
  assertClose(features.data, [...row(0, 0, 1), ...row(1, 0, 0), ...row(0, 0.2, 0)], { bound: 1e-6, what: "colours" });
});

eachDevice("the centre view shows the middle of a wide image", async (device) => {
  const left = { create: { width: 20, height: 24, channels: 3 as const, background: "black" } };
  const png = await sharp({ create: { width: 64, height: 24, channels: 3, background: "white" } })
    .composite([{ input: left, left: 0, top: 0 }, { input: left, left: 44, top: 0 }]).png().toBuffer();
  const source: ImageSource = { size: 1, name: () => "wide", read: () => Promise.resolve(Uint8Array.from(png)) };
  const extract = async (view: "whole" | "centre") => {
    const images = openImages(source);
    const options = { device, images, ids: [0], embed: pixelEmbedding, size: 7, view, normalisation: noNormalisation };
    return (await extractFeatures(options)).features.data;
  };
  const mean = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
  assert(mean(await extract("centre")) > 0.95);
  assertAlmostEquals(mean(await extract("whole")), 24 / 64, 0.05);
});

eachDevice("no readable image at all is an error", async (device) => {
  const images = openImages(await colours({ broken: [] }));
  const options = { device, images, ids: [0], embed: pixelEmbedding, size: 4 };
  await assertRejects(() => extractFeatures(options), Error, "at least one of 1 images must be readable");
});

eachDevice("evaluate() fills a report, in which a collapsed network scores nothing", async (device) => {
  const shades: Record<string, number[]> = {};
  for (const [set, shift] of [["train", 0], ["val", 9]]) {
    for (const [category, r, b] of [["red", 200, 20], ["blue", 20, 200]] as const) {
      for (let i = 0; i < 12; i++) {
        shades[`${set}/${category}/${category}${i}.png`] = [r, 10 * i + Number(shift) / 3, b + Number(shift)];
      }
    }
  }
  const source = await colours(shades);
  const trunk = regnetY({ stemWidth: 8, widths: [8, 16], depths: [1, 1], groupWidth: 8 }, { device, seed: 1 });
  const report = await evaluate({
    device,
    images: openImages(source),
    protocol: planProtocol(source),
    size: 16,
    candidates: [
      { name: "network", embed: moduleEmbedding(trunk) },
      {
        name: "collapsed",
        embed: (images, tape) => {
          const constant = tape.allocate([images.shape[0], 4]);
          device.write(constant.buffer, new Float32Array(constant.size).fill(0.3));
          return constant;
        },
      },
    ],
    knn: { neighbours: 3 },
    probe: { epochs: 5 },
  });
  freeTensors([...trunk.parameters(), ...trunk.buffers()].map(({ tensor }) => tensor));
  assertEquals(report.rows.map(({ name, width }) => [name, width]), [["network", 16], ["collapsed", 4], [
    "pixels",
    768,
  ]]);
  assertEquals([report.train.images, report.test.images, report.largestClass], [24, 24, 0.5]);
  const [network, collapsed, pixels] = report.rows;
  assertEquals([collapsed.knn, collapsed.retrieval?.top1, collapsed.retrieval?.top5], [0, 0, 0]);
  assertEquals([network.knn, pixels.knn, pixels.linear], [1, 1, 1]);
  assert((pixels.retrieval?.top1 ?? 0) > 0.5);
  assertEquals(JSON.parse(JSON.stringify(report)), report);
  const text = formatReport(report);
  for (const part of ["network", "collapsed", "pixels", "k-NN", "linear probe", "retrieval top-1", "MRR", "chance"]) {
    assertStringIncludes(text, part);
  }
});

eachDevice("batches are made small enough for the adapter's buffers, with the same features", async (device) => {
  const images = openImages(await colours({ red: [255, 0, 0], green: [0, 51, 0], blue: [0, 0, 255] }));
  const extract = async (embed: Embed) => {
    const done: number[] = [];
    const options = { device, images, ids: [0, 1, 2], embed, size: 4, progress: (count: number) => done.push(count) };
    return { features: (await extractFeatures(options)).features, done };
  };
  const { bindingBytesMax, bufferBytesMax } = device.adapter.limits;
  const numbersMax = Math.min(bindingBytesMax, bufferBytesMax) / 4;
  const plain = await extract(pixelEmbedding);
  const embed: Embed = Object.assign((...given: Parameters<Embed>) => pixelEmbedding(...given), {
    largestOutput: (size: number) => size / 4 * numbersMax / 2,
  });
  const small = await extract(embed);
  assertEquals([plain.done, small.done], [[3], [2, 3]]);
  assertEquals(small.features, plain.features);
});

eachDevice("a trunk tells the largest tensor that an image needs", async (device) => {
  const trunk = buildTrunk({ widths: [8], depths: [1], groupWidth: 8, stemWidth: 4 }, { device, seed: undefined });
  // The block's first convolution still has the stem's 4 × 4 pixels, and 8 channels.
  assertEquals(moduleEmbedding(trunk).largestOutput?.(8), 4 * 4 * 8);
  assertEquals(moduleEmbedding(new Sequence([trunk])).largestOutput, undefined);
  assertEquals(moduleEmbedding(new Sequence([trunk]), { trunk }).largestOutput?.(8), 4 * 4 * 8);
  freeTensors([...trunk.parameters(), ...trunk.buffers()].map(({ tensor }) => tensor));
  await Promise.resolve();
});
