import { assert, assertEquals, assertThrows } from "@std/assert";
import { hostBehavior } from "../../actors/host.ts";
import { loaderBehavior } from "../../actors/loader.ts";
import type { Behavior, Effect } from "../../actors/runtime/behavior.ts";
import { ManualClock } from "../../actors/runtime/clock.ts";
import type { ActorExit } from "../../actors/runtime/spawn.ts";
import { sinkhornBehavior } from "../../actors/sinkhorn.ts";
import { syncBehavior } from "../../actors/sync.ts";
import { shardOf, trainerBehavior, workerId } from "../../actors/trainer.ts";
import { treeSum } from "../../collectives/tree.ts";
import { findPreset, parseConfig } from "../../config.ts";
import { createSampler } from "../../data/sampler.ts";
import { assignWorld } from "../../swav/assign.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";
import type { Message } from "../../wire/messages.ts";
import { numbers } from "../kernels/run.ts";

/** A behaviour driven by hand: each call gives the effects of one message. */
function drive<S>(behavior: Behavior<S>) {
  let [state, effects] = behavior.init();
  return {
    first: effects,
    say(from: string, message: Message): Effect[] {
      [state, effects] = behavior.handle(state, message, from);
      return effects;
    },
  };
}

function sends(effects: readonly Effect[]): { to: string; message: Message }[] {
  return effects.flatMap((effect) => effect.kind === "send" ? [{ to: effect.to, message: effect.message }] : []);
}

function taskOf(effects: readonly Effect[]): Promise<Message | void> {
  const task = effects.find((effect) => effect.kind === "task");
  assert(task?.kind === "task", "no task");
  return task.run(new AbortController().signal);
}

const config = { ...findPreset("test-tiny"), data: { folder: "/images" }, run: { folder: "/runs", name: "run" } };
const configure: Message = {
  type: "configure",
  config: structuredClone(parseConfig(config, { source: "the test" })) as Record<string, unknown>,
  trainers: [{ id: "trainer-0", low: 0, high: 2 }, { id: "trainer-1", low: 2, high: 4 }],
  shards: ["sync-0", "sync-1"],
};

Deno.test("a trainer sends every message of its worker where its type says, and orders to its worker", () => {
  const trainer = drive(trainerBehavior());
  assertEquals(sends(trainer.say("controller", configure)), [{ to: workerId, message: configure }]);
  const values = toWire(new Float32Array(1));
  const part = { file: "model", name: "x", tensor: values } as const;
  const key = "gradient/3/5@0";
  const table: [Message, string][] = [
    [{ type: "contribute", epoch: 0, key, slots: 4, low: 0, high: 2, values }, "sync-1"],
    [{ type: "scores", epoch: 0, step: 0, replica: 0, batch: 1, rows: 1, values }, "sinkhorn"],
    [{ type: "want-batch", step: 0, replica: 0 }, "loader-0"],
    [{ type: "snapshot-part", epoch: 0, step: 0, part }, "checkpointer"],
    [{ type: "snapshot-end", epoch: 0, step: 0, parts: 1 }, "checkpointer"],
    [{ type: "ready", detail: "" }, "controller"],
    [{ type: "restored", step: 0 }, "controller"],
  ];
  for (const [message, to] of table) assertEquals(sends(trainer.say(workerId, message)), [{ to, message }]);
  const reduced: Message = { type: "reduced", epoch: 0, key, values };
  assertEquals(sends(trainer.say("sync-1", reduced)), [{ to: workerId, message: reduced }]);
  assertEquals(sends(trainer.say("controller", { type: "directory", actors: [] })), []);
});

Deno.test("a trainer fails when its worker fails or ends, and tells the controller of other lost peers", () => {
  const kinds = (effects: Effect[]) => effects.map(({ kind }) => kind);
  const trainer = drive(trainerBehavior());
  assertEquals(kinds(trainer.say(workerId, { type: "failed", error: "out of memory", logTail: [] })), ["fail"]);
  assertEquals(kinds(trainer.say("self", { type: "peer-down", peer: workerId, reason: "x" })), ["fail"]);
  assertEquals(kinds(trainer.say("self", { type: "peer-down", peer: "sync-0", reason: "x" })), ["log", "send"]);
  assertEquals(kinds(trainer.say("self", { type: "peer-down", peer: "controller", reason: "x" })), ["log"]);
});

Deno.test("all trainers agree on the shard of a sum, slices take the shards in turn, statistics spread over them", () => {
  const shards = ["a", "b", "c"];
  assertEquals([0, 1, 2, 3].map((slice) => shardOf(`gradient/17/${slice}@0`, shards)), ["a", "b", "c", "a"]);
  const keys = Array.from({ length: 90 }, (_, i) => `statistics/3/crops 0/layer.${i}@0`);
  const count = (shard: string) => keys.filter((key) => shardOf(key, shards) === shard).length;
  for (const shard of shards) assert(count(shard) > 15, `${shard} owns ${count(shard)} of 90`);
});

