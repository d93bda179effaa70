import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { checkpointerBehavior } from "../../actors/checkpointer.ts";
import { readMetrics, RunFiles } from "../../actors/run_files.ts";
import type { RunEvent, StepRecord } from "../../actors/events.ts";
import type { Effect } from "../../actors/runtime/behavior.ts";
import { DirectoryStore } from "../../checkpoint/store.ts";
import { findPreset, parseConfig, type TrainConfigInput } from "../../config.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";
import type { Message } from "../../wire/messages.ts";

/** A configured checkpointer over `folder`, driven by hand. */
function checkpointerOf(folder: string, changes: TrainConfigInput = {}) {
  const config = parseConfig({ ...findPreset("test-tiny"), ...changes, run: { folder, name: "run" } }, {
    source: "the test",
  });
  const behavior = checkpointerBehavior(() => new DirectoryStore(`${folder}/run`));
  let [state] = behavior.init();
  const say = (from: string, message: Message): Effect[] => {
    const [next, effects] = behavior.handle(state, message, from);
    state = next;
    return effects;
  };
  say("controller", {
    type: "configure",
    config: structuredClone(config) as Record<string, unknown>,
    trainers: [{ id: "trainer-0", low: 0, high: 2 }, { id: "trainer-1", low: 2, high: 4 }],
    shards: ["sync-0"],
  });
  return { say };
}

function taskOf(effects: readonly Effect[]): Promise<Message | void> {
  const task = effects.find((effect) => effect.kind === "task");
  assert(task?.kind === "task", "no task");
  return task.run(new AbortController().signal);
}

const weights = new Float32Array([1, 2, 3, 4]);
const weight: Extract<Message, { type: "snapshot-part" }> = {
  type: "snapshot-part",
  epoch: 0,
  step: 4,
  part: { file: "model", name: "w", tensor: toWire(weights, [2, 2]) },
};
const queue: Extract<Message, { type: "snapshot-part" }> = {
  type: "snapshot-part",
  epoch: 0,
  step: 4,
  part: { file: "optimizer", name: "queue.2.0", tensor: toWire(new Float32Array([5])) },
};
const save: Extract<Message, { type: "save" }> = {
  type: "save",
  epoch: 0,
  by: "trainer-0",
  step: 4,
  progress: { plateau: { factor: 0.5 } },
};
const end: Extract<Message, { type: "snapshot-end" }> = { type: "snapshot-end", epoch: 0, step: 4, parts: 2 };

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "checkpointer-test-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function written(folder: string): Promise<Message> {
  const { say } = checkpointerOf(folder);
  say("trainer-0", weight);
  assertEquals(say("controller", save), []);
  say("trainer-0", queue);
  const saved = await taskOf(say("trainer-0", end));
  assert(saved?.type === "saved");
  assertEquals(say("self", saved), [{ kind: "send", to: "controller", message: saved }]);
  return saved;
}

Deno.test("weights that are no numbers are not written: the controller is told which", async () => {
  await withFolder((folder) => {
    for (const wrong of [NaN, Infinity, -Infinity]) {
      const { say } = checkpointerOf(folder);
      say("trainer-0", {
        ...weight,
        part: { ...weight.part, tensor: toWire(new Float32Array([1, wrong, 3, 4]), [2, 2]) },
      });
      // What is not the model's may be anything.
      say("trainer-0", { ...queue, part: { ...queue.part, tensor: toWire(new Float32Array([wrong])) } });
      say("controller", save);
      assertEquals(say("trainer-0", end), [
        { kind: "send", to: "controller", message: { type: "snapshot-unfit", step: 4, name: "w" } },
      ]);
    }
    return Promise.resolve();
  });
});

Deno.test("a checkpoint is written when all parts of the trainer that gives it are in, and comes back to every trainer", async () => {
  await withFolder(async (folder) => {
    await written(folder);
    const { say } = checkpointerOf(folder);
    const loaded = await taskOf(say("controller", { type: "load" }));
    assert(loaded?.type === "loaded");
    assertEquals([loaded.step, loaded.progress, loaded.notes], [4, { plateau: { factor: 0.5 } }, []]);
    const sent = say("self", loaded).flatMap((effect) => effect.kind === "send" ? [effect] : []);
    assertEquals(sent.map(({ to, message }) => `${to} ${message.type}`), [
      "controller loaded",
      "trainer-0 state-part",
      "trainer-0 state-part",
      "trainer-0 state-end",
      "trainer-1 state-part",
      "trainer-1 state-part",
      "trainer-1 state-end",
    ]);
    const part = sent[1].message;
    assert(part.type === "state-part");
    assertEquals([part.part.name, part.part.tensor.shape, f32FromWire(part.part.tensor)], ["w", [2, 2], weights]);
  });
});

