/** Decisions of the controller about losses and joins that the others outlive, driven by hand. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { actors, digest, drive } from "./driven_controller.ts";

const others = (...gone: string[]) => actors.filter((id) => !gone.includes(id));
const ofKind = (sent: string[], ...types: string[]) => sent.filter((line) => types.includes(line.split(" ")[0]));

/** A run whose step 0 counted and which goes on without its second trainer; its replacement has not said hello yet. */
function driveWithoutTrainer1(): ReturnType<typeof drive> {
  const run = drive(3);
  run.step(0);
  run.kill("trainer-1");
  run.regroup(...others("trainer-1"));
  return run;
}

Deno.test("a lost trainer's replicas move to the others at once, and the step is taken again from the same state", () => {
  const run = drive(3);
  run.step(0);
  run.sent();
  run.kill("trainer-1");
  const sent = run.sent();
  assertEquals(ofKind(sent, "regroup"), others("trainer-1").map((id) => `regroup ${id}`));
  // Its replacement starts meanwhile; nobody is ended.
  assertEquals(ofKind(sent, "spawn", "halt"), ["spawn host-0"]);
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping");
  assertEquals([event.step, event.lost, event.trainers], [1, ["trainer-1"], ["trainer-0"]]);
  run.regroup(...others("trainer-1", "sync-0"));
  assertEquals(ofKind(run.sent(), "step"), [], "one has not answered yet");
  run.regroup("sync-0");
  assertEquals(ofKind(run.sent(), "step"), ["step trainer-0"]);
  run.step(1);
  assertEquals(run.kinds().slice(-2), ["commit", "step"]);
});

Deno.test("an actor without a state is started anew alone; the trainers wait for it and lose nothing", () => {
  for (const victim of ["loader-0", "sinkhorn", "sync-0", "checkpointer"]) {
    const run = drive(3);
    run.step(0);
    run.sent();
    run.kill(victim);
    run.regroup(...others(victim));
    assertEquals(ofKind(run.sent(), "spawn", "step", "halt"), ["spawn host-0"], victim);
    run.come(victim);
    const sent = run.sent();
    assertEquals(ofKind(sent, "configure"), [`configure ${victim}`]);
    assertEquals(ofKind(sent, "step"), ["step trainer-0", "step trainer-1"], victim);
    assert(sent.indexOf("directory trainer-0") < sent.indexOf("step trainer-0"), "its address comes before the step");
  }
});

Deno.test("what comes of an earlier epoch or of a replaced process is not heard", () => {
  const run = driveWithoutTrainer1();
  const steps = () => run.kinds().filter((kind) => kind === "step").length;
  const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
  const replicas = [0, 1, 2, 3].map((replica) => ({ replica, loss: 9, embeddingDeviation: 0 }));
  run.say("trainer-0", { type: "prepared", epoch: 0, weights: "x", step: 1, replicas, ...times });
  run.say("sinkhorn", { type: "assignment", epoch: 0, step: 1, perplexity: 5 });
  assertEquals(steps(), 1);
  run.come("trainer-1");
  const epochs = run.kinds().filter((kind) => kind === "regrouping").length;
  run.say("host-0", { type: "actor-exited", actor: "trainer-1", code: 137, lines: [], attempt: 0 });
  assertEquals(run.kinds().filter((kind) => kind === "regrouping").length, epochs);
  run.step(1);
  assertEquals(steps(), 2);
});

