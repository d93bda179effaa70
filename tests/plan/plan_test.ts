import { assert, assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ConfigError, loadConfig, parseConfig } from "../../config.ts";
import { formatBytes, formatPlan, planRun } from "../../plan.ts";

const seer256 = await loadConfig({ preset: "seer-256gf" });
const seer128 = await loadConfig({ preset: "seer-128gf" });
const tiny = await loadConfig({ preset: "test-tiny" });

/** Relative difference. */
function off(found: number, expected: number): number {
  return Math.abs(found / expected - 1);
}

Deno.test("the 256GF plan has the parameters of the network that SEER trained, to the unit", () => {
  const { parameters, batchNorm } = planRun(seer256).network;
  assertEquals(parameters.trunk, 1_272_156_138);
  // 10444 → 8192 → 8192 → 256 with biases, and 16,000 prototypes without.
  assertEquals(parameters.head, 10444 * 8192 + 8192 + 8192 * 8192 + 8192 + 8192 * 256 + 256);
  assertEquals(parameters.prototypes, 256 * 16000);
  assert(off(parameters.head + parameters.prototypes, 158.88e6) < 1e-4);
  assertEquals([batchNorm.layers, batchNorm.channels], [86, 293_210]);
});

Deno.test("the stages' parameters and multiply-adds add up to the trunk's", () => {
  for (const config of [seer256, seer128, tiny]) {
    const { network } = planRun(config, { trainers: 1 });
    const { stages, parameters, macsPerImage } = network;
    assertEquals(stages.reduce((sum, stage) => sum + stage.parameters, 0), parameters.trunk);
    const macs = config.crops.map((crop, i) => crop.count * stages.reduce((sum, stage) => sum + stage.at[i].macs, 0));
    assertEquals(macs.reduce((a, b) => a + b, 0), macsPerImage.trunk);
  }
});

Deno.test("arithmetic of the SEER plans is within 0.5% of counts made elsewhere", () => {
  // GMAC per image and TFLOP per 16 images of one trainer, without and with recomputation.
  const cases = [[seer256, 697, 66.9, 89.2], [seer128, 350, 33.6, 44.8]] as const;
  for (const [config, gmac, kept, checkpointed] of cases) {
    const { network, compute } = planRun(config);
    const { trunk, head } = network.macsPerImage;
    assert(off(trunk + head, gmac * 1e9) < 5e-3, `${trunk + head} MAC per image`);
    const scale = 16 / config.batchPerReplica;
    assert(off(compute.trainerFlops * scale, kept * 1e12) < 5e-3);
    assert(off(compute.checkpointedTrainerFlops * scale, checkpointed * 1e12) < 5e-3);
    assertEquals(compute.flops, compute.trainerFlops * config.replicas);
  }
});

Deno.test("memory of the SEER plans agrees with counts made elsewhere", () => {
  for (
    const [config, gradientGB, stateGB, outputsGB] of [[seer256, 5.72, 20.0, 8.8], [seer128, 3.09, 10.8, 6.2]] as const
  ) {
    const { network, memory } = planRun(config);
    assert(off(memory.weightsBytes, gradientGB * 1e9) < 5e-3);
    assertEquals(memory.optimizerBytes, memory.weightsBytes);
    // f32 weights, momentum and gradient, and an f16 copy.
    assert(off(network.parameters.total * 14, stateGB * 1e9) < 5e-3);
    // Outputs of convolutions in f16, 16 images.
    assert(off(network.convolutionOutputs * 16 * 2, outputsGB * 1e9) < 0.02);
    // Each once, and the blocks' outputs: normalised numbers never lie in memory.
    const ratio = memory.activationBytes / (network.convolutionOutputs * config.batchPerReplica * 4);
    assert(ratio > 1.1 && ratio < 1.6, `${ratio}`);
    assert(memory.checkpointedActivationBytes < 0.5 * memory.activationBytes);
  }
});

Deno.test("SyncBN traffic of the 256GF plan is that of 86 layers over two resolutions", () => {
  const links = planRun(seer256).links.filter(({ what }) => what.startsWith("batch-norm"));
  // Ours exchanges thrice per layer, twice forward and once back, where others exchange twice.
  assertEquals(links.map(({ messages }) => messages * 2 / 3), [344, 344]);
  // 2 f32 per channel in each of 2 directions and 2 resolutions, and a count per exchange of means.
  assert(off(links[0].bytes, 9.4e6) < 5e-3, `${links[0].bytes} bytes`);
});

