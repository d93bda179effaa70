/** Decisions of the controller about losses after which all actors start anew, driven by hand. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { backoffMs } from "../../actors/recovery.ts";
import { actors, digest, drive } from "./driven_controller.ts";

Deno.test("when no trainer is left every host ends its actors, and all start anew from the newest checkpoint", () => {
  const run = drive(3);
  run.step(0);
  run.step(1);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.step(2);
  run.sent();
  run.killTrainers();
  assertEquals(run.sent().at(-1), "halt host-0");
  // What the lost attempt still says is not heard.
  run.say("sync-0", { type: "failed", error: "its peer is gone", logTail: [] });
  run.kill("sync-0");
  run.step(3);
  assertEquals([run.sent(), run.events.at(-1)?.kind], [[], "restarting"]);
  run.halt("host-0");
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
  const run = drive(2);
  run.step(0);
  run.killTrainers();
  run.halt("host-0");
  run.start();
  const resumed = run.events.find(({ kind }) => kind === "resumed");
  assert(resumed?.kind === "resumed" && resumed.step === 0);
  assertMatch(resumed.notes[0], /no checkpoint was written yet/);
});

Deno.test("restarts without a new step are counted and waited before; then the run gives up, naming the first cause", () => {
  let now = 1;
  const run = drive(2, ["host-0"], { now: () => now });
  run.step(0);
  run.say("trainer-1", { type: "failed", error: "device lost", logTail: ["last words"] });
  // What falls together counts once.
  run.kill("trainer-0");
  run.halt("host-0");
  now += 1_000;
  run.kill("sync-0");
  run.halt("host-0");
  assert(run.timers().includes("restart 1000"), run.timers().join());
  run.say("self", { type: "alarm", name: "restart" });
  now += 1_000;
  run.kill("loader-0");
  const last = run.events.at(-1);
  assert(last?.kind === "failed");
  assertEquals([last.failure.actor, last.failure.lines], ["trainer-1", ["last words"]]);
  assertMatch(
    last.failure.error,
    /^device lost \(2 restarts gave no new step; at last: loader-0: .* \(exit code 137, .*\)\)$/,
  );
  assertEquals([1, 2, 3, 4, 20].map(backoffMs), [0, 1000, 2000, 4000, 30_000]);
});

Deno.test("a new step ends the count of restarts", () => {
  let now = 1;
  const run = drive(1, ["host-0"], { now: () => now });
  for (let steps = 1; steps <= 3; steps++) {
    now += 1_000;
    run.killTrainers();
    run.halt("host-0");
    run.start();
    for (let step = 0; step < steps; step++) run.step(step);
  }
  assertEquals(run.kinds().filter((kind) => kind === "restarting").length, 3);
  assert(!run.kinds().includes("failed"));
});

Deno.test("training goes on only when the checkpointer has told the step, however early trainers say that they are ready", () => {
  const run = drive(3);
  run.step(0);
  run.step(1);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.killTrainers();
  run.halt("host-0");
  run.start();
  run.sent();
  for (const id of ["trainer-0", "trainer-1"]) run.say(id, { type: "restored", step: 2 });
  assertEquals(run.sent(), []);
  run.say("checkpointer", { type: "loaded", step: 2, digest, progress: {}, notes: [] });
  assertEquals(run.sent(), ["step trainer-0", "step trainer-1"]);
});

Deno.test("a step that is taken again must give the same losses: else its trainer is named and it is replaced", () => {
  const run = drive(3);
  run.step(0);
  run.killTrainers();
  run.halt("host-0");
  run.start();
  run.step(0, { loss: 2.5 });
  const last = run.events.at(-1);
  assert(last?.kind === "regrouping" && last.failure !== null);
  assertEquals([last.failure.actor, last.lost, last.restart], ["trainer-0", ["trainer-0"], 2]);
  assertMatch(last.failure.error, /^step 0, taken again, gave replica 0 the loss 2\.5, before 2: /);
  // The next take decides: it agrees with the latest.
  run.regroup("checkpointer", "loader-0", "sinkhorn", "sync-0", "trainer-1");
  run.step(0, { loss: 2.5 });
  run.step(1);
  assertEquals(run.kinds().slice(-2), ["commit", "step"]);
  // What lies before a checkpoint is not taken again, and not remembered.
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.step(2);
  assertEquals(run.events.at(-1)?.kind, "step");
});

Deno.test("where all start anew while the controller's own host is away, they wait for the next, which ends the old ones", () => {
  let replaced = 0, now = 1;
  const run = drive(2, ["host-0", "host-b"], { replaceLocalHost: () => replaced++, now: () => now });
  run.step(0);
  run.sent();
  run.kill("host-0");
  assertEquals([replaced, run.sent(), run.kinds().at(-1)], [1, [], "host-lost"]);
  run.kill("trainer-1", "host-b");
  run.lose("trainer-0");
  assertEquals([replaced, run.sent().at(-1), run.kinds().at(-1)], [2, "halt host-b", "restarting"]);
  run.halt("host-b");
  assertEquals(run.sent(), []);
  run.say("host-0", { type: "host-ready", adapters: [] });
  assertEquals(run.sent(), ["take-over host-0", "halt host-0"]);
  run.halt("host-0");
  assert(run.sent().every((line) => line.startsWith("spawn")));
  assertEquals(run.kinds().at(-1), "starting");
  // It is lost again before its actors have started.
  now += 1_000;
  run.kill("host-0");
  assertEquals([replaced, run.kinds().at(-1)], [3, "restarting"]);
  run.halt("host-b");
  run.say("host-0", { type: "host-ready", adapters: [] });
  assert(run.timers().includes("restart 1000"), run.timers().join());
  now += 1_000;
  run.kill("host-0");
  assertEquals([replaced, run.kinds().at(-1)], [3, "failed"]);
});

Deno.test("a host that is lost or late while actors are ended is gone on without", () => {
  const run = drive(2, ["host-0", "host-b"]);
  run.step(0);
  run.killTrainers();
  run.halt("host-0");
  run.sent();
  run.say("self", { type: "alarm", name: "halting" });
  // As many trainers a host as before: one of the two goes with its host.
  assertEquals(run.sent(), actors.slice(1).map(() => "spawn host-0"));
});

Deno.test("a host that joins while the actors of a lost attempt are ended is counted on for the next", () => {
  const run = drive(2);
  run.step(0);
  run.sent();
  run.killTrainers();
  run.say("host-b", { type: "hello", id: "host-b", role: "host", url: null, pid: 7 });
  run.say("host-b", { type: "host-ready", adapters: [] });
  run.halt("host-0");
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
  assertEquals(run.sent(), ["commit trainer-0", "commit trainer-1", "save trainer-0", "save checkpointer"]);
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
  assert(!run.kinds().includes("regrouping"), "1.5 s are no loss yet");
  // A look that comes late starts all silences anew: its own process may have been stopped.
  look(3_000);
  assert(!run.kinds().includes("regrouping"));
  beat("trainer-0", "host-0");
  for (let i = 0; i < 7; i++) {
    look(250);
    beat("trainer-0", "host-0");
  }
  const last = run.events.at(-1);
  assert(last?.kind === "regrouping" && last.failure !== null);
  assertEquals(last.failure.actor, "trainer-1");
  assertMatch(last.failure.error, /^no pulse for 1\.8 s: its process is frozen or cut off$/);
});
