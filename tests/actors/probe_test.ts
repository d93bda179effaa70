import { assert, assertEquals, assertMatch } from "@std/assert";
import { controllerBehavior } from "../../actors/controller.ts";
import type { ProbeRecord, RunEvent } from "../../actors/events.ts";
import { readMetrics, readProbes, RunFiles } from "../../actors/run_files.ts";
import type { Effect } from "../../actors/runtime/behavior.ts";
import { findPreset, parseConfig, type TrainConfigInput } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";
import { digestOf, run, type RunResult, withRuns, writeImages } from "./runs.ts";

const probesOf = (events: readonly RunEvent[]): ProbeRecord[] =>
  events.flatMap((event) => event.kind === "probe" ? [event.record] : []);
const lossesOf = ({ events }: RunResult) => events.flatMap((event) => event.kind === "evaluator-lost" ? [event] : []);

async function labelledFolder(images: string): Promise<string> {
  const folder = `${images}-labelled`;
  for (const name of ["a", "b"]) {
    await Deno.mkdir(`${folder}/${name}`, { recursive: true });
    await writeImages(`${folder}/${name}`, 8);
  }
  return folder;
}

Deno.test("snapshots are judged at their steps and the weights are those of a run without, also when the evaluator is killed", async () => {
  await withRuns(async ({ config, images }) => {
    const data = await labelledFolder(images);
    const steps = 5, checkpoint = { everySteps: 0, keep: 1 };
    const plain = digestOf(await run({ config: config({ steps, checkpoint }), singleProcess: true }));
    const probe = { protocols: ["knn", "linear"] as const, everySteps: 2, data };
    const here = await run({ config: config({ steps, checkpoint, probe }), singleProcess: true });
    assertEquals(digestOf(here), plain);
    assertEquals(lossesOf(here), []);
    const found = probesOf(here.events);
    const last = found.filter(({ step }) => step === 5);
    assertEquals(last.map(({ probe }) => probe), ["knn", "linear"]);
    assert(found.every(({ step, top1 }) => [2, 4, 5].includes(step) && top1 >= 0 && top1 <= 1));
    const skipped = here.events.flatMap((event) => event.kind === "probe-skipped" ? [event.step] : []);
    assertEquals([...new Set([...found.map(({ step }) => step), ...skipped])].sort(), [2, 4, 5], "each judged or told");

    let killed = 0;
    const apart = await run({
      config: config({ steps, checkpoint, probe }),
      onEvent(event) {
        if (event.kind !== "started" || event.actor !== "evaluator" || killed++ > 0) return;
        Deno.kill(event.pid, "SIGKILL");
      },
    });
    assertEquals(digestOf(apart), plain);
    assertEquals(lossesOf(apart).map(({ startsAnew }) => startsAnew), [true]);
    assertEquals(apart.events.filter(({ kind }) => kind === "restarting"), []);
    const top1Of = (probes: readonly ProbeRecord[]) =>
      probes.filter(({ step }) => step === 5).map(({ probe, top1 }) => [probe, top1]);
    assertEquals(top1Of(probesOf(apart.events)), top1Of(found), "the same bits in a process of its own");
  });
});

Deno.test("an evaluator that cannot work is given up after three tries, and the run ends with its weights", async () => {
  await withRuns(async ({ config, images }) => {
    const probe = { protocols: ["knn"] as const, everySteps: 1, data: images };
    const result = await run({ config: config({ steps: 3, probe }), singleProcess: true });
    assertEquals(result.outcome.outcome, "finished");
    assertEquals(lossesOf(result).map(({ startsAnew }) => startsAnew), [true, true, false]);
    assertMatch(lossesOf(result)[0].error, /one sub-folder per category/);
  });
});

/** A controller driven by hand up to its first step. */
function training(changes: TrainConfigInput = {}) {
  const config = parseConfig({
    ...findPreset("test-tiny"),
    steps: 9,
    checkpoint: { everySteps: 0 },
    probe: { protocols: ["knn"], everySteps: 2, data: "/labelled" },
    data: { folder: "/images" },
    run: { folder: "/runs", name: "run" },
    ...changes,
  }, { source: "the test" });
  const events: RunEvent[] = [];
  const behavior = controllerBehavior({ config, hosts: 1 }, { emit: (event) => events.push(event), now: () => 0 });
  let [state, effects] = behavior.init();
  let done: Effect[] = [];
  const say = (from: string, message: Message): void => {
    [state, effects] = behavior.handle(state, message, from);
    done.push(...effects);
  };
  const sent = <T extends Message["type"]>(type: T): Extract<Message, { type: T }>[] => {
    const found = done.flatMap((effect) => effect.kind === "send" ? [effect.message] : []);
    done = [];
    return found.filter((message): message is Extract<Message, { type: T }> => message.type === type);
  };
  const ids = ["checkpointer", "loader-0", "sinkhorn", "sync-0", "trainer-0"];
  say("host-0", { type: "host-ready", adapters: [] });
  assertEquals(sent("spawn").map(({ id }) => id), [...ids, "evaluator"]);
  for (const id of ids) say(id, { type: "hello", id, role: "any", url: null, pid: 1 });
  say("loader-0", { type: "source", images: 25, stepsPerEpoch: 2 });
  for (const id of ids) say(id, { type: "ready", detail: "" });
  return {
    say,
    sent,
    events,
    evaluatorStatus() {
      say("self", { type: "alarm", name: "watch" });
      const last = events.findLast((event) => event.kind === "status");
      return last?.kind === "status" ? last.status.actors.find(({ id }) => id === "evaluator") : undefined;
    },
    kinds: () => events.map(({ kind }) => kind),
    evaluatorReady(): void {
      say("evaluator", { type: "hello", id: "evaluator", role: "evaluator", url: null, pid: 2 });
      say("evaluator", { type: "ready", detail: "" });
    },
    step(step: number): void {
      const replicas = [0, 1, 2, 3].map((replica) => ({ replica, loss: 2, embeddingDeviation: 0.1 }));
      say("trainer-0", {
        type: "prepared",
        epoch: 0,
        weights: "same",
        step,
        replicas,
        dataMs: 1,
        computeMs: 1,
        syncMs: 1,
        deviceBytes: 1,
      });
      say("sinkhorn", { type: "assignment", epoch: 0, step, perplexity: 5 });
    },
    saved(step: number): void {
      say("checkpointer", { type: "saved", step, folder: `/step-${step}`, digest: "d".repeat(64) });
    },
    probed(step: number): void {
      say("evaluator", { type: "probed", step, results: [{ protocol: "knn", top1: 0.5 }], seconds: 1 });
    },
  };
}