Deno.test("a sync shard answers all contributors with the tree's sum, in whatever order the parts come", () => {
  const vectors = [0, 1, 2, 3].map((seed) => numbers(7, seed + 1).map((v) => v * 10 ** seed));
  const expected = treeSum(vectors.map((vector) => new Float32Array(vector)));
  const pair = (low: number) => treeSum([vectors[low].slice(), vectors[low + 1].slice()]);
  const parts: [string, number, number, Float32Array<ArrayBuffer>][] = [
    ["trainer-1", 2, 4, pair(2)],
    ["trainer-0", 0, 1, vectors[0].slice()],
    ["trainer-2", 1, 2, vectors[1].slice()],
  ];
  for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2]]) {
    const sync = drive(syncBehavior());
    const answers = order.map((index) => {
      const [from, low, high, values] = parts[index];
      return sends(
        sync.say(from, { type: "contribute", epoch: 0, key: "k", slots: 4, low, high, values: toWire(values.slice()) }),
      );
    });
    assertEquals(answers.slice(0, 2), [[], []]);
    assertEquals(answers[2].map(({ to }) => to).sort(), ["trainer-0", "trainer-1", "trainer-2"]);
    for (const { message } of answers[2]) {
      assert(message.type === "reduced" && message.key === "k");
      assertEquals(f32FromWire(message.values), expected);
    }
  }
});

Deno.test("a part that comes twice is refused by a sync shard", () => {
  const sync = drive(syncBehavior());
  const part: Message = {
    type: "contribute",
    epoch: 0,
    key: "k",
    slots: 4,
    low: 0,
    high: 2,
    values: toWire(numbers(3, 1)),
  };
  sync.say("trainer-0", part);
  assertThrows(() => sync.say("trainer-0", part));
});

Deno.test("the coordinator assigns when all replicas are in, and gives each its own codes and the controller the perplexity", () => {
  const coordinator = drive(sinkhornBehavior());
  coordinator.say("controller", configure);
  const scores = [0, 1, 2, 3].map((seed) => numbers(2 * 3 * 12, seed + 1));
  const order = [2, 0, 3, 1];
  const answers = order.map((replica) =>
    sends(coordinator.say(`trainer-${replica % 2}`, {
      type: "scores",
      epoch: 0,
      step: 0,
      replica,
      batch: 3,
      rows: 3,
      values: toWire(scores[replica].slice()),
    }))
  );
  assertEquals(answers.slice(0, 3), [[], [], []]);
  const expected = assignWorld(scores.map((values) => ({ batch: 3, rows: 3, scores: values })), {
    crops: 2,
    prototypes: 12,
    epsilon: 0.05,
    iterations: 3,
  });
  for (const [index, { to, message }] of answers[3].entries()) {
    if (index === 4) {
      assertEquals([to, message], ["controller", {
        type: "assignment",
        epoch: 0,
        step: 0,
        perplexity: expected.perplexity,
      }]);
      continue;
    }
    assert(message.type === "codes" && message.replica === index);
    assertEquals(to, `trainer-${index % 2}`);
    assertEquals(f32FromWire(message.values), expected.codes[index]);
  }
  assertEquals(answers[3].length, 5);
});

Deno.test("the coordinator refuses scores that come twice, and scores of too many steps at once", () => {
  const coordinator = drive(sinkhornBehavior());
  coordinator.say("controller", configure);
  const scores = (step: number): Message => ({
    type: "scores",
    epoch: 0,
    step,
    replica: 1,
    batch: 3,
    rows: 3,
    values: toWire(new Float32Array(72)),
  });
  coordinator.say("trainer-0", scores(0));
  assertThrows(() => coordinator.say("trainer-9", scores(0)), RangeError, "came twice, from trainer-9");
  for (const step of [1, 2, 3]) coordinator.say("trainer-0", scores(step));
  assertThrows(() => coordinator.say("trainer-0", scores(4)), RangeError, "at most 4 may");
});

