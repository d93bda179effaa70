/** A controller that is started anew and the actors of the one before it, driven by hand. */
import { assert, assertEquals } from "@std/assert";
import { journalOf } from "../../actors/adopt.ts";
import { controllerBehavior } from "../../actors/controller.ts";
import type { RunEvent } from "../../actors/events.ts";
import type { Effect } from "../../actors/runtime/behavior.ts";
import { findPreset, parseConfig } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";
import { actors, digest } from "./driven_controller.ts";

const run = { steps: 9, stepsPerEpoch: 2, images: 25, plateau: { factor: 0.5 } };
const commit = { step: 4, epoch: 7, weights: "w", samples: { epoch: 2, first: 0, count: 12 }, trainers: 2, run };
const living = actors.map((id) => ({ id, role: id.replace(/-\d+$/, ""), attempt: id === "trainer-1" ? 6 : 3 }));

/** A second controller of a run whose first has committed step 4. */
function second() {
  const tiny = findPreset("test-tiny");
  const config = parseConfig({
    ...tiny,
    steps: 9,
    checkpoint: { everySteps: 4, keep: 2 },
    cluster: { ...tiny.cluster, trainers: 2, restarts: 3 },
    data: { folder: "/images" },
    run: { folder: "/runs", name: "run" },
  }, { source: "the test" });
  const events: RunEvent[] = [];
  const saved = { step: 4, folder: "/step-4", digest };
  const behavior = controllerBehavior(
    {
      config,
      hosts: 1,
      resume: {},
      attempt: 20,
      adopt: { commit, saved, ready: new Set([1]), seated: ["trainer-0", "trainer-1"] },
    },
    { emit: (event) => events.push(event), now: () => 1 },
  );
  const [state, begun] = behavior.init();
  let done: Effect[] = begun;
  return {
    events,
    timers: () => done.flatMap((effect) => effect.kind === "timer" ? [effect.name] : []),
    say(from: string, message: Message): void {
      done.push(...behavior.handle(state, message, from)[1]);
    },
    back(...ids: string[]): void {
      for (const id of ids) this.say(id, { type: "hello", id, role: "any", url: `ws://${id}`, pid: 1 });
    },
    sent(): { to: string; message: Message }[] {
      const sends = done.flatMap((effect) => effect.kind === "send" ? [effect] : []);
      done = [];
      return sends;
    },
  };
}

Deno.test("a controller that is started anew goes on with the actors that live, after the last step that counts", () => {
  const found = second();
  assert(found.timers().includes("adopt"));
  found.say("host-0", { type: "host-ready", adapters: [], living });
  found.back(...actors.slice(1));
  assertEquals(found.sent(), [], "one has not come back yet");
  found.back(actors[0]);
  const sent = found.sent();
  assertEquals(sent.map(({ to, message }) => `${message.type} ${to}`), actors.map((id) => `regroup ${id}`));
  const [{ message }] = sent;
  assert(message.type === "regroup");
  // A trainer that has prepared step 4 and not heard of its commit takes it from this.
  assertEquals([message.step, message.epoch > 20, message.trainers.length], [5, true, 2]);
  const epoch = message.epoch;
  for (const id of actors) found.say(id, { type: "regrouped", epoch });
  const orders = found.sent().map(({ to, message: order }) => `${order.type} ${to}`);
  assertEquals(orders.filter((line) => /^(step|save|spawn|load|configure)/.test(line)), [
    // The checkpoint that was being written may have been lost.
    "save trainer-0",
    "save checkpointer",
    "step trainer-0",
    "step trainer-1",
  ]);
  assertEquals(found.events.filter(({ kind }) => kind === "starting" || kind === "resumed"), []);
});

Deno.test("actors that do not come back start anew beside those that did", () => {
  const found = second();
  found.say("host-0", { type: "host-ready", adapters: [], living });
  const gone = ["sinkhorn", "trainer-1"];
  found.back(...actors.filter((id) => !gone.includes(id)));
  found.say("self", { type: "alarm", name: "adopt" });
  const sent = found.sent();
  assertEquals(
    sent.filter(({ message }) => message.type === "spawn").map(({ message }) => "id" in message && message.id),
    [
      "sinkhorn",
      "trainer-1",
    ],
  );
  const regroup = sent.find(({ message }) => message.type === "regroup")?.message;
  assert(regroup?.type === "regroup");
  assertEquals(regroup.trainers.map(({ id }) => id), ["trainer-0"]);
});