Deno.test("a trainer that carries whole nodes of the tree sends one gradient, another one more", () => {
  const gradient = (trainers: number) => {
    const { links, network } = planRun(parseConfig({ steps: 2, replicas: 6 }, { source: "the test" }), { trainers });
    return links.filter(({ what }) => what.startsWith("gradient"))[0].bytes / (4 * network.parameters.total);
  };
  // [0, 6) = [0, 4) + [4, 6): of two trainers the first has [0, 2) and 2; of three each has one node.
  assertEquals([gradient(1), gradient(2), gradient(3), gradient(6)], [1, 2, 1, 1]);
});

Deno.test("traffic counts shards, replicas, queue rows and codes", () => {
  const config = parseConfig({
    steps: 9,
    queue: { length: 40 },
    replicas: 4,
    batchPerReplica: 16,
    prototypes: { count: 10 },
    data: { sideMax: 10 },
    cluster: { trainers: 2, syncShards: 2 },
  }, { source: "the test" });
  const { links, network } = planRun(config);
  const bytes = Object.fromEntries(links.map(({ what, bytes }) => [what, bytes]));
  assertEquals(bytes["decoded images, at most 10 px"], 2 * 16 * 300);
  assertEquals(bytes["scores"], 2 * 2 * (16 + 10) * 10 * 4);
  assertEquals(bytes["codes"], 2 * 2 * 16 * 10 * 4);
  assertEquals(bytes["gradient"], 4 * network.parameters.total / 2);
  assert(!links.some(({ what }) => what.startsWith("batch-norm")), "replicas that normalise alone exchange nothing");
});

Deno.test("memory grows with the replicas that a trainer carries, and AdamW keeps twice what LARC keeps", () => {
  const one = planRun(tiny, { trainers: 4 }).memory, four = planRun(tiny, { trainers: 1 }).memory;
  // All replicas' activations are kept, the gradients of one at a time.
  const ratio = four.activationBytes / one.activationBytes;
  assert(ratio > 3 && ratio <= 4, `${ratio}`);
  assertEquals([one.gradientBytes / one.weightsBytes, four.gradientBytes / four.weightsBytes], [2, 5]);
  const adamw = parseConfig({ ...structuredClone(tiny), optimizer: { name: "adamw" } }, { source: "the test" });
  assertEquals(planRun(adamw).memory.optimizerBytes, 2 * one.optimizerBytes);
});

Deno.test("the learning-rate curve of seer-256gf passes through its published points", () => {
  const { steps, points } = planRun(seer256).schedule;
  assertEquals(steps, 122_070);
  const at = new Map(points.map(({ step, learningRate }) => [step, learningRate]));
  assertAlmostEquals(at.get(0) ?? NaN, 0.15, 1e-9);
  assertAlmostEquals(at.get(7999) ?? NaN, 9.6, 2e-3);
  assertAlmostEquals(at.get(8000) ?? NaN, 9.5, 2e-3);
  assertAlmostEquals(at.get(122_069) ?? NaN, 0.0096, 1e-6);
});

Deno.test("a run given in epochs has a curve once the number of images is known", () => {
  const config = parseConfig({ epochs: 2 }, { source: "the test" });
  assertEquals(planRun(config).schedule.steps, undefined);
  assertEquals(planRun(config, { imageCount: 640 }).schedule.steps, 20);
  assertStringIncludes(formatPlan(planRun(config)), "given in epochs");
});

Deno.test("more trainers than replicas are refused", () => {
  assertThrows(() => planRun(tiny, { trainers: 5 }), ConfigError, "from 1 to replicas (4), found 5");
  assertThrows(() => planRun(tiny, { trainers: 0 }), ConfigError, "found 0");
});

Deno.test("the text of a plan shows every part", () => {
  const text = formatPlan(planRun(seer256, { trainers: 512 }));
  const parts = [
    "1,272,156,138",
    "697.1 GMAC",
    "66.9 TFLOP",
    "512 replicas on 512 trainers",
    "blocks computed again",
    "each of 64 sync shards",
    "batch-norm sums, groups of 64",
    "scores",
    "step 8,000",
  ];
  for (const part of parts) assertStringIncludes(text, part);
  assert(!/NaN|undefined|Infinity/.test(text));
});

Deno.test("bytes are shown in powers of 1000", () => {
  assertEquals([0, 999, 1000, 1.5e6, 123.4e9].map(formatBytes), ["0 B", "999 B", "1.00 kB", "1.50 MB", "123.4 GB"]);
});
