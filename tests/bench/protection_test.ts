import { assert, assertAlmostEquals, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { costEntries, type Pair, takePairs } from "../../bench/protection_pairs.ts";
import { medianInterval } from "../../bench/statistics.ts";
import { findPreset, parseConfig } from "../../config.ts";

Deno.test(
  "steps with and without protection give the same losses and the same state, and only the former a fingerprint",
  {
    // The threads' sockets end a moment after them.
    sanitizeOps: false,
    sanitizeResources: false,
  },
  async () => {
    const config = parseConfig({
      ...findPreset("test-tiny"),
      replicas: 2,
      syncBatchNormGroup: 2,
      cluster: { trainers: 2, syncShards: 1, gpu: "deno" },
    }, { source: "the test" });
    // States are compared in there, and what was seen of the protection is counted.
    const pairs = await takePairs(config, { count: 2, provider: "deno", beating: ["trainer-0"] });
    assertEquals(pairs.length, 2);
    for (const { "with protection": guarded, "without": bare } of pairs) {
      assertEquals(guarded.loss, bare.loss);
      assertMatch(guarded.weights, /^[\da-f]{32}$/);
      assertEquals(bare.weights, "");
      for (const { ms, cpuMs, phases } of [guarded, bare]) {
        const parts = Object.values(phases);
        assert(cpuMs > 0 && parts.every((part) => part > 0));
        assert(parts.reduce((sum, part) => sum + part, 0) <= ms);
      }
    }
    assert(pairs[0]["with protection"].weights !== pairs[1]["with protection"].weights, "the weights move");
  },
);

Deno.test("the cost of protection is the median of paired differences, whatever a step takes meanwhile", () => {
  const phases = { "to codes": 1, "to the last gradient sent": 2, "to the report": 3, "to the moved weights": 4 };
  const step = (ms: number) => ({ ms, cpuMs: 2 * ms, phases, loss: 1, weights: "" });
  const pairs = [100, 300, 200, 1000, 150].map((ms): Pair => ({
    "with protection": step(ms + 4),
    "without": step(ms),
  }));
  const entries = costEntries("tiny", pairs);
  const medianOf = (name: string) => entries.find((entry) => entry.name === name)?.median ?? NaN;
  assertEquals(medianOf("tiny: time, paired difference"), 4);
  assertAlmostEquals(medianOf("tiny: time, share of the step"), 100 * 4 / 200);
  assertEquals(medianOf("tiny: processor time, paired difference"), 8);
  assertEquals(medianOf("tiny: to the report"), 3);
  const note = entries.find(({ name }) => name === "tiny: time, share of the step")?.note;
  assertEquals(note, "95% interval of the median 2.00 … 2.00 %");
});

Deno.test("the interval of a median holds it and narrows with more samples", () => {
  const samples = (count: number) => Array.from({ length: count }, (_, i) => Math.sin(7 * i) * 10);
  const few = medianInterval(samples(15)), many = medianInterval(samples(240));
  assert(few.low < 0.5 && few.high > -0.5);
  assert(many.low <= 0.2 && many.high >= -0.2);
  assert(many.high - many.low < (few.high - few.low) / 2);
  assertEquals(medianInterval(samples(15)), few);
  assertEquals(medianInterval([3, 3, 3]), { low: 3, high: 3 });
  assertThrows(() => medianInterval([]), RangeError, "at least one");
});
