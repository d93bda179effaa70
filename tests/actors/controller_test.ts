import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { controllerBehavior, type ControllerOptions } from "../../actors/controller.ts";
import type { RunEvent } from "../../actors/events.ts";
import type { Effect } from "../../actors/runtime/behavior.ts";
import { findPreset, parseConfig, type TrainConfigInput } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";

type Kind<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

/** A controller driven by hand, with what it did since it was last asked. */
function drive(options: Partial<ControllerOptions> = {}, changes: TrainConfigInput = {}) {
  const tiny = findPreset("test-tiny");
  const config = parseConfig({
    ...tiny,
    steps: 4,
    ...changes,
    checkpoint: { everySteps: 2, keep: 2, ...changes.checkpoint },
    cluster: { ...tiny.cluster, trainers: 2, restarts: 0, ...changes.cluster },
    data: { folder: "/images" },
    run: { folder: "/runs", name: "run" },
  }, { source: "the test" });
  const events: RunEvent[] = [];
  let now = 0;
  const behavior = controllerBehavior({ config, hosts: 1, ...options }, {
    emit: (event) => events.push(event),
    now: () => now,
  });
  let [state, effects] = behavior.init();
  let done: Effect[] = [...effects];
  return {
    events,
    advance: (ms: number) => now += ms,
    say(from: string, message: Message): void {
      [state, effects] = behavior.handle(state, message, from);
      done.push(...effects);
    },
    alarm(name: string): void {
      this.say("self", { type: "alarm", name });
      // Of a late step it is asked first for whom it waits.
      if (name === "step") this.say("self", { type: "alarm", name });
    },
    /** Effects of a kind since the last call of any `took`. */
    took<K extends Effect["kind"]>(kind: K): Kind<K>[] {
      const found = done.filter((effect): effect is Kind<K> => effect.kind === kind);
      done = done.filter((effect) => effect.kind !== kind);
      return found;
    },
    sent(type: Message["type"]): string[] {
      return this.took("send").filter(({ message }) => message.type === type).map(({ to }) => to);
    },
    get failure() {
      const event = events.at(-1);
      assert(event?.kind === "failed", `no failure: ${event?.kind}`);
      return event.failure;
    },
  };
}

type Driven = ReturnType<typeof drive>;
const actors = ["checkpointer", "loader-0", "sinkhorn", "sync-0", "trainer-0", "trainer-1"];

function host(run: Driven): void {
  run.say("host-0", { type: "host-ready", adapters: [] });
}

function hellos(run: Driven, ids: readonly string[] = actors): void {
  for (const id of ids) run.say(id, { type: "hello", id, role: "any", url: `ws://${id}`, pid: 1 });
}

function readies(run: Driven, ids: readonly string[] = actors): void {
  for (const id of ids) {
    if (id === "loader-0") run.say(id, { type: "source", images: 25, stepsPerEpoch: 2 });
    run.say(id, { type: "ready", detail: "" });
  }
}

/** A controller that has just ordered its first step. */
function training(options: Partial<ControllerOptions> = {}, changes: TrainConfigInput = {}): Driven {
  const run = drive(options, changes);
  host(run);
  hellos(run);
  readies(run);
  return run;
}

function finishStep(run: Driven, step: number, { loss = 2, trainers = [0, 1] } = {}): void {
  for (const trainer of trainers) {
    const replicas = [2 * trainer, 2 * trainer + 1].map((replica) => ({ replica, loss, embeddingDeviation: 0.1 }));
    const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
    run.say(`trainer-${trainer}`, { type: "prepared", epoch: 0, weights: "same", step, replicas, ...times });
  }
  run.say("sinkhorn", { type: "assignment", epoch: 0, step, perplexity: 5 });
}

const digest = "d".repeat(64);
const saved = (step: number): Message => ({ type: "saved", step, folder: `/step-${step}`, digest });