Deno.test("when no trainer has come back what still lives is ended, and all start anew from the checkpoint", () => {
  const found = second();
  found.say("host-0", { type: "host-ready", adapters: [], living });
  found.back("loader-0");
  found.say("self", { type: "alarm", name: "adopt" });
  const sent = found.sent().map(({ message }) => message.type);
  assertEquals(sent, ["halt", ...actors.map(() => "spawn")]);
  assertEquals(found.events.at(-1)?.kind, "starting");
});

Deno.test("an actor that ends before it was taken over is started anew with the others", () => {
  const found = second();
  found.say("host-0", { type: "host-ready", adapters: [], living });
  found.say("host-0", { type: "actor-exited", actor: "trainer-1", attempt: 6, code: 137, lines: [] });
  found.back(...actors.filter((id) => id !== "trainer-1"));
  assertEquals(found.events.at(-1)?.kind, "joining");
  const sent = found.sent();
  assertEquals(sent.filter(({ message }) => message.type === "regroup").length, actors.length - 1);
});

Deno.test("a host of an earlier controller that comes when the run is under way ends what it carries, and gets a share", () => {
  const found = second();
  found.say("host-0", { type: "host-ready", adapters: [], living });
  found.back(...actors);
  found.sent();
  const stale = [{ id: "trainer-2", role: "trainer", attempt: 5 }];
  found.say("host-b", { type: "host-ready", adapters: [], living: stale });
  const sent = found.sent().filter(({ to }) => to === "host-b");
  assertEquals(sent.map(({ message }) => message.type), ["halt", "spawn", "spawn"]);
  const [halt, spawn] = sent.map(({ message }) => message);
  assert(halt.type === "halt" && spawn.type === "spawn" && (spawn.attempt ?? 0) >= halt.attempt);
});

Deno.test("what the journal tells: whose process was configured, who had replicas, the newest checkpoint", () => {
  const actor = (id: string, pid: number): RunEvent[] => [{ kind: "started", actor: id, pid }];
  const ready = (id: string): RunEvent => ({ kind: "ready", actor: id, detail: "" });
  const events: RunEvent[] = [
    { kind: "starting", attempt: 0, actors: actors.map((id) => ({ id, host: "host-0" })) },
    ...actor("sync-0", 5),
    ready("sync-0"),
    { kind: "saved", step: 2, folder: "/2", digest },
    ...actor("sync-0", 6),
    ...actor("trainer-2", 7),
    ready("trainer-2"),
  ];
  const journal = journalOf(events, commit);
  assertEquals([[...journal?.ready ?? []], journal?.seated, journal?.saved?.step], [
    [5, 7],
    ["trainer-0", "trainer-1"],
    2,
  ]);
  assertEquals(journalOf(events, undefined), undefined);
  // All have started anew after that commit: nobody has the state behind it.
  const anew: RunEvent = { kind: "starting", attempt: commit.epoch + 1, actors: [{ id: "trainer-0", host: "host-0" }] };
  assertEquals(journalOf([...events, anew], commit)?.seated, []);
});

Deno.test("a process that was not configured yet is started anew, and a trainer without replicas follows first", () => {
  const found = second();
  found.say("host-0", {
    type: "host-ready",
    adapters: [],
    living: [...living, { id: "trainer-2", role: "trainer", attempt: 8 }],
  });
  found.back(...actors.filter((id) => id !== "sync-0"), "trainer-2");
  found.say("sync-0", { type: "hello", id: "sync-0", role: "sync", url: "ws://sync-0", pid: 99 });
  const sent = found.sent();
  assertEquals(sent.flatMap(({ message }) => message.type === "spawn" ? [message.id] : []), ["sync-0"]);
  const regroup = sent.find(({ message }) => message.type === "regroup")?.message;
  assert(regroup?.type === "regroup");
  assertEquals(regroup.trainers.map(({ id }) => id), ["trainer-0", "trainer-1"]);
});
