/** Decisions of the controller about losses, driven by hand. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { controllerBehavior } from "../../actors/controller.ts";
import type { RunEvent } from "../../actors/events.ts";
import { backoffMs } from "../../actors/recovery.ts";
import type { Effect } from "../../actors/runtime/behavior.ts";
import { findPreset, parseConfig } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";

const actors = ["checkpointer", "loader-0", "sinkhorn", "sync-0", "trainer-0", "trainer-1"];
const digest = "d".repeat(64);

/** A controller of two hosts, driven by hand. */
function drive(
  restarts: number,
  hosts: readonly string[] = ["host-0"],
  { started = true, replaceLocalHost, now = () => 1 }: {
    started?: boolean;
    replaceLocalHost?: () => void;
    now?: () => number;
  } = {},
) {
  const tiny = findPreset("test-tiny");
  const config = parseConfig({
    ...tiny,
    steps: 6,
    checkpoint: { everySteps: 2, keep: 2 },
    cluster: { ...tiny.cluster, trainers: 2, restarts },
    data: { folder: "/images" },
    run: { folder: "/runs", name: "run" },
  }, { source: "the test" });
  const events: RunEvent[] = [];
  const behavior = controllerBehavior({ config, hosts: hosts.length }, {
    emit: (event) => events.push(event),
    now,
    replaceLocalHost,
  });
  const [state] = behavior.init();
  let done: Effect[] = [];
  const driven = {
    events,
    say(from: string, message: Message): void {
      done.push(...behavior.handle(state, message, from)[1]);
    },
    sent(): string[] {
      const sends = done.flatMap((effect) => effect.kind === "send" ? [`${effect.message.type} ${effect.to}`] : []);
      done = [];
      return sends;
    },
    timers: () => done.flatMap((effect) => effect.kind === "timer" ? [`${effect.name} ${effect.delayMs}`] : []),
    /** All actors say hello and are configured. */
    start(): void {
      for (const id of actors) driven.say(id, { type: "hello", id, role: "any", url: `ws://${id}`, pid: 1 });
      for (const id of actors) {
        if (id === "loader-0") driven.say(id, { type: "source", images: 25, stepsPerEpoch: 2 });
        driven.say(id, { type: "ready", detail: "" });
      }
    },
    step(step: number, loss = 2): void {
      for (const [trainer, low] of [["trainer-0", 0], ["trainer-1", 2]] as const) {
        const replicas = [low, low + 1].map((replica) => ({ replica, loss, embeddingDeviation: 0.1 }));
        const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
        driven.say(trainer, { type: "step-done", step, replicas, ...times });
      }
      driven.say("sinkhorn", { type: "assignment", step, perplexity: 5 });
    },
    kill(actor: string, host = "host-0"): void {
      driven.say(host, { type: "actor-exited", actor, code: 137, lines: [] });
    },
    kinds: () => events.map(({ kind }) => kind),
  };
  for (const host of hosts) driven.say(host, { type: "host-ready", adapters: [] });
  if (started) driven.start();
  driven.sent();
  return driven;
}

Deno.test("after a loss every host ends its actors, and all start anew from the newest checkpoint", () => {
  const run = drive(3);
  run.step(0);
  run.step(1);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.step(2);
  run.sent();
  run.kill("trainer-1");
  assertEquals(run.sent(), ["halt host-0"]);
  // What the lost attempt still says is not heard.
  run.say("trainer-0", { type: "failed", error: "its peer is gone", logTail: [] });
  run.kill("sync-0");
  run.step(3);
  assertEquals([run.sent(), run.events.at(-1)?.kind], [[], "restarting"]);
  run.say("host-0", { type: "halted", attempt: 1 });
  assertEquals(run.sent(), actors.map(() => "spawn host-0"));
  run.start();
  assertEquals(run.sent().filter((line) => line.startsWith("load")), ["load checkpointer"]);
  run.say("checkpointer", { type: "loaded", step: 2, digest, progress: {}, notes: [] });
  for (const id of ["trainer-0", "trainer-1"]) run.say(id, { type: "restored", step: 2 });
  assertEquals(run.sent(), ["step trainer-0", "step trainer-1"]);
  run.step(2);
  run.step(3);
  assert(run.kinds().filter((kind) => kind === "step").length === 5, run.kinds().join());
});

Deno.test("without a checkpoint the run begins anew, and says so", () => {
  const run = drive(1);
  run.step(0);
  run.kill("sinkhorn");
  run.say("host-0", { type: "halted", attempt: 1 });
  run.start();
  const resumed = run.events.find(({ kind }) => kind === "resumed");
  assert(resumed?.kind === "resumed" && resumed.step === 0);
  assertMatch(resumed.notes[0], /no checkpoint was written yet/);
});