Deno.test("every wait of the controller has a deadline that names whom it waits for and what for", () => {
  const cases: [string, () => Driven, RegExp][] = [
    ["hosts", () => drive({ hosts: 2 }), /waited too long for 2 more hosts to join/],
    ["starting", () => {
      const run = drive();
      host(run);
      hellos(run, actors.slice(0, 4));
      return run;
    }, /for trainer-0, trainer-1 to start/],
    ["configuring", () => {
      const run = drive();
      host(run);
      hellos(run);
      readies(run, actors.filter((id) => id !== "loader-0"));
      return run;
    }, /for loader-0 to get ready/],
    ["restoring", () => training({ resume: {} }), /for checkpointer to read the checkpoint/],
    ["restoring", () => {
      const run = training({ resume: {} });
      run.say("checkpointer", { type: "loaded", step: 2, digest, progress: {}, notes: [] });
      run.say("trainer-1", { type: "restored", step: 2 });
      return run;
    }, /for trainer-0 to take the checkpoint/],
    ["step", () => {
      const run = training();
      finishStep(run, 0, { trainers: [1] });
      return run;
    }, /for trainer-0 to finish step 0/],
    ["saving", () => {
      const run = training();
      finishStep(run, 0);
      finishStep(run, 1);
      return run;
    }, /for checkpointer to write the checkpoint before step 2/],
  ];
  for (const [name, prepare, expected] of cases) {
    const run = prepare();
    assert(run.took("timer").some((timer) => timer.name === name && timer.delayMs > 0), `no deadline "${name}"`);
    run.alarm(name);
    assertMatch(run.failure.error, expected);
    assertEquals(run.took("stop").length, 1, name);
  }
});

Deno.test("when all trainers have reported and the assignment has not come, the deadline names the coordinator", () => {
  const run = training();
  const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
  for (const id of ["trainer-0", "trainer-1"]) {
    run.say(id, { type: "prepared", epoch: 0, weights: "same", step: 0, replicas: [], ...times });
  }
  run.alarm("step");
  assertEquals(run.failure.actor, "sinkhorn");
  assertStringIncludes(run.failure.error, "sinkhorn to finish step 0");
});

Deno.test("when all trainers are late because of one, those who add up tell whom they wait for, and that one is named", () => {
  const run = training();
  run.took("send");
  run.say("self", { type: "alarm", name: "step" });
  assertEquals(run.sent("inquire"), ["sinkhorn", "sync-0"]);
  run.say("sync-0", { type: "lacks", epoch: 0, trainers: ["trainer-1"] });
  run.say("sinkhorn", { type: "lacks", epoch: 9, trainers: ["trainer-0"] });
  run.say("self", { type: "alarm", name: "step" });
  assertEquals(run.failure.actor, "trainer-1");
  assertStringIncludes(run.failure.error, "for trainer-0, trainer-1 to finish step 0; the others wait for trainer-1");
});

Deno.test("steps follow one another only when every trainer and the assignment are in, and the run ends with a checkpoint", () => {
  const run = training();
  assertEquals(run.sent("step"), ["trainer-0", "trainer-1"]);
  finishStep(run, 0, { trainers: [0] });
  assertEquals(run.sent("step"), []);
  finishStep(run, 0, { trainers: [1] });
  assertEquals(run.sent("step"), ["trainer-0", "trainer-1"]);
  finishStep(run, 1);
  const sends = run.took("send").map(({ to, message }) => `${message.type} ${to}`);
  assertEquals(sends, [
    "commit trainer-0",
    "commit trainer-1",
    "save trainer-0",
    "save checkpointer",
    "step trainer-0",
    "step trainer-1",
  ]);
  run.say("checkpointer", saved(2));
  finishStep(run, 2);
  finishStep(run, 3);
  assertEquals(run.events.at(-1)?.kind, "step");
  run.say("checkpointer", saved(4));
  assertEquals(run.events.at(-1), { kind: "ended", outcome: "finished", step: 4, digest, folder: "/step-4" });
  const stopped = run.sent("stop").sort();
  assertEquals(stopped, [...actors, "host-0"].sort());
});

