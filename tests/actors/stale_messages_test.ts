/** Messages that come twice, late, of another epoch or from nobody who takes part: what each role makes of them. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { FollowedSums } from "../../actors/engine/followed_sums.ts";
import { EpochOver, RemotePeers } from "../../actors/engine/remote_peers.ts";
import type { Behavior, Effect } from "../../actors/runtime/behavior.ts";
import { sinkhornBehavior } from "../../actors/sinkhorn.ts";
import { syncBehavior } from "../../actors/sync.ts";
import { findPreset, parseConfig } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";
import { drive as driveController } from "./driven_controller.ts";

/** A behaviour driven by hand: each call gives the messages that one message leads to. */
function drive<S>(behavior: Behavior<S>) {
  let [state] = behavior.init();
  return (from: string, message: Message): Extract<Effect, { kind: "send" }>[] => {
    const [next, effects] = behavior.handle(state, message, from);
    state = next;
    return effects.filter((effect) => effect.kind === "send");
  };
}

const tiny = { ...findPreset("test-tiny"), data: { folder: "/images" }, run: { folder: "/runs", name: "run" } };
const configure = (epoch: number): Message => ({
  type: "configure",
  config: structuredClone(parseConfig(tiny, { source: "the test" })) as Record<string, unknown>,
  trainers: [{ id: "trainer-0", low: 0, high: 2 }, { id: "trainer-1", low: 2, high: 4 }],
  shards: ["sync-0"],
  epoch,
});
const regroup = (epoch: number): Message => ({ type: "regroup", epoch, step: 3, trainers: [], gone: [] });

const key = "gradient/3/0@0";
const part = (epoch: number, low: number, value: number): Message => ({
  ...{ type: "contribute", key, epoch, slots: 4, low, high: low + 2 },
  values: toWire(Float32Array.of(value)),
});

function sumsOf(sends: readonly Extract<Effect, { kind: "send" }>[]): [string, number, number][] {
  return sends.flatMap(({ to, message }): [string, number, number][] =>
    message.type === "reduced" ? [[to, message.epoch, f32FromWire(message.values)[0]]] : []
  );
}

Deno.test("a sync shard adds nothing of another epoch, earlier or later, and begins each sum anew with the epoch", () => {
  const say = drive(syncBehavior());
  say("controller", configure(4));
  assertEquals(say("trainer-0", part(3, 0, 100)), []);
  assertEquals(say("trainer-0", part(5, 0, 100)), []);
  assertEquals(say("trainer-0", part(4, 0, 1)), []);
  say("controller", regroup(6));
  // What was on its way when the epoch ended, and what the lost trainer's successor sends for the same step.
  assertEquals(say("trainer-1", part(4, 2, 100)), []);
  assertEquals(say("trainer-1", part(6, 2, 20)), []);
  assertEquals(sumsOf(say("trainer-0", part(6, 0, 10))), [["trainer-1", 6, 30], ["trainer-0", 6, 30]]);
});

Deno.test("a contribution that is replayed after its sum is complete is told to nobody", () => {
  const say = drive(syncBehavior());
  say("controller", configure(4));
  say("trainer-0", part(4, 0, 1));
  assertEquals(sumsOf(say("trainer-1", part(4, 2, 2))).length, 2);
  assertEquals(say("trainer-1", part(4, 2, 2)), []);
  // And twice is once too often.
  assertThrows(() => say("trainer-1", part(4, 2, 2)), RangeError, "were given already");
  say("controller", regroup(5));
  say("trainer-0", part(5, 0, 1));
  assertEquals(sumsOf(say("trainer-1", part(5, 2, 2)))[0], ["trainer-0", 5, 3]);
});

const scores = (epoch: number, replica: number, { step = 0, value = 0.5, rows = 3 } = {}): Message => ({
  ...{ type: "scores", epoch, step, replica, batch: 3, rows },
  values: toWire(new Float32Array(2 * 3 * 12).fill(value).map((each, at) => each * (1 + at % 7))),
});

Deno.test("the coordinator counts no scores of another epoch, and no others of a replica that the run does not have", () => {
  const say = drive(sinkhornBehavior());
  say("controller", configure(4));
  for (const replica of [0, 1, 2]) say("trainer-0", scores(4, replica));
  assertEquals(say("trainer-1", scores(3, 3)), []);
  assertThrows(
    () => say("trainer-1", scores(4, 7)),
    RangeError,
    "Scores of replica 7 came from trainer-1; the run has 4",
  );
  assertThrows(() => say("trainer-1", scores(4, 2)), RangeError, "came twice, from trainer-1");
  const codes = say("trainer-1", scores(4, 3));
  assertEquals(codes.map(({ to }) => to), ["trainer-0", "trainer-0", "trainer-0", "trainer-1", "controller"]);
});