Deno.test("the loader announces its images, serves whoever asked, and reports a replaced image once", async () => {
  const sampler = createSampler({ seed: 0, size: 25, replicas: 4, samplesPerReplica: 3 });
  const replaced = [{ id: 7, name: "bad.png", reason: "no image", replacedBy: 8, replacedByName: "good.png" }];
  const asked: unknown[] = [];
  const loader = drive(loaderBehavior(() =>
    Promise.resolve({
      sampler,
      images: 25,
      batches: {
        bad: new Map(),
        load(place) {
          asked.push(place);
          const one = new Uint32Array([1]);
          const images = new Uint8Array(4);
          return Promise.resolve({ ids: one, images, offsets: one, widths: one, heights: one, replaced });
        },
      },
    })
  ));
  const source = await taskOf(loader.say("controller", configure));
  assert(source?.type === "source");
  assertEquals(sends(loader.say("self", source)).map(({ to, message }) => `${to} ${message.type}`), [
    "controller source",
    "controller ready",
  ]);
  const deliveries = [];
  for (const [step, from] of [[2, "trainer-0"], [3, "trainer-1"]] as const) {
    const batch = await taskOf(loader.say(from, { type: "want-batch", step, replica: 1 }));
    assert(batch?.type === "batch");
    deliveries.push(sends(loader.say("self", batch)).map(({ to, message }) => `${to} ${message.type}`));
    assertEquals(loader.say("self", batch), [], "a batch goes out once");
  }
  assertEquals(deliveries, [["trainer-0 batch", "controller images-replaced"], ["trainer-1 batch"]]);
  assertEquals(asked, [2, 3].map((step) => ({ ...sampler.place(step), replica: 1 })));
});

Deno.test("a host that cannot start a process tells so a second later, and starts the next", async () => {
  const clock = new ManualClock(), tried: string[] = [];
  const host = drive(hostBehavior({
    adapters: [],
    clock,
    spawn({ id }) {
      if (tried.push(id) === 1) throw new Error("no process is to be had");
      return { id, pid: 1, exited: new Promise(() => {}), logTail: () => [], stop: () => new Promise(() => {}) };
    },
  }));
  const order: Message = { type: "spawn", id: "sync-0", role: "sync", attempt: 3, environment: {} };
  const life = taskOf(host.say("controller", order));
  await clock.advance(999);
  assertEquals(clock.pending, 1);
  await clock.advance(1);
  assertEquals(clock.pending, 0);
  const lines = ["its process could not be started: no process is to be had"];
  const exited: Message = { type: "actor-exited", actor: "sync-0", attempt: 3, code: -1, lines };
  assertEquals(await life, exited);
  assertEquals(sends(host.say("self", exited)), [{ to: "controller", message: exited }]);
  taskOf(host.say("controller", { ...order, attempt: 4 }));
  assertEquals(tried, ["sync-0", "sync-0"]);
});

Deno.test("a host starts what it is told, passes bounded log lines on, reports ends, and stops all when the controller is gone", async () => {
  const exits = new Map<string, PromiseWithResolvers<ActorExit>>();
  const stopped: string[] = [];
  let write: (line: string) => void = () => {};
  const host = drive(hostBehavior({
    adapters: ["one"],
    spawn({ id, onLogLine }) {
      const exit = Promise.withResolvers<ActorExit>();
      exits.set(id, exit);
      write = onLogLine;
      return {
        id,
        pid: 1,
        exited: exit.promise,
        logTail: () => Array.from({ length: 30 }, (_, i) => `${id} ${i}`),
        stop() {
          stopped.push(id);
          exit.resolve({ code: 0, signal: null });
          return exit.promise;
        },
      };
    },
  }));
  assertEquals(sends(host.first), [{ to: "controller", message: { type: "host-ready", adapters: ["one"] } }]);
  const life = taskOf(host.say("controller", { type: "spawn", id: "sync-0", role: "sync", environment: {} }));
  const second = taskOf(host.say("controller", { type: "spawn", id: "trainer-0", role: "trainer", environment: {} }));
  for (let i = 0; i < 300; i++) write(`line ${i}`);
  const [flushed] = sends(host.say("self", { type: "alarm", name: "flush" }));
  assert(flushed.message.type === "log-lines");
  assertEquals([flushed.message.lines.length, flushed.message.lines.at(-1)], [250, "line 299"]);
  exits.get("sync-0")?.resolve({ code: 137, signal: "SIGKILL" });
  const exited = await life;
  assert(exited?.type === "actor-exited" && exited.lines.length === 20 && exited.code === 137);
  assertEquals(sends(host.say("self", exited)), [{ to: "controller", message: exited }]);
  assertEquals(host.say("self", { type: "peer-down", peer: "somebody", reason: "" }), []);
  const stop = host.say("self", { type: "peer-down", peer: "controller", reason: "closed" });
  assertEquals(await taskOf(stop), { type: "stop", reason: "the controller is gone" });
  assertEquals(stopped, ["trainer-0"]);
  const last = await second;
  assert(last?.type === "actor-exited");
  assertEquals(host.say("self", last), [], "an end that was asked for is no report");
  assertEquals(host.say("self", { type: "stop", reason: "done" }), [{ kind: "stop", reason: "done" }]);
});