Deno.test("a checkpoint that is due while another is written holds the next step back", () => {
  const run = training({}, { checkpoint: { everySteps: 1, keep: 2 } });
  finishStep(run, 0);
  finishStep(run, 1);
  run.took("send");
  assertEquals(run.events.at(-1)?.kind, "step");
  run.say("checkpointer", saved(1));
  const sends = run.took("send").map(({ to, message }) => `${message.type} ${to}`);
  assertEquals(sends, ["save trainer-0", "save checkpointer", "step trainer-0", "step trainer-1"]);
});

Deno.test("an interrupt lets the step finish, has a checkpoint written, and ends; before training it ends at once", () => {
  const run = training();
  run.say("self", { type: "stop", reason: "interrupted" });
  assertEquals(run.took("stop").length, 0);
  finishStep(run, 0);
  run.took("send");
  run.say("checkpointer", saved(1));
  assertEquals(run.events.at(-1), { kind: "ended", outcome: "interrupted", step: 1, digest, folder: "/step-1" });
  const early = drive();
  host(early);
  early.say("self", { type: "stop", reason: "interrupted" });
  assertEquals(early.events.at(-1), { kind: "ended", outcome: "interrupted", step: 0, digest: "", folder: "" });
  assertEquals(early.took("stop").length, 1);
});

Deno.test("a loss that is no number stops the run and says what to change", () => {
  const run = training();
  finishStep(run, 0, { loss: NaN });
  assertMatch(run.failure.error, /the loss of step 0 is NaN: lower schedule\.learningRate or raise sinkhorn\.epsilon/);
  assert(!run.events.some(({ kind }) => kind === "step"), "a step without a loss must not be recorded");
  assertEquals(run.sent("commit"), [], "nor may it move the weights");
});

Deno.test("weights that are no numbers stop the run when a checkpoint of them is due, the last one too", () => {
  const run = training();
  run.say("checkpointer", { type: "snapshot-unfit", step: 1, name: "head.0.weight" });
  assertMatch(
    run.failure.error,
    /^the weights before step 1 are no numbers \(head\.0\.weight\).*lower schedule\.learn/,
  );
});

Deno.test("last words come before the lost link, and name actor, host and log lines", () => {
  const run = training();
  run.say("self", { type: "peer-down", peer: "trainer-1", reason: "closed" });
  assertEquals(run.events.filter(({ kind }) => kind === "failed"), []);
  run.say("trainer-1", { type: "failed", error: "device lost", logTail: ["first", "last"] });
  assertEquals(run.failure, { actor: "trainer-1", host: "host-0", error: "device lost", lines: ["first", "last"] });
  run.alarm("lost");
  assertEquals(run.events.filter(({ kind }) => kind === "failed").length, 1, "a run fails once");
});

Deno.test("a lost link, an ended process and a long silence each fail the run by name", () => {
  const lost = training();
  lost.say("host-0", { type: "log-lines", actor: "sync-0", lines: ["a", "b"] });
  lost.say("self", { type: "peer-down", peer: "sync-0", reason: "reset" });
  lost.alarm("lost");
  assertEquals(lost.failure, { actor: "sync-0", host: "host-0", error: "connection lost: reset", lines: ["a", "b"] });
  const ends: [number, string[], string][] = [
    [1, ["x"], "its process ended with exit code 1"],
    [137, ["x"], "its process was killed (exit code 137, as when the system is out of memory)"],
    [-1, [], "its process ended"],
    [-1, ["its process could not be started: why"], "its process could not be started: why"],
  ];
  for (const [code, lines, error] of ends) {
    const exited = training();
    exited.say("host-0", { type: "actor-exited", actor: "loader-0", code, lines });
    assertEquals([exited.failure.actor, exited.failure.error], ["loader-0", error]);
  }
  const silent = training();
  silent.advance(10_000);
  silent.alarm("watch");
  assert(silent.took("timer").some(({ name }) => name === "watch"));
  for (const id of [...actors, "host-0"]) {
    if (id !== "trainer-0") silent.say(id, { type: "heartbeat", id, handled: 1 });
  }
  silent.advance(11_000);
  silent.alarm("watch");
  assertEquals([silent.failure.actor, silent.failure.error], ["trainer-0", "no sign of life for 21 s"]);
});