Deno.test("one snapshot is judged and at most one waits, and neither's checkpoint makes room for another", () => {
  const run = training();
  run.evaluatorReady();
  for (const step of [0, 1]) run.step(step);
  run.saved(2);
  assertEquals(run.sent("probe"), [{ type: "probe", step: 2, folder: "/step-2" }]);
  for (const step of [2, 3]) run.step(step);
  assertEquals(run.sent("save")[0].pinned, [2]);
  run.saved(4);
  for (const step of [4, 5]) run.step(step);
  assertEquals(run.sent("save")[0].pinned, [2, 4]);
  run.saved(6);
  assertEquals(run.events.filter(({ kind }) => kind === "probe-skipped"), [{ kind: "probe-skipped", step: 4, for: 6 }]);
  assertEquals(run.sent("probe"), []);
  run.probed(2);
  assertEquals(run.sent("probe"), [{ type: "probe", step: 6, folder: "/step-6" }]);
  assertEquals(probesOf(run.events), [{ step: 2, probe: "knn", top1: 0.5, seconds: 1 }]);
});

Deno.test("only the end of the run waits for the evaluator, until it has judged, is late, or the run is interrupted", () => {
  const ended = (how: (run: ReturnType<typeof training>) => void): string[] => {
    const run = training({ steps: 3 });
    for (const step of [0, 1, 2]) {
      run.step(step);
      if (step === 1) run.saved(2);
    }
    run.saved(3);
    assert(!run.kinds().includes("ended"), "waits");
    how(run);
    assertEquals(run.events.at(-1)?.kind, "ended");
    return run.kinds();
  };
  const judged = ended((run) => {
    run.evaluatorReady();
    run.probed(3);
  });
  assert(judged.includes("probe"));
  assert(ended((run) => run.say("self", { type: "alarm", name: "probe" })).includes("evaluator-lost"));
  assert(ended((run) => run.say("self", { type: "stop", reason: "interrupted" })).includes("probe-skipped"));
  // A trainer that is lost by then has nothing left to do.
  const alone = ended((run) => {
    run.say("trainer-0", { type: "failed", error: "gone", logTail: [] });
    run.evaluatorReady();
    run.probed(3);
  });
  assert(alone.includes("probe") && !alone.includes("failed"), alone.join());
});

Deno.test("after a loss of another actor the snapshot that was being judged is judged by the next evaluator", () => {
  const run = training({ cluster: { restarts: 3 } });
  run.evaluatorReady();
  for (const step of [0, 1]) run.step(step);
  run.saved(2);
  run.say("trainer-0", { type: "failed", error: "gone", logTail: [] });
  run.say("evaluator", { type: "failed", error: "ended with the others", logTail: [] });
  run.sent("probe");
  run.say("host-0", { type: "halted", attempt: 2 });
  assertEquals(run.evaluatorStatus()?.state, "starting");
  assertEquals(run.sent("spawn").at(-1)?.id, "evaluator");
  run.evaluatorReady();
  assertEquals(run.sent("probe"), [{ type: "probe", step: 2, folder: "/step-2" }]);
  assert(!run.kinds().includes("evaluator-lost"));
  assertEquals(run.evaluatorStatus(), {
    id: "evaluator",
    role: "evaluator",
    host: "host-0",
    pid: 2,
    attempt: 3,
    state: "ready",
    step: null,
    lastHeardMs: 0,
  });
});

Deno.test("probes lie beside the steps in metrics.jsonl, and those that will come again are dropped on resume", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const description = { run: "x", createdAt: "", config: {}, versions: {}, arguments: [], seed: 0, adapters: {} };
    const files = new RunFiles(folder, description);
    const record = { epoch: 0, loss: 1, lossOverLnK: 1, learningRate: 1, imagesPerSecond: 1, dataMs: 1, computeMs: 1 };
    const rest = { syncMs: 1, prototypePerplexity: 1, embeddingDeviation: 1, deviceBytes: 1, elapsedMs: 1 };
    for (let step = 0; step < 4; step++) {
      files.record({ kind: "step", record: { step, ...record, ...rest }, steps: 9 });
      files.record({ kind: "probe", record: { step: step + 1, probe: "knn", top1: 0.5, seconds: 1 } });
    }
    files.record({ kind: "resumed", step: 2, notes: [] });
    files.close();
    assertEquals(readMetrics(folder).map(({ step }) => step), [0, 1]);
    assertEquals(readProbes(folder).map(({ step }) => step), [1, 2]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