Deno.test("a replacement follows the others' steps and gets replicas once it has caught up", () => {
  const run = driveWithoutTrainer1();
  run.come("trainer-1");
  assertEquals(ofKind(run.sent(), "observe", "share-state"), [], "in the middle of a step nothing is shared");
  run.step(1);
  assertEquals(ofKind(run.sent(), "commit", "observe", "share-state", "step"), [
    "commit trainer-0",
    "observe trainer-1",
    "share-state trainer-0",
    "step trainer-0",
  ]);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  // It restores while the others work on, and gets their commits.
  run.step(2);
  assertEquals(ofKind(run.sent(), "commit", "step"), ["commit trainer-0", "commit trainer-1", "step trainer-0"]);
  run.say("trainer-1", { type: "restored", step: 2, epoch: run.epoch() });
  run.say("trainer-1", { type: "followed", step: 2, epoch: run.epoch() });
  run.step(3);
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping" && event.failure === null);
  assertEquals([event.step, event.joined, event.trainers], [4, ["trainer-1"], ["trainer-0", "trainer-1"]]);
  run.sent();
  run.regroup(...actors);
  assertEquals(ofKind(run.sent(), "step"), ["step trainer-0", "step trainer-1"]);
});

Deno.test("the others wait for a newcomer that lags more than four steps behind, until it comes on or is lost", () => {
  const run = drive(3, ["host-0"], { steps: 20 });
  run.step(0);
  run.kill("trainer-1");
  run.regroup(...others("trainer-1"));
  run.come("trainer-1");
  for (let step = 1; step <= 6; step++) {
    run.sent();
    run.step(step);
  }
  assertEquals(ofKind(run.sent(), "step"), [], "it has none of five steps");
  run.kill("trainer-1");
  assertEquals(run.events.at(-1)?.kind, "newcomer-lost");
  assertEquals(ofKind(run.sent(), "step", "spawn"), ["spawn host-0", "step trainer-0"]);
});

Deno.test("a run that is interrupted while the others wait for a newcomer ends at once", () => {
  const run = drive(3, ["host-0"], { steps: 20 });
  run.step(0);
  run.kill("trainer-1");
  run.regroup(...others("trainer-1"));
  run.come("trainer-1");
  for (let step = 1; step <= 6; step++) run.step(step);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.sent();
  run.say("self", { type: "stop", reason: "interrupted" });
  assertEquals(ofKind(run.sent(), "save", "step"), ["save trainer-0", "save checkpointer"]);
});

Deno.test("a newcomer that fails three times is left out, and the run goes on without it", () => {
  const run = driveWithoutTrainer1();
  for (let i = 0; i < 3; i++) run.kill("trainer-1");
  const lost = run.events.flatMap((event) => event.kind === "newcomer-lost" ? [event.startsAnew] : []);
  assertEquals(lost, [true, true, false]);
  run.step(1);
  assertEquals(run.kinds().at(-1), "step");
});

Deno.test("a link that broke with a newcomer's end is not held against the one that comes in its place", () => {
  const run = driveWithoutTrainer1();
  run.come("trainer-1");
  run.step(1);
  run.say("trainer-0", { type: "unreachable", peer: "trainer-1", reason: "reset" });
  run.kill("trainer-1");
  run.come("trainer-1");
  run.say("self", { type: "alarm", name: "broken" });
  const lost = run.events.flatMap((event) => event.kind === "newcomer-lost" ? [event.error] : []);
  assertEquals(lost, ["its process was killed (exit code 137, as when the system is out of memory)"]);
});

Deno.test("the process of a newcomer that is left out is told to end", () => {
  const run = driveWithoutTrainer1();
  for (let i = 0; i < 3; i++) {
    run.come("trainer-1");
    run.sent();
    run.say("trainer-1", { type: "failed", error: "no memory", logTail: [] });
  }
  assertEquals(ofKind(run.sent(), "stop", "spawn"), ["stop trainer-1"]);
});

Deno.test("a host that joins a run under way starts trainers that take part once they have caught up; none is ended", () => {
  const run = drive(2);
  run.say("host-b", { type: "host-ready", adapters: [] });
  const joining = run.events.at(-1);
  assert(joining?.kind === "joining");
  assertEquals(joining.actors.map(({ id, host }) => `${id} ${host}`), ["trainer-2 host-b", "trainer-3 host-b"]);
  run.come("trainer-2", "trainer-3");
  run.step(0);
  for (const id of ["trainer-2", "trainer-3"]) run.say(id, { type: "restored", step: 1, epoch: run.epoch() });
  run.step(1);
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping");
  assertEquals(event.trainers, ["trainer-0", "trainer-1", "trainer-2", "trainer-3"]);
  assert(!ofKind(run.sent(), "halt").length);
});