Deno.test("when a step is late because an actor is frozen, that actor is named, not those who wait for it", () => {
  const run = training();
  run.advance(5_000);
  for (const id of actors) if (id !== "sync-0") run.say(id, { type: "heartbeat", id, handled: 1 });
  run.alarm("step");
  assertEquals(run.failure.actor, "sync-0");
  assertStringIncludes(
    run.failure.error,
    "trainer-0, trainer-1 to finish step 0; sync-0 has given no sign of life for 5 s",
  );
});

Deno.test("the local host carries the single actors although another joined before it", () => {
  const run = drive({ hosts: 2 });
  for (const id of ["host-b", "host-b", "host-0"]) run.say(id, { type: "host-ready", adapters: [] });
  const places = run.events.flatMap((event) => event.kind === "starting" ? event.actors : []);
  const on = Object.fromEntries(places.map(({ id, host }) => [id, host]));
  assertEquals([on.checkpointer, on["loader-0"], on["trainer-0"], on["trainer-1"]], [
    "host-0",
    "host-0",
    "host-0",
    "host-b",
  ]);
  const remote = drive({ hosts: 2 });
  for (const id of ["host-b", "host-c"]) remote.say(id, { type: "host-ready", adapters: [] });
  assertEquals(remote.events.filter(({ kind }) => kind === "starting"), [], "the local host is waited for");
});

Deno.test("a resumed run asks for the wanted checkpoint and goes on from its step without writing it again", () => {
  const run = training({ resume: { step: 2 } });
  const orders = run.took("send").filter(({ message }) => message.type === "load");
  assertEquals(orders.map(({ to, message }) => [to, message]), [["checkpointer", { type: "load", step: 2 }]]);
  run.say("checkpointer", { type: "loaded", step: 2, digest, progress: {}, notes: ["step 3 is torn"] });
  for (const id of ["trainer-0", "trainer-1"]) run.say(id, { type: "restored", step: 2 });
  assertEquals(run.took("send").map(({ message }) => message.type), ["step", "step"]);
  assertEquals(run.events.at(-1), { kind: "resumed", step: 2, notes: ["step 3 is torn"] });
});

Deno.test("each trainer gets its adapter in turn, and spawn orders carry its environment", () => {
  const adapters = [{ name: "A", environment: { GPU: "0" } }, { name: "B", provider: "dawn" as const }];
  const run = drive({}, { cluster: { adapters } });
  host(run);
  const spawns = run.took("send").flatMap(({ message }) => message.type === "spawn" ? [message] : []);
  assertEquals(spawns.filter(({ role }) => role === "trainer").map(({ environment }) => environment), [
    { GPU: "0" },
    {},
  ]);
  hellos(run);
  const given = run.took("send").flatMap(({ to, message }) =>
    message.type === "configure" && to.startsWith("trainer") ? [message.adapter] : []
  );
  assertEquals(given, [{ provider: "auto", name: "A" }, { provider: "dawn", name: "B" }]);
});

Deno.test("every trainer gets the recorded variants of kernels, and nobody else does", () => {
  const choices = { "matmul: 1×2 · 2×3": "tile 64x64" };
  const run = drive({ choices });
  host(run);
  hellos(run);
  const given = run.took("send").flatMap(({ to, message }) =>
    message.type === "configure" ? [[to, message.choices] as const] : []
  );
  assertEquals(
    given.filter(([, found]) => found !== undefined),
    ["trainer-0", "trainer-1"].map((id) => [id, choices] as const),
  );
});
