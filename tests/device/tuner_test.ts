import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { choiceKey, KernelChoices } from "../../device/choices.ts";
import { openDevice } from "../../device/open.ts";
import { independentUses, RecordingDevice } from "../../device/tune_shapes.ts";
import { disagreement, momentTotals, sumTotals } from "../../device/tune_trial.ts";
import { type Arm, decide, timeArms, tune, type TunedChoice, variantsDigest } from "../../device/tuner.ts";
import { conv2dForwardOperation } from "../../kernels/operations.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import type { HeavyOperation, Variant } from "../../kernels/variant.ts";
import { eachDevice } from "../devices.ts";
import { adapter } from "./adapter.ts";

Deno.test("decide() takes the least median, and the default when it is as fast within the noise", () => {
  const times = (variant: string, ...timesMs: number[]) => ({ variant, timesMs });
  const slow = times("usual", 10, 10, 10, 10, 10);
  assertEquals(decide([slow, times("a", 8, 8, 8, 8, 99)], { usual: "usual" }), "a");
  assertEquals(decide([slow, times("a", 9.8, 9.8, 9.8, 9.8, 9.8)], { usual: "usual" }), "usual");
  // A spread of a fifth: one tenth less is no difference.
  assertEquals(decide([slow, times("a", 7, 8, 9, 11, 12)], { usual: "usual" }), "usual");
  assertEquals(decide([times("a", 9, 9, 9), times("b", 8, 8, 8)], { usual: "gone" }), "b");
  // Given up after one sample, however short that was.
  assertEquals(decide([slow, times("a", 1)], { usual: "usual" }), "usual");
  assertThrows(() => decide([], { usual: "usual" }), RangeError, "none was timed");
});

/** Arms on a clock of their own; each run of an arm takes its milliseconds. */
function fakeArms(costs: Readonly<Record<string, number>>) {
  let nowMs = 0;
  const order: string[] = [];
  const arms = Object.entries(costs).map(([variant, ms]): Arm => ({
    variant,
    run(times) {
      nowMs += 5 + ms * times;
      order.push(variant);
      return Promise.resolve();
    },
  }));
  return { arms, order, now: () => nowMs };
}

Deno.test("timeArms() interleaves at least five samples of each arm, without the wait, and gives hopeless ones up", async () => {
  const { arms, order, now } = fakeArms({ usual: 30, fast: 10, slow: 40, short: 26 });
  const times = await timeArms(arms, { now, usual: "usual", sampleMs: 20, latencyMs: 5 });
  assertEquals(times.map(({ variant, timesMs }) => [variant, timesMs.length]), [
    ["usual", 5],
    ["fast", 5],
    ["slow", 1],
    ["short", 1],
  ]);
  for (const { variant, timesMs } of times) {
    const expected = { usual: 30, fast: 10, slow: 40, short: 26 }[variant];
    for (const ms of timesMs) assertEquals(ms, expected);
  }
  assertEquals(order.slice(-4), ["usual", "fast", "usual", "fast"]);
});

Deno.test("timeArms() times what is much shorter than the wait in samples of many runs", async () => {
  const { arms, now } = fakeArms({ usual: 0.1, fast: 0.05 });
  const times = await timeArms(arms, { now, usual: "usual", sampleMs: 20, latencyMs: 5 });
  assertEquals(decide(times, { usual: "usual" }), "fast");
  assert(times.every(({ timesMs }) => timesMs.every((ms) => ms < 0.11)), JSON.stringify(times));
});

Deno.test("an arm that fails is named", async () => {
  const arms: Arm[] = [{ variant: "broken", run: () => Promise.reject(new Error("lost")) }];
  const error = await assertRejects(
    () => timeArms(arms, { now: () => 0, usual: "", sampleMs: 1, latencyMs: 0 }),
    Error,
    "lost",
  );
  assert("variant" in error && error.variant === "broken");
});

Deno.test("disagreement() bounds differences by the root mean square, and finds what is no number", () => {
  const reference = new Map([["output", Float32Array.of(1, -1, 1, -1)]]);
  const of = "usual";
  const test = (values: number[], storage: "f32" | "f16" = "f32") =>
    disagreement(reference, new Map([["output", Float32Array.from(values)]]), { storage, of });
  assertEquals(test([1, -1, 1.0005, -1]), undefined);
  assertStringIncludes(test([1, -1, 1.01, -1]) ?? "", 'differs from "usual" in "output" by 0.010');
  assertEquals(test([1, -1, 1.01, -1], "f16"), undefined);
  assertStringIncludes(test([1, NaN, 1, -1]) ?? "", "gives NaN");
  assertStringIncludes(test([1]) ?? "", 'no "output"');
});