Deno.test("restarts without a new step are counted and waited before; then the run gives up, naming the first cause", () => {
  const run = drive(2);
  run.step(0);
  run.say("trainer-1", { type: "failed", error: "device lost", logTail: ["last words"] });
  run.say("host-0", { type: "halted", attempt: 1 });
  run.kill("sync-0");
  run.say("host-0", { type: "halted", attempt: 2 });
  assert(run.timers().includes("restart 1000"), run.timers().join());
  run.say("self", { type: "alarm", name: "restart" });
  run.kill("loader-0");
  const last = run.events.at(-1);
  assert(last?.kind === "failed");
  assertEquals([last.failure.actor, last.failure.lines], ["trainer-1", ["last words"]]);
  assertMatch(last.failure.error, /^device lost \(2 restarts gave no new step; at last: loader-0: .* exit code 137\)$/);
  assertEquals([1, 2, 3, 4, 20].map(backoffMs), [0, 1000, 2000, 4000, 30_000]);
});

Deno.test("a new step ends the count of restarts", () => {
  const run = drive(1);
  for (const attempt of [1, 2, 3]) {
    run.kill("trainer-0");
    run.say("host-0", { type: "halted", attempt });
    run.start();
    for (let step = 0; step < attempt; step++) run.step(step);
    if (attempt === 2) break;
  }
  assertEquals(run.kinds().filter((kind) => kind === "restarting").length, 2);
  assert(!run.kinds().includes("failed"));
});

Deno.test("a lost host's actors move to the others; the loss of the controller's own host ends the run", () => {
  const run = drive(2, ["host-0", "host-b"]);
  run.step(0);
  run.say("self", { type: "peer-down", peer: "host-b", reason: "reset" });
  run.say("self", { type: "alarm", name: "lost" });
  assertEquals(run.sent().filter((line) => line.startsWith("halt")), ["halt host-0"]);
  run.say("host-0", { type: "halted", attempt: 1 });
  // As many trainers a host as before: one of the two goes with its host.
  assertEquals(run.sent(), actors.slice(1).map(() => "spawn host-0"));
  const local = drive(2);
  local.step(0);
  local.kill("host-0");
  assertEquals(local.events.at(-1)?.kind, "failed");
});

Deno.test("training goes on only when the checkpointer has told the step, however early trainers say that they are ready", () => {
  const run = drive(3);
  run.step(0);
  run.step(1);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.kill("trainer-1");
  run.say("host-0", { type: "halted", attempt: 1 });
  run.start();
  run.sent();
  for (const id of ["trainer-0", "trainer-1"]) run.say(id, { type: "restored", step: 2 });
  assertEquals(run.sent(), []);
  run.say("checkpointer", { type: "loaded", step: 2, digest, progress: {}, notes: [] });
  assertEquals(run.sent(), ["step trainer-0", "step trainer-1"]);
});

Deno.test("a step that is taken again must give the same losses: else its trainer is named and all start anew", () => {
  const run = drive(3);
  run.step(0);
  run.kill("sinkhorn");
  run.say("host-0", { type: "halted", attempt: 1 });
  run.start();
  run.step(0, 2.5);
  const last = run.events.at(-1);
  assert(last?.kind === "restarting");
  assertEquals([last.failure.actor, last.restart], ["trainer-0", 2]);
  assertMatch(last.failure.error, /^step 0, taken again, gave replica 0 the loss 2\.5, before 2: /);
  // The next take decides: it agrees with the latest.
  run.say("host-0", { type: "halted", attempt: 2 });
  run.say("self", { type: "alarm", name: "restart" });
  run.start();
  run.step(0, 2.5);
  run.step(1);
  assertEquals(run.kinds().slice(-2), ["step", "step"]);
  // What lies before a checkpoint is not taken again, and not remembered.
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.step(2);
  assertEquals(run.events.at(-1)?.kind, "step");
});

Deno.test("the controller's own host is replaced: all wait for it, and count its losses as any other's", () => {
  let replaced = 0;
  const run = drive(2, ["host-0", "host-b"], { replaceLocalHost: () => replaced++ });
  run.step(0);
  run.sent();
  run.kill("host-0");
  assertEquals([replaced, run.sent(), run.kinds().at(-1)], [1, ["halt host-b"], "restarting"]);
  run.say("host-b", { type: "halted", attempt: 1 });
  assertEquals(run.sent(), []);
  run.say("host-0", { type: "host-ready", adapters: [] });
  assert(run.sent().every((line) => line.startsWith("spawn")));
  assertEquals(run.kinds().at(-1), "starting");
  // It comes before the others are done, is lost again meanwhile, and comes a third time.
  run.kill("host-0");
  run.say("host-0", { type: "host-ready", adapters: [] });
  assertEquals(run.sent(), ["halt host-b"]);
  run.say("host-b", { type: "halted", attempt: 2 });
  assert(run.timers().includes("restart 1000"), run.timers().join());
  run.kill("host-0");
  assertEquals([replaced, run.kinds().at(-1)], [2, "failed"]);
});