Deno.test("a host watches over the actors of the one before it, reports their ends, and ends them like its own", async () => {
  const exits = new Map<number, PromiseWithResolvers<ActorExit>>();
  const done: string[] = [];
  const actor = (id: string, pid: number) => {
    const exit = Promise.withResolvers<ActorExit>();
    exits.set(pid, exit);
    return {
      id,
      pid,
      exited: exit.promise,
      logTail: () => [],
      stop() {
        done.push(`stop ${pid}`);
        exit.resolve({ code: -1, signal: null });
        return exit.promise;
      },
    };
  };
  const host = drive(hostBehavior({
    adapters: [],
    spawn({ id }) {
      done.push(`spawn ${id}`);
      return actor(id, 100);
    },
    find: ({ id, pid }) => actor(id, pid),
  }));
  const actors = [["sync-0", "sync", 11], ["loader-0", "loader", 12], ["trainer-0", "trainer", 13]] as const;
  const effects = host.say("controller", {
    type: "take-over",
    actors: actors.map(([id, role, pid]) => ({ id, role, attempt: 3, pid })),
  });
  const lives = effects.map((effect) => taskOf([effect]));
  assertEquals(sends(host.say("self", { type: "rejoined" })), [{
    to: "controller",
    message: {
      type: "host-ready",
      adapters: [],
      living: actors.map(([id, role]) => ({ id, role, attempt: 3 })),
    },
  }]);
  exits.get(11)?.resolve({ code: -1, signal: null });
  const ended = await lives[0];
  assertEquals(ended, { type: "actor-exited", actor: "sync-0", attempt: 3, code: -1, lines: [] });
  // A newer start ends the older one first.
  const start: Message = { type: "spawn", id: "loader-0", role: "loader", attempt: 4, environment: {} };
  const started = taskOf(host.say("controller", start));
  await lives[1];
  await Promise.resolve();
  const halting = taskOf(host.say("controller", { type: "halt", attempt: 4 }));
  await Promise.all([halting, lives[2]]);
  assertEquals(done, ["stop 12", "spawn loader-0", "stop 13"]);
  exits.get(100)?.resolve({ code: 0, signal: null });
  await started;
});

Deno.test("a host that is asked to go tells the controller, and a controller that starts anew meanwhile too", () => {
  const host = drive(hostBehavior({
    adapters: [],
    spawn: () => {
      throw new Error("nothing is to be started");
    },
  }));
  const leaving: Message = { type: "leaving", reason: "SIGTERM" };
  const types = (effects: Effect[]) => sends(effects).map(({ message }) => message.type);
  assertEquals(types(host.say("self", { type: "rejoined" })), ["host-ready"]);
  assertEquals(types(host.say("trainer-0", leaving)), [], "nobody else may ask");
  assertEquals(sends(host.say("self", leaving)), [{ to: "controller", message: leaving }]);
  assertEquals(types(host.say("self", { type: "rejoined" })), ["host-ready", "leaving"]);
});

Deno.test("a sync shard and the Sinkhorn coordinator tell whose parts they wait for", () => {
  const trainers = [{ id: "trainer-0", low: 0, high: 2 }, { id: "trainer-1", low: 2, high: 3 }, {
    id: "trainer-2",
    low: 3,
    high: 4,
  }];
  const regroup: Message = { type: "regroup", epoch: 5, step: 1, trainers, gone: [] };
  const ask = (role: { say(from: string, message: Message): Effect[] }, epoch = 5) =>
    role.say("controller", { type: "inquire", epoch }).flatMap((effect) =>
      effect.kind === "send" && effect.message.type === "lacks" ? [effect.message.trainers] : []
    );
  const values = toWire(new Float32Array(1));
  const shard = drive(syncBehavior());
  shard.say("controller", regroup);
  // Of the world, and of the group of replicas 2 and 3.
  const world: Message = { type: "contribute", epoch: 5, key: "gradient/1/0@0", slots: 4, low: 0, high: 2, values };
  shard.say("trainer-0", world);
  shard.say("trainer-2", { ...world, key: "statistics/1/x@2", slots: 2, low: 1, high: 2 });
  assertEquals(ask(shard), [["trainer-1", "trainer-2"]]);
  assertEquals(ask(shard, 4), [], "of another epoch nothing is told");
  const coordinator = drive(sinkhornBehavior());
  coordinator.say("controller", {
    type: "configure",
    config,
    trainers,
    shards: ["s"],
    epoch: 5,
  });
  for (const replica of [0, 1, 3]) {
    coordinator.say("any", { type: "scores", step: 1, epoch: 5, replica, batch: 1, rows: 1, values });
  }
  assertEquals(ask(coordinator), [["trainer-1"]]);
});
