import { assert, assertEquals } from "@std/assert";
import type { Effect } from "../../actors/runtime/behavior.ts";
import { actors, drive } from "./driven_controller.ts";

const local = (options: Parameters<typeof drive>[2] = {}) => {
  const counted = { replaced: 0 };
  const run = drive(2, ["host-0"], { replaceLocalHost: () => counted.replaced++, ...options });
  return { run, counted };
};

Deno.test("the loss of the host beside the controller costs no step: its actors go on, and the next host watches over them", () => {
  const { run, counted } = local();
  run.step(0);
  run.sent();
  run.kill("host-0");
  const event = run.events.at(-1);
  assert(event?.kind === "host-lost");
  assertEquals([counted.replaced, event.failure.actor, event.restart], [1, "host-0", 1]);
  assertEquals(run.sent(), [], "nobody is told anything");
  run.step(1);
  assertEquals(run.kinds().slice(-2), ["commit", "step"]);
  run.sent();
  run.say("host-0", { type: "host-ready", adapters: [] });
  const orders = run.orders("take-over");
  assertEquals(orders.map(({ actors }) => actors.map(({ id, attempt, pid }) => `${id} ${attempt} ${pid}`)), [
    actors.map((id, at) => `${id} 0 ${10 + at}`),
  ]);
  run.step(2);
  assertEquals(run.kinds().filter((kind) => kind === "regrouping" || kind === "restarting"), []);
});

Deno.test("an actor that is lost while no host is there starts with the next one, as do those that had not said hello", () => {
  const { run } = local();
  run.step(0);
  // The loader's successor has not said hello when the host goes.
  run.kill("loader-0");
  assertEquals(run.sent().filter((line) => line.startsWith("spawn")), ["spawn host-0"]);
  run.kill("host-0");
  run.say("self", { type: "peer-down", peer: "trainer-1", reason: "reset" });
  assert(run.timers().includes("lost 20"), "nobody knows more of it than its link tells");
  run.say("self", { type: "alarm", name: "lost" });
  const event = run.events.at(-1);
  assert(event?.kind === "regrouping");
  assertEquals([event.lost, event.trainers], [["trainer-1"], ["trainer-0"]]);
  assertEquals(run.sent().filter((line) => line.startsWith("spawn")), []);
  run.say("host-0", { type: "host-ready", adapters: [] });
  assertEquals(run.orders("spawn").map(({ id }) => id), ["loader-0", "trainer-1"]);
});

Deno.test("a host that does not come again, or is lost again and again, ends the run with the cause", () => {
  const late = local();
  late.run.step(0);
  late.run.kill("host-0");
  assert(late.run.timers().some((timer) => timer.startsWith("local-host ")), late.run.timers().join());
  late.run.say("self", { type: "alarm", name: "local-host" });
  assertEquals([late.counted.replaced, late.run.kinds().at(-1)], [2, "host-lost"]);
  late.run.say("self", { type: "alarm", name: "local-host" });
  const event = late.run.events.at(-1);
  assert(event?.kind === "failed");
  assertEquals(event.failure.actor, "host-0");
  // A step that is taken while one is there counts the losses anew.
  const { run } = local();
  for (let step = 0; step < 4; step++) {
    run.step(step);
    run.say("checkpointer", { type: "saved", step: step + 1, folder: "/saved", digest: "d".repeat(64) });
    run.kill("host-0");
    run.say("host-0", { type: "host-ready", adapters: [] });
  }
  assert(!run.kinds().includes("failed"), run.kinds().join());
});

Deno.test("an actor without a host tells its own log lines, and nobody else's", () => {
  const { run } = local();
  run.say("trainer-0", { type: "log-lines", actor: "trainer-0", lines: ["mine"] });
  run.say("trainer-0", { type: "log-lines", actor: "trainer-1", lines: ["not mine"] });
  assertEquals(run.events.flatMap((event) => event.kind === "log" ? event.lines : []), ["mine"]);
});

Deno.test("who comes back in the name of a later start is let in, and no earlier one", () => {
  const fences = (effects: readonly Effect[]) =>
    effects.flatMap((effect) =>
      effect.kind === "disconnect" ? effect.peers.map((id) => `${id} ${effect.below ?? 0}`) : []
    );
  const { run } = local();
  run.step(0);
  run.kill("loader-0");
  const { attempt } = run.orders("spawn")[0];
  assert(attempt !== undefined);
  run.kill("host-0");
  const fence = fences(run.effects()).findLast((line) => line.startsWith("loader-0"));
  assertEquals(fence, `loader-0 ${attempt + 1}`, "its process may still be on its way");
});
