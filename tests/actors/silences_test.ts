/** Decisions of the controller about a main thread that is stuck, and about links that are lost around a commit. */
import { assert, assertEquals } from "@std/assert";
import { actors, drive } from "./driven_controller.ts";

Deno.test("a main thread in an endless loop is found by its heartbeats though its process still sends pulses", () => {
  let now = 0;
  const run = drive(3, ["host-0"], { now: () => now });
  run.step(0);
  const others = [...actors, "host-0"].filter((id) => id !== "sync-0");
  const live = (ms: number) => {
    for (const end = now + ms; now < end;) {
      now += 250;
      for (const id of [...others, "sync-0"]) run.say(id, { type: "pulse" });
      for (const id of others) run.say(id, { type: "heartbeat", id, handled: 1 });
      for (const name of ["pulse", "watch"]) run.say("self", { type: "alarm", name });
    }
  };
  live(19_000);
  assert(!run.kinds().includes("regrouping"), "its pulses prove that the process runs");
  live(2_000);
  const lost = run.events.flatMap((event) => event.kind === "regrouping" && event.failure !== null ? [event] : []);
  assertEquals(lost.map(({ failure, lost }) => [failure?.actor, lost]), [["sync-0", ["sync-0"]]]);
  assertEquals(lost[0].failure?.error, "no sign of life for 20 s");
});

Deno.test("a link that is lost before the last trainer's word makes the step be taken again, one after it does not", () => {
  const before = drive(3);
  before.step(0);
  const report = { epoch: 0, weights: "same", step: 1, dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
  before.say("trainer-0", { type: "prepared", ...report, replicas: [{ replica: 0, loss: 2, embeddingDeviation: 0 }] });
  before.say("sinkhorn", { type: "assignment", epoch: 0, step: 1, perplexity: 5 });
  before.sent();
  before.kill("trainer-1");
  const commits = before.events.flatMap((event) => event.kind === "commit" ? [event.record.step] : []);
  assertEquals(commits, [0]);
  before.regroup("checkpointer", "loader-0", "sinkhorn", "sync-0", "trainer-0");
  assert(before.sent().includes("step trainer-0"), "the step is taken again by who is left");
  before.step(1);
  assertEquals(before.kinds().filter((kind) => kind === "commit").length, 2);

  const after = drive(3);
  after.step(0);
  after.sent();
  after.step(1);
  // Written before anybody hears of it; what was on its way to trainer-1 is lost with its link.
  const order = after.sent();
  assertEquals(order.slice(0, 2), ["commit trainer-0", "commit trainer-1"]);
  assertEquals(after.kinds().filter((kind) => kind === "commit").length, 2);
  after.kill("trainer-1");
  after.regroup("checkpointer", "loader-0", "sinkhorn", "sync-0", "trainer-0");
  const steps = after.events.flatMap((event) => event.kind === "step" ? [event.record.step] : []);
  assertEquals(steps, [0, 1]);
  after.step(2);
  assertEquals(after.events.flatMap((event) => event.kind === "step" ? [event.record.step] : []), [0, 1, 2]);
});