Deno.test("partial sums are compared by their totals, however they are cut into chunks", () => {
  const rows = [3, 5, 8, 1, 2, 9];
  const chunk = (part: number[]) => {
    const sum = part.reduce((a, b) => a + b, 0), mean = sum / part.length;
    return [sum, part.reduce((a, b) => a + (b - mean) ** 2, 0), part.length];
  };
  const whole = momentTotals(Float32Array.from(chunk(rows)), 1);
  const cut = momentTotals(Float32Array.from([...chunk(rows.slice(0, 2)), ...chunk(rows.slice(2))]), 1);
  assertEquals(disagreement(new Map(whole), new Map(cut), { storage: "f32", of: "whole" }), undefined);
  const wrong = momentTotals(Float32Array.from([...chunk(rows.slice(0, 2)), ...chunk(rows.slice(3))]), 1);
  assertStringIncludes(disagreement(new Map(whole), new Map(wrong), { storage: "f32", of: "whole" }) ?? "", "differs");
  const [[, gradients], [, deviations]] = sumTotals(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), 2);
  assertEquals([[...gradients], [...deviations]], [[6, 8], [10, 12]]);
});

interface DoubleShape {
  readonly length: number;
}

function doubling(factor: string, passes = 1): Kernel {
  return {
    label: `times ${factor}`,
    wgsl: `@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= arrayLength(&output)) { return; }
  var value = 0.0;
  for (var i = 0u; i < ${passes}u + min(arrayLength(&input), 0u); i++) { value = input[id.x] * ${factor}; }
  output[id.x] = value;
}`,
    bindings: ["read", "write"],
    workgroups: [64, 1, 1],
  };
}

/** An operation whose variants go wrong in every way there is. */
function doublingOperation(broken: boolean): HeavyOperation<DoubleShape, "input" | "output"> {
  const variant = (name: string, kernel: Kernel, refusal?: string): Variant<DoubleShape, "input" | "output"> => ({
    name,
    family: "registers",
    refuses: () => refusal,
    program: () => ({ launches: [{ kernel, buffers: ["input", "output"] }], workspaceBytes: 0 }),
  });
  const usual = variant("usual", doubling("2.0", 3000));
  const variants = [
    usual,
    variant("quick", doubling("2.0")),
    variant("wrong", doubling("2.1")),
    variant("matrix", doubling("2.0"), "the device has no matrix units"),
    ...(broken ? [variant("broken", doubling("no_such_name"))] : []),
  ];
  return {
    name: "double",
    describe: ({ length }) => String(length),
    variants: () => variants,
    usual: () => usual,
    flops: ({ length }) => length,
    bufferBytes: ({ length }) => ({ input: 4 * length, output: 4 * length }),
  };
}

eachDevice(
  "tune() picks the quick variant, and leaves out those that refuse, err or do not compile",
  async (device) => {
    const operation = doublingOperation(true), shape = { length: 4000 };
    const key = choiceKey(operation, shape);
    const told: TunedChoice[] = [];
    let opened = 0;
    const [choice] = await tune([{ key, operation, shape }], {
      open() {
        opened++;
        return openDevice({ provider: device.adapter.provider });
      },
      now: () => performance.now(),
      onChoice: (made) => told.push(made),
    });
    assertEquals(told, [choice]);
    assertEquals([choice.key, choice.variant, choice.usual, choice.flops], ["double: 4000", "quick", "usual", 4000]);
    const reasons = Object.fromEntries(choice.skipped.map(({ variant, reason }) => [variant, reason]));
    assertEquals(Object.keys(reasons).sort(), ["broken", "matrix", "wrong"]);
    assertEquals(reasons.matrix, "the device has no matrix units");
    assertStringIncludes(reasons.wrong, 'differs from "usual" in "output"');
    assertStringIncludes(reasons.broken, "Cannot compile");
    assertEquals(opened, 2, "the device that a variant broke is opened anew");
  },
);

