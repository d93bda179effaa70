/** Runs that compute activations again in the backward pass: the same weights, less memory, and memory told by purpose. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { segmentsOf } from "../../actors/engine/build.ts";
import { mathsDigest } from "../../actors/run_identity.ts";
import { processRoles } from "../../actors/roles.ts";
import { parseConfig, type TrainConfigInput } from "../../config.ts";
import { formatSegments } from "../../nn/segments.ts";
import { withRuns } from "./runs.ts";
import { runOverSockets } from "./socket_run.ts";

const sanitize = { sanitizeOps: false, sanitizeResources: false };

Deno.test("a run that computes blocks again has the same weights, takes less memory, and grows no more after step 3", {
  ...sanitize,
}, async () => {
  await withRuns(async (place) => {
    const run = async (checkpointing: TrainConfigInput["checkpointing"]) => {
      const config = place.config({ checkpointing });
      const events = await runOverSockets({ config, roles: processRoles });
      const records = events.flatMap((event) => event.kind === "step" ? [event.record] : []);
      const ready = events.flatMap((event) => event.kind === "ready" ? [event.detail] : []).join("\n");
      const end = events.at(-1);
      if (end?.kind !== "ended") throw new Error(end?.kind === "failed" ? end.failure.error : "the run has no end");
      return { digest: end.digest, records, ready };
    };
    const plain = await run({ mode: "none" }), auto = await run({ mode: "auto" });
    assertEquals(auto.digest, plain.digest);
    assertStringIncludes(auto.ready, "of the trunk again");
    assert(!plain.ready.includes("again"));
    const peakOf = ({ records }: typeof plain) => Math.max(...records.map(({ deviceBytes }) => deviceBytes));
    assert(peakOf(auto) < peakOf(plain), `${peakOf(auto)} and ${peakOf(plain)}`);

    const memories = plain.records.flatMap(({ memory }) => memory === undefined ? [] : [memory]);
    assertEquals(memories.length, plain.records.length);
    for (const [step, { parameters, optimizer, transient, gradients = 0 }] of memories.entries()) {
      // The optimiser's state is made with the first update, after the step has been reported.
      assert(parameters > 0 && optimizer > 0 === step > 0 && transient > 0);
      assert(gradients > 0 && gradients < transient, `${gradients} bytes of gradients, ${transient} in all`);
      assert(optimizer <= parameters);
    }
    assertEquals(new Set(memories.slice(3).map(({ live }) => live)).size, 1, "live memory between steps");
    assertEquals(new Set(memories.slice(3).map(({ transient }) => transient)).size, 1, "the peak");
  });
});

Deno.test("segments follow the configuration: none, all that saves, what fits, what is listed", () => {
  const configOf = (checkpointing: TrainConfigInput["checkpointing"]) =>
    parseConfig({
      steps: 1,
      model: { stemWidth: 8, widths: [16, 32], depths: [2, 3], groupWidth: 8 },
      checkpointing,
    }, { source: "the test" });
  const segments = (checkpointing: TrainConfigInput["checkpointing"]) =>
    formatSegments(segmentsOf(configOf(checkpointing), { parameterCount: 1000, replicas: 2 }));
  assertEquals(segments({ mode: "none" }), "");
  assertEquals(segments({ mode: "listed", segments: ["0", "2-4"] }), "0,2-4");
  assertEquals(segments({ mode: "auto", memoryBudgetBytes: 1e12 }), "");
  assert(segments({ mode: "auto" }).startsWith("0"));
  assertEquals(segments({ mode: "auto", memoryBudgetBytes: 1 }), segments({ mode: "auto" }));
  // Nothing of it decides the weights, so that a run may go on with another choice.
  assertEquals(mathsDigest(configOf({ mode: "auto" })), mathsDigest(configOf({ mode: "none" })));
});