Deno.test("a host that is lost or late while actors are ended is gone on without", () => {
  const run = drive(2, ["host-0", "host-b"]);
  run.step(0);
  run.kill("trainer-0");
  run.say("host-0", { type: "halted", attempt: 1 });
  assertEquals(run.sent().filter((line) => line.startsWith("spawn")), []);
  run.say("self", { type: "alarm", name: "halting" });
  assertEquals(run.sent(), actors.slice(1).map(() => "spawn host-0"));
});

Deno.test("a host that joins a run under way gets its share at the next step, from a checkpoint written for it", () => {
  const run = drive(2);
  run.say("host-b", { type: "host-ready", adapters: [] });
  assertEquals(run.sent(), []);
  run.step(0);
  assertEquals(run.sent(), ["save trainer-0", "save trainer-1", "save checkpointer"]);
  run.say("checkpointer", { type: "saved", step: 1, folder: "/step-1", digest });
  assertEquals(run.sent(), ["halt host-0", "halt host-b"]);
  for (const host of ["host-0", "host-b"]) run.say(host, { type: "halted", attempt: 1 });
  const starting = run.events.findLast(({ kind }) => kind === "starting");
  assert(starting?.kind === "starting");
  const trainers = starting.actors.filter(({ id }) => id.startsWith("trainer"));
  assertEquals(trainers.map(({ host }) => host), ["host-0", "host-b", "host-0", "host-b"]);
  assert(!run.kinds().includes("restarting"), "nothing was lost");
});

Deno.test("a host that joins while the actors of a lost attempt are ended is counted on for the next", () => {
  const run = drive(2);
  run.step(0);
  run.sent();
  run.kill("trainer-0");
  run.say("host-b", { type: "hello", id: "host-b", role: "host", url: null, pid: 7 });
  run.say("host-b", { type: "host-ready", adapters: [] });
  run.say("host-0", { type: "halted", attempt: 1 });
  assert(run.sent().includes("spawn host-b"));
});

Deno.test("a checkpoint that is written late does not make the run snapshot trainers in the middle of a step", () => {
  const run = drive(0);
  run.step(0);
  run.step(1);
  run.step(2);
  run.sent();
  run.say("self", { type: "stop", reason: "interrupted" });
  // The checkpoint before step 2 arrives while step 3 is under way.
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  assertEquals(run.sent(), []);
  run.step(3);
  assertEquals(run.sent(), ["save trainer-0", "save trainer-1", "save checkpointer"]);
  run.say("checkpointer", { type: "saved", step: 4, folder: "/step-4", digest });
  const end = run.events.at(-1);
  assert(end?.kind === "ended" && end.outcome === "interrupted" && end.step === 4);
});

Deno.test("what fails before the first step fails the run at once, for it would fail again; so does a run with no restarts", () => {
  const early = drive(5, ["host-0"], { started: false });
  early.kill("loader-0");
  assertEquals(early.events.at(-1)?.kind, "failed");
  const strict = drive(0);
  strict.step(0);
  strict.kill("trainer-0");
  assertEquals(strict.events.at(-1)?.kind, "failed");
});

Deno.test("an actor whose pulse is missing is lost, unless the controller itself was late or it was never heard", () => {
  let now = 0;
  const run = drive(2, ["host-0"], { now: () => now });
  run.step(0);
  const beat = (...ids: string[]) => ids.forEach((id) => run.say(id, { type: "pulse" }));
  const look = (ms: number) => {
    now += ms;
    run.say("self", { type: "alarm", name: "pulse" });
  };
  look(0);
  beat("trainer-0", "trainer-1", "host-0");
  for (let i = 0; i < 6; i++) {
    look(250);
    beat("trainer-0", "host-0");
  }
  assert(!run.kinds().includes("restarting"), "1.5 s are no loss yet");
  // A look that comes late starts all silences anew: its own process may have been stopped.
  look(3_000);
  assert(!run.kinds().includes("restarting"));
  beat("trainer-0", "host-0");
  for (let i = 0; i < 7; i++) {
    look(250);
    beat("trainer-0", "host-0");
  }
  const last = run.events.at(-1);
  assert(last?.kind === "restarting");
  assertEquals(last.failure.actor, "trainer-1");
  assertMatch(last.failure.error, /^no pulse for 1\.8 s: its process is frozen or cut off$/);
});