Deno.test("a snapshot whose trainer is lost in the middle is taken anew from another", async () => {
  await withFolder(async (folder) => {
    const { say } = checkpointerOf(folder);
    say("controller", save);
    say("trainer-0", weight);
    const trainers = [{ id: "trainer-1", low: 0, high: 4 }];
    const answer = say("controller", {
      type: "regroup",
      epoch: 3,
      step: 4,
      trainers,
      gone: [{ actor: "trainer-0", below: 3 }],
    });
    assertEquals(answer, [
      { kind: "disconnect", peers: ["trainer-0"], reason: "epoch 3 begins", below: 3 },
      { kind: "send", to: "controller", message: { type: "regrouped", epoch: 3 } },
    ]);
    say("trainer-0", queue); // of the epoch that is over
    say("controller", { ...save, epoch: 3, by: "trainer-1" });
    say("trainer-1", { ...weight, epoch: 3 });
    say("trainer-1", { ...queue, epoch: 3 });
    assertEquals((await taskOf(say("trainer-1", { ...end, epoch: 3 })))?.type, "saved");
  });
});

Deno.test("a snapshot with parts missing is refused with both numbers", async () => {
  await withFolder((folder) => {
    const { say } = checkpointerOf(folder);
    assertThrows(() => say("trainer-0", end), RangeError, "from trainer-0 has 0 of 2 parts");
    return Promise.resolve();
  });
});

Deno.test("a checkpoint of another configuration is refused, one of another placement is not", async () => {
  await withFolder(async (folder) => {
    await written(folder);
    const other = checkpointerOf(folder, { seed: 9 });
    await assertRejects(() => taskOf(other.say("controller", { type: "load" })), TypeError, "another configuration");
    const moved = checkpointerOf(folder, { cluster: { trainers: 4 } });
    const loaded = await taskOf(moved.say("controller", { type: "load", step: 4 }));
    assertEquals(loaded?.type, "loaded");
  });
});

const recordOf = (step: number, loss: number): StepRecord => ({
  step,
  epoch: 0,
  loss,
  lossOverLnK: 1,
  learningRate: 1,
  imagesPerSecond: 1,
  dataMs: 1,
  computeMs: 1,
  syncMs: 1,
  prototypePerplexity: 1,
  embeddingDeviation: 1,
  deviceBytes: 1,
  elapsedMs: 1,
});

Deno.test("metrics hold every step once after a resume, a torn last line included, and logs go by actor", async () => {
  await withFolder((folder) => {
    const description = { run: "r", createdAt: "", config: {}, versions: {}, arguments: [], seed: 0, adapters: {} };
    const record = (files: RunFiles, events: RunEvent[]) => events.forEach((event) => files.record(event));
    const first = new RunFiles(folder, description);
    record(first, [0, 1, 2].map((step) => ({ kind: "step", record: recordOf(step, step), steps: 4 })));
    record(first, [{ kind: "log", actor: "../sync/0", lines: ["one", "two"] }]);
    first.close();
    Deno.writeTextFileSync(`${folder}/metrics.jsonl`, '{"step":3,"lo', { append: true });
    const second = new RunFiles(folder, description);
    record(second, [
      { kind: "ready", actor: "trainer-0", detail: "an adapter" },
      { kind: "resumed", step: 1, notes: [] },
      { kind: "step", record: recordOf(1, 10), steps: 4 },
    ]);
    second.close();
    assertEquals(readMetrics(folder).map(({ step, loss }) => [step, loss]), [[0, 0], [1, 10]]);
    assertEquals([...Deno.readDirSync(`${folder}/logs`)].map(({ name }) => name), [".._sync_0.log"]);
    assertEquals(JSON.parse(Deno.readTextFileSync(`${folder}/run.json`)).adapters, { "trainer-0": "an adapter" });
    return Promise.resolve();
  });
});

Deno.test("a step that a controller has committed and not told has its line of metrics when another goes on", async () => {
  await withFolder((folder) => {
    const description = { run: "r", createdAt: "", config: {}, versions: {}, arguments: [], seed: 0, adapters: {} };
    const commit = (step: number): RunEvent => ({
      kind: "commit",
      record: {
        step,
        epoch: 0,
        weights: "",
        samples: { epoch: 0, first: 0, count: 1 },
        trainers: 1,
        run: { steps: 9, stepsPerEpoch: 9, images: 9, plateau: {} },
        metrics: recordOf(step, 10 + step),
      },
    });
    const adopted: RunEvent = { kind: "adopted", step: 2, actors: [] };
    const write = (...events: RunEvent[]) => {
      const files = new RunFiles(folder, description);
      for (const event of events) files.record(event);
      files.close();
    };
    write(commit(0), { kind: "step", record: recordOf(0, 10), steps: 9 }, commit(1));
    // It died in the middle of the line.
    Deno.writeTextFileSync(`${folder}/metrics.jsonl`, '{"step":1,"lo', { append: true });
    write(adopted);
    write(adopted, commit(2), { kind: "step", record: recordOf(2, 12), steps: 9 });
    assertEquals(readMetrics(folder).map(({ step, loss }) => [step, loss]), [[0, 10], [1, 11], [2, 12]]);
    return Promise.resolve();
  });
});
