import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { createSampler, type Sampler } from "../../data/sampler.ts";

const shapes = fc.record({
  seed: fc.nat(),
  replicas: fc.integer({ min: 1, max: 6 }),
  samplesPerReplica: fc.integer({ min: 1, max: 9 }),
  spare: fc.integer({ min: 0, max: 200 }),
}).map(({ spare, ...rest }) => ({ ...rest, size: rest.replicas * rest.samplesPerReplica + spare }));

function wholeEpoch(sampler: Sampler, epoch: number, replicas: number): number[] {
  const ids: number[] = [];
  for (let step = 0; step < sampler.stepsPerEpoch; step++) {
    for (let replica = 0; replica < replicas; replica++) ids.push(...sampler.samples({ epoch, step, replica }));
  }
  return ids;
}

Deno.test("an epoch holds no sample twice and drops less than one step", () => {
  fc.assert(
    fc.property(shapes, (options) => {
      const sampler = createSampler(options);
      const ids = wholeEpoch(sampler, 0, options.replicas);
      assertEquals(new Set(ids).size, ids.length);
      assert(ids.every((id) => id >= 0 && id < options.size));
      assert(options.size - ids.length < sampler.samplesPerStep);
    }),
    { numRuns: 50 },
  );
});

Deno.test("any step asked for alone equals the same step of a whole run", () => {
  fc.assert(
    fc.property(shapes, fc.nat({ max: 500 }), (options, globalStep) => {
      const run = createSampler(options);
      const { epoch, step } = run.place(globalStep);
      assertEquals(epoch * run.stepsPerEpoch + step, globalStep);
      wholeEpoch(run, Math.max(0, epoch - 1), options.replicas);
      const resumed = createSampler(options);
      for (let replica = 0; replica < options.replicas; replica++) {
        assertEquals(resumed.samples({ epoch, step, replica }), run.samples({ epoch, step, replica }));
      }
    }),
    { numRuns: 30 },
  );
});

Deno.test("a step's samples do not depend on how they are dealt to replicas", () => {
  const step = (replicas: number, samplesPerReplica: number): number[] => {
    const sampler = createSampler({ seed: 4, size: 100, replicas, samplesPerReplica });
    return Array.from({ length: replicas }, (_, replica) => sampler.samples({ epoch: 2, step: 1, replica })).flat();
  };
  assertEquals(step(4, 6), step(2, 12));
  assertEquals(step(4, 6), step(1, 24));
});

Deno.test("epochs and seeds have different orders", () => {
  const ids = (seed: number, epoch: number): number[] =>
    wholeEpoch(createSampler({ seed, size: 64, replicas: 2, samplesPerReplica: 8 }), epoch, 2);
  assertNotEquals(ids(1, 0), ids(1, 1));
  assertNotEquals(ids(1, 0), ids(2, 0));
});

Deno.test("a source smaller than one step is refused with the remedy", () => {
  assertThrows(
    () => createSampler({ seed: 1, size: 31, replicas: 4, samplesPerReplica: 8 }),
    RangeError,
    "4 × 8 = 32 samples, the source has 31; use a smaller batch or more images",
  );
  assertThrows(() => createSampler({ seed: 1, size: 31, replicas: 0, samplesPerReplica: 8 }), RangeError, "replicas");
  const sampler = createSampler({ seed: 1, size: 32, replicas: 2, samplesPerReplica: 8 });
  assertThrows(() => sampler.samples({ epoch: 0, step: 2, replica: 0 }), RangeError, "step must be below 2");
});