Deno.test("a lost host's trainers are gone, its shards start elsewhere, and nothing is lost", () => {
  const run = drive(2, ["host-0", "host-b"]);
  run.step(0);
  run.sent();
  run.say("self", { type: "peer-down", peer: "host-b", reason: "reset" });
  run.say("self", { type: "alarm", name: "lost" });
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping");
  assertEquals([[...event.lost].sort(), event.trainers], [["host-b", "trainer-1"], ["trainer-0"]]);
  assertEquals(ofKind(run.sent(), "spawn", "halt"), []);
});

Deno.test("a host that is told to leave hands over at the border of two steps", () => {
  const run = drive(2, ["host-0", "host-b"]);
  run.say("host-b", { type: "leaving", reason: "SIGTERM" });
  assertEquals(run.sent(), [], "not in the middle of a step");
  run.step(0);
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping" && event.failure === null);
  assertEquals([event.step, event.trainers], [1, ["trainer-0"]]);
  assertEquals(ofKind(run.sent(), "stop"), ["stop host-b"]);
});

Deno.test("trainers whose weights differ from most are named and replaced; when nobody can tell, all start anew", () => {
  const four = drive(3, ["host-0", "host-b"], { trainers: 3 });
  four.step(0);
  four.step(1, { weights: { "trainer-2": "stray" } });
  const event = four.events.at(-1);
  assert(event?.kind === "regrouping" && event.failure !== null);
  assertEquals([event.failure.actor, event.lost, event.step], ["trainer-2", ["trainer-2"], 1]);
  assertMatch(event.failure.error, /differ in their weights before step 1: trainer-0 same, .*trainer-2 stray/);
  const two = drive(3);
  two.step(0);
  two.step(1, { weights: { "trainer-1": "stray" } });
  assertEquals(two.events.at(-1)?.kind, "restarting");
});

Deno.test("a link that broke between two actors that live is made anew, and the step is taken again", () => {
  const run = drive(3);
  run.step(0);
  run.sent();
  run.say("trainer-1", { type: "unreachable", peer: "sync-0", reason: "reset" });
  assertEquals(run.sent(), [], "its end may be reported yet");
  run.say("self", { type: "alarm", name: "broken" });
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping" && event.failure !== null);
  assertEquals([event.failure.error, event.lost], ["its link to trainer-1 broke", []]);
  run.regroup(...actors);
  const sent = run.sent();
  assertEquals(ofKind(sent, "step"), ["step trainer-0", "step trainer-1"]);
});

Deno.test("all links that broke are made anew with one epoch, and what was told before it is not held against a successor", () => {
  const run = drive(3);
  run.step(0);
  run.sent();
  for (const peer of ["sync-0", "sinkhorn", "loader-0"]) {
    run.say("trainer-1", { type: "unreachable", peer, reason: "reset" });
  }
  run.say("self", { type: "alarm", name: "broken" });
  assertEquals(run.gone("trainer-1").map(({ actor }) => actor).sort(), ["loader-0", "sinkhorn", "sync-0"]);
  run.kill("sync-0");
  run.come("sync-0");
  run.say("trainer-0", { type: "unreachable", peer: "sync-0", reason: "of the one before" });
  run.regroup(...others("sync-0"));
  assertEquals(ofKind(run.sent(), "step"), ["step trainer-0", "step trainer-1"]);
  run.say("self", { type: "alarm", name: "broken" });
  assertEquals(run.kinds().filter((kind) => kind === "regrouping").length, 2);
});