/** Moments of the columns of [rows, 4] in chunks of rows; a wrong one forgets the last row. */
function momentsVariant(
  name: string,
  { rows, chunks, forgets = 0 }: { rows: number; chunks: number; forgets?: number },
) {
  const each = Math.ceil(rows / chunks);
  const kernel: Kernel = {
    label: name,
    wgsl: `@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> moments: array<f32>;
@compute @workgroup_size(4) fn main(@builtin(local_invocation_id) lane: vec3u, @builtin(workgroup_id) chunk: vec3u) {
  let first = chunk.x * ${each}u;
  let end = min(first + ${each}u, ${rows - forgets}u);
  var sum = 0.0;
  for (var row = first; row < end; row++) { sum += input[row * 4u + lane.x]; }
  let mean = sum / f32(end - first);
  var squares = 0.0;
  for (var row = first; row < end; row++) { squares += pow(abs(input[row * 4u + lane.x] - mean), 2.0); }
  let at = chunk.x * 12u + lane.x;
  moments[at] = sum;
  moments[at + 4u] = squares;
  moments[at + 8u] = f32(end - first);
}`,
    bindings: ["read", "write"],
    workgroups: [chunks, 1, 1],
  };
  const variant: Variant<{ outChannels: 4 }, "input" | "moments"> = {
    name,
    family: "registers",
    refuses: () => undefined,
    program: () => ({
      launches: [{ kernel, buffers: ["input", "moments"] }],
      workspaceBytes: 0,
      partialBytes: chunks * 48,
    }),
  };
  return variant;
}

eachDevice(
  "variants that cut partial sums into different chunks agree, and one that forgets a row does not",
  async (device) => {
    const rows = 100;
    const variants = [
      momentsVariant("one chunk", { rows, chunks: 1 }),
      momentsVariant("seven chunks", { rows, chunks: 7 }),
      momentsVariant("forgetful", { rows, chunks: 7, forgets: 1 }),
    ];
    const operation: HeavyOperation<{ outChannels: 4 }, "input" | "moments"> = {
      name: "moments",
      describe: () => "",
      variants: () => variants,
      usual: () => variants[0],
      flops: () => 1,
      bufferBytes: () => ({ input: 16 * rows }),
    };
    const [{ skipped, complete }] = await tune([{ key: "moments", operation, shape: { outChannels: 4 } }], {
      open: () => openDevice({ provider: device.adapter.provider }),
      now: () => performance.now(),
    });
    assertEquals([skipped.map(({ variant }) => variant), complete], [["forgetful"], true]);
    assertStringIncludes(skipped[0].reason, 'differs from "one chunk"');
  },
);

Deno.test("the digest of variants changes with their texts and their number", () => {
  const shape = { length: 8 }, { capabilities } = new KernelChoices({ ...adapter(), ...adapter().limits });
  const digest = (broken: boolean, length = 8) =>
    variantsDigest({ key: "", operation: doublingOperation(broken), shape: { ...shape, length } }, capabilities);
  assertEquals(digest(false), digest(false, 9));
  assert(digest(false) !== digest(true));
});

const convolution = {
  batch: 1,
  height: 4,
  width: 4,
  inChannels: 8,
  outChannels: 8,
  kernelHeight: 1,
  kernelWidth: 1,
  stride: 1,
  padding: 0,
  groups: 1,
};

Deno.test("a forward pass without moments takes the variant recorded with moments, so that recomputation gives the same bits", () => {
  const operation = conv2dForwardOperation;
  const choices = new KernelChoices({ ...adapter(), ...adapter().limits });
  choices.set(choiceKey(operation, { ...convolution, moments: true }), "first");
  choices.set(choiceKey(operation, convolution), "second");
  assertEquals(choices.recorded(operation, convolution), "first");
  assertEquals(choices.recorded(operation, { ...convolution, storage: "f16" }), undefined);
  const uses = [{ ...convolution, moments: true }, convolution].map((shape) => ({
    key: choiceKey(operation, shape),
    operation,
    shape,
  }));
  assertEquals(independentUses(uses), [uses[0]]);
  assertEquals(independentUses([uses[1]]), [uses[1]]);
});

Deno.test("a recording device writes down what is asked of its choices, and recorded variants that cannot run", () => {
  const operation = conv2dForwardOperation, other = { ...convolution, inChannels: 16 };
  const key = choiceKey(operation, convolution);
  const device = new RecordingDevice(adapter(), { [key]: "gone" });
  for (const shape of [convolution, other, convolution]) device.choices.program(operation, shape);
  assertEquals(device.uses.map((use) => use.key), [key, choiceKey(operation, other)]);
  assertEquals(device.unfit, [{ key, variant: "gone", reason: "this version has no such variant" }]);
});