Deno.test("scores with rows missing fail the coordinator by the replica's name; replayed ones give nobody codes again", () => {
  const say = drive(sinkhornBehavior());
  say("controller", configure(4));
  for (const replica of [0, 1, 2, 3]) say("trainer-0", scores(4, replica));
  assertEquals(say("trainer-0", scores(4, 1)), []);
  for (const replica of [0, 1, 3]) say("trainer-0", scores(4, replica, { step: 1 }));
  assertThrows(
    () => say("trainer-1", scores(4, 2, { step: 1, rows: 4 })),
    RangeError,
    "replica 2 must send 2 × 4 × 12 scores, it sent 72",
  );
});

Deno.test("scores that are no numbers give codes that are none, and so a loss that ends the run, and no wait", () => {
  for (const value of [NaN, Infinity, -Infinity]) {
    const say = drive(sinkhornBehavior());
    say("controller", configure(4));
    for (const replica of [0, 1, 2]) say("trainer-0", scores(4, replica));
    const answers = say("trainer-1", scores(4, 3, { value }));
    assertEquals(answers.length, 5);
    for (const { message } of answers.slice(0, 4)) {
      assert(message.type === "codes" && f32FromWire(message.values).some(Number.isNaN), `${value}`);
    }
  }
});

Deno.test("sums and codes of another epoch, for nobody, or a second time change nothing of what a trainer waits for", async () => {
  const peers = new RemotePeers({ local: { low: 0, high: 2 }, epoch: 4, timeoutMs: 5_000, send() {} });
  const world = { low: 0, high: 4 };
  const sums = [0, 1].map((replica) => peers.collective(replica, world).allReduce("gradient/3/0", new Float32Array(1)));
  const codes = peers.assign({ step: 3, replica: 0, batch: 1, rows: 1, scores: new Float32Array(1) });
  const values = (value: number) => toWire(Float32Array.of(value));
  for (const epoch of [3, 5]) {
    assert(peers.receive({ type: "reduced", key, epoch, values: values(-1) }));
    assert(peers.receive({ type: "codes", step: 3, epoch, replica: 0, values: values(-1) }));
  }
  assert(peers.receive({ type: "codes", step: 2, epoch: 4, replica: 0, values: values(-2) }));
  assert(peers.receive({ type: "reduced", key: "gradient/2/0@0", epoch: 4, values: values(-2) }));
  for (const value of [7, 8]) {
    peers.receive({ type: "reduced", key, epoch: 4, values: values(value) });
    peers.receive({ type: "codes", step: 3, epoch: 4, replica: 0, values: values(value) });
  }
  assertEquals(await Promise.all([...sums, codes]), [7, 7, 7].map((value) => Float32Array.of(value)));
});

Deno.test("what a trainer that follows was sent twice counts once, and what is of an ended epoch never", async () => {
  const sums = new FollowedSums(5_000);
  sums.begin(4);
  for (const [epoch, value] of [[3, -1], [4, 7], [4, 8]]) {
    sums.receive({ type: "reduced", key, epoch, values: toWire(Float32Array.of(value)) });
  }
  assertEquals(await sums.take(4, key), Float32Array.of(7));
  const wait = sums.take(4, "gradient/3/1@0");
  sums.begin(5);
  let ended: unknown;
  await wait.catch((error) => ended = error);
  assert(ended instanceof EpochOver);
});

Deno.test("the controller commits on the word of those who take part in this step and epoch, each counted once", () => {
  const run = driveController(3);
  const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
  const prepared = (trainer: string, { epoch = 0, step = 0 } = {}) => {
    const low = trainer === "trainer-0" ? 0 : 2;
    const replicas = [low, low + 1].map((replica) => ({ replica, loss: 2, embeddingDeviation: 0.1 }));
    run.say(trainer, { type: "prepared", epoch, weights: "same", step, replicas, ...times });
  };
  const commits = () => run.kinds().filter((kind) => kind === "commit").length;
  run.say("sinkhorn", { type: "assignment", epoch: 0, step: 0, perplexity: 5 });
  prepared("trainer-0");
  prepared("trainer-0");
  prepared("trainer-1", { epoch: 7 });
  prepared("trainer-1", { step: 1 });
  // One that has no replicas.
  prepared("trainer-9");
  assertEquals(commits(), 0);
  prepared("trainer-1");
  const record = run.events.findLast((event) => event.kind === "step");
  assertEquals([commits(), record?.kind === "step" && record.record.loss], [1, 2]);
  // Replayed, after the step has been committed.
  prepared("trainer-0");
  prepared("trainer-1");
  run.say("sinkhorn", { type: "assignment", epoch: 0, step: 0, perplexity: 5 });
  assertEquals([commits(), run.kinds().at(-1)], [1, "step"]);
  run.kill("loader-0");
  run.say("trainer-0", { type: "regrouped", epoch: run.epoch() - 1 });
  prepared("trainer-0", { step: 1 });
  prepared("trainer-1", { step: 1 });
  assertEquals(commits(), 1, "the step of the epoch that has ended is void");
});