Deno.test("an actor that was configured and is not ready yet hears of the next epoch", () => {
  const run = drive(3);
  run.step(0);
  run.kill("sync-0");
  run.say("sync-0", { type: "hello", id: "sync-0", role: "any", url: "ws://sync-0/anew", pid: 2 });
  run.sent();
  run.kill("loader-0");
  assert(ofKind(run.sent(), "regroup").includes("regroup sync-0"));
});

Deno.test("a broken link between the only trainer and a newcomer costs an epoch, and nobody is started anew", () => {
  const run = driveWithoutTrainer1();
  run.come("trainer-1");
  run.step(1);
  run.sent();
  run.say("trainer-1", { type: "unreachable", peer: "trainer-0", reason: "reset" });
  run.say("self", { type: "alarm", name: "broken" });
  assertEquals(run.kinds().at(-1), "regrouping");
  assertEquals(ofKind(run.sent(), "spawn", "halt"), []);
});

Deno.test("a newcomer that was let in and has not answered is left out by the next loss, and follows on", () => {
  const run = driveWithoutTrainer1();
  run.come("trainer-1");
  run.step(1);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.say("trainer-1", { type: "restored", step: 2, epoch: run.epoch() });
  run.step(2);
  const admitted = run.events.at(-1);
  assert(admitted?.kind === "regrouping");
  assertEquals(admitted.joined, ["trainer-1"]);
  run.kill("sync-0");
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping");
  assertEquals(event.trainers, ["trainer-0"]);
});

Deno.test("the end of a trainer that was left out is no loss of the run's", () => {
  const run = driveWithoutTrainer1();
  for (let i = 0; i < 3; i++) run.say("trainer-1", { type: "failed", error: "no device", logTail: [] });
  const before = run.kinds().length;
  run.kill("trainer-1");
  run.say("trainer-1", { type: "hello", id: "trainer-1", role: "trainer", url: "ws://late", pid: 9 });
  assertEquals(run.kinds().length, before);
});

Deno.test("a wait whose blame fell on a newcomer keeps its deadline", () => {
  let now = 0;
  const run = drive(3, ["host-0"], { now: () => now });
  run.step(0);
  run.kill("trainer-1");
  run.regroup(...others("trainer-1"));
  run.come("trainer-1");
  now += 10_000;
  for (const id of others("trainer-1")) run.say(id, { type: "heartbeat", id, handled: 1 });
  run.sent();
  run.say("self", { type: "alarm", name: "step" });
  run.say("self", { type: "alarm", name: "step" });
  assertEquals(run.events.at(-1)?.kind, "newcomer-lost");
  assert(run.timers().some((timer) => timer.startsWith("step ")), run.timers().join());
});

Deno.test("a checkpoint whose trainer is lost is taken anew from another, before the step that is taken again", () => {
  const run = drive(3);
  run.step(0);
  run.step(1);
  assertEquals(ofKind(run.sent(), "save"), ["save trainer-0", "save checkpointer"]);
  run.kill("trainer-0");
  run.regroup(...others("trainer-0"));
  assertEquals(ofKind(run.sent(), "save", "step"), ["save trainer-1", "save checkpointer", "step trainer-1"]);
  run.say("checkpointer", { type: "saved", step: 2, folder: "/step-2", digest });
  run.step(2);
  assertEquals(ofKind(run.sent(), "save"), []);
});

Deno.test("after three losses in a row without a new step all actors start anew", () => {
  let now = 0;
  const run = drive(9, ["host-0"], { now: () => now += 1_000 });
  run.step(0);
  for (let i = 0; i < 4; i++) {
    run.kill("loader-0");
    run.regroup(...others("loader-0"));
    run.come("loader-0");
  }
  assertEquals(run.kinds().filter((kind) => kind === "regrouping").length, 3);
  assertEquals(run.kinds().filter((kind) => kind === "restarting").length, 1);
});
