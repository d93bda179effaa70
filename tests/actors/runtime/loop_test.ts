import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { deadline } from "@std/async/deadline";
import type { ActorId, Behavior, Effect } from "../../../actors/runtime/behavior.ts";
import { ManualClock } from "../../../actors/runtime/clock.ts";
import { type ActorHandle, type LoopOptions, runActor } from "../../../actors/runtime/loop.ts";
import type { Network } from "../../../actors/runtime/network.ts";
import type { Message } from "../../../wire/messages.ts";

/** A network that only notes what is sent. */
class NotedNetwork implements Network {
  readonly id = "actor";
  readonly sent: { to: ActorId; message: Message }[] = [];
  onMessage: ((message: Message, from: ActorId) => void) | undefined;
  onPeerDown: ((peer: ActorId, reason: string) => void) | undefined;
  send(to: ActorId, message: Message): void {
    this.sent.push({ to, message });
  }
  disconnect(peer: ActorId, reason: string): void {
    this.sent.push({ to: peer, message: { type: "stop", reason } });
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** An actor whose effects a test decides, with all that it saw. */
function start(
  effectsOf: (message: Message, from: ActorId) => Effect[],
  options: Partial<LoopOptions> & { initial?: Effect[] } = {},
) {
  const seen: { message: Message; from: ActorId }[] = [];
  const logged: string[] = [];
  const network = new NotedNetwork();
  const clock = new ManualClock();
  const behavior: Behavior<number> = {
    init: () => [0, options.initial ?? []],
    handle(count, message, from) {
      seen.push({ message, from });
      return [count + 1, effectsOf(message, from)];
    },
  };
  const log = (_level: string, text: string) => logged.push(text);
  const actor = runActor(behavior, { id: "actor", network, log, clock, controller: "boss", ...options });
  return { actor, seen, logged, network, clock };
}

const ping = (count: number): Message => ({ type: "ping", count });
const turn = () => new Promise((resolve) => setTimeout(resolve));

async function endOf(actor: ActorHandle): Promise<{ reason: string; error?: Error }> {
  return await deadline(actor.done, 10_000);
}

Deno.test("messages are handled one at a time, in order, never inside post()", async () => {
  let depth = 0;
  const { actor, seen } = start((message) => {
    assertEquals(depth++, 0);
    if (message.type === "ping" && message.count === 0) actor.post(ping(9));
    depth--;
    return [];
  });
  for (let count = 0; count < 3; count++) actor.post(ping(count), "peer");
  assertEquals(seen.length, 0);
  await turn();
  assertEquals(seen.map(({ message, from }) => [message.type === "ping" && message.count, from]), [
    [0, "peer"],
    [1, "peer"],
    [2, "peer"],
    [9, "self"],
  ]);
});

Deno.test("messages and lost peers of the network reach the behaviour", async () => {
  const { seen, network } = start(() => []);
  network.onMessage?.(ping(1), "peer");
  network.onPeerDown?.("peer", "gone");
  await turn();
  assertEquals(seen, [
    { message: ping(1), from: "peer" },
    { message: { type: "peer-down", peer: "peer", reason: "gone" }, from: "self" },
  ]);
});

Deno.test("effects are carried out in order, those after a stop are not", async () => {
  const { actor, network, logged } = start(() => [
    { kind: "log", level: "info", text: "working" },
    { kind: "send", to: "peer", message: ping(1) },
    { kind: "stop", reason: "enough" },
    { kind: "send", to: "peer", message: ping(2) },
  ]);
  actor.post(ping(0));
  actor.post(ping(0));
  assertEquals(await endOf(actor), { reason: "enough" });
  assertEquals([network.sent, logged], [[{ to: "peer", message: ping(1) }], ["working"]]);
});

Deno.test("a message to itself comes back as one from itself", async () => {
  const { seen, network } = start(() => [], { initial: [{ kind: "send", to: "actor", message: ping(5) }] });
  await turn();
  assertEquals([seen, network.sent], [[{ message: ping(5), from: "self" }], []]);
});

Deno.test("a throw fails the actor, and its controller gets the stack and the last log lines", async () => {
  const { actor, network } = start(() => {
    throw new RangeError("no such step");
  }, { logTail: () => ["before"] });
  actor.post(ping(1), "peer");
  const end = await endOf(actor);
  assertEquals(end.reason, 'handling "ping" from peer: no such step');
  const [{ to, message }] = network.sent;
  assert(message.type === "failed");
  assertEquals([to, message.logTail], ["boss", ["before"]]);
  assertStringIncludes(message.error, "RangeError: no such step");
  assertStringIncludes(message.error, "loop_test.ts");
});

Deno.test("a throw in init() and a fail effect end the actor the same way", async () => {
  const bad: Behavior<number> = {
    init() {
      throw new Error("no data");
    },
    handle: (state) => [state, []],
  };
  const network = new NotedNetwork();
  const broken = runActor(bad, { id: "actor", network, log: () => {}, controller: "boss" });
  assertEquals((await endOf(broken)).reason, "starting: no data");
  const { actor } = start(() => [], { initial: [{ kind: "fail", error: new Error("gave up") }] });
  assertEquals((await endOf(actor)).reason, "gave up");
});

Deno.test("a task's result comes back as a message from itself", async () => {
  const task: Effect = { kind: "task", name: "count", timeoutMs: 100, run: () => Promise.resolve(ping(3)) };
  const quiet: Effect = { kind: "task", name: "quiet", timeoutMs: 100, run: () => Promise.resolve() };
  const { seen, clock } = start(() => [], { initial: [task, quiet] });
  await turn();
  assertEquals([seen, clock.pending], [[{ message: ping(3), from: "self" }], 0]);
});

Deno.test("a task that rejects, throws or runs late fails the actor and names the task", async () => {
  const rejects = start(() => [], {
    initial: [{ kind: "task", name: "save", timeoutMs: 100, run: () => Promise.reject(new Error("disk full")) }],
  });
  assertEquals((await endOf(rejects.actor)).reason, 'task "save" failed: disk full');
  const throws = start(() => [], {
    initial: [{
      kind: "task",
      name: "load",
      timeoutMs: 100,
      run: () => {
        throw new Error("no file");
      },
    }],
  });
  assertEquals((await endOf(throws.actor)).reason, 'task "load" failed: no file');
  let aborted = false;
  const late = start(() => [], {
    initial: [{
      kind: "task",
      name: "wait",
      timeoutMs: 100,
      run: (signal) => new Promise(() => signal.addEventListener("abort", () => aborted = true)),
    }],
  });
  late.clock.advance(99);
  assertEquals(aborted, false);
  late.clock.advance(1);
  assertEquals((await endOf(late.actor)).reason, 'task "wait" did not finish within 100 ms');
  assertEquals(aborted, true);
});

Deno.test("when an actor ends, its tasks are aborted, its timers gone, and late results are dropped", async () => {
  let aborted = false;
  const pending = Promise.withResolvers<Message>();
  const { actor, seen, clock } = start(() => [], {
    initial: [
      { kind: "timer", name: "t", delayMs: 10, message: ping(1) },
      {
        kind: "task",
        name: "wait",
        timeoutMs: 100,
        run(signal) {
          signal.addEventListener("abort", () => aborted = true);
          return pending.promise;
        },
      },
    ],
    heartbeat: { to: "boss", intervalMs: 5 },
  });
  actor.stop("outside");
  assertEquals(await endOf(actor), { reason: "outside" });
  assertEquals(clock.pending, 0, "a deadline that is left would keep the process alive");
  pending.resolve(ping(2));
  actor.post(ping(3));
  clock.advance(1_000);
  await turn();
  assertEquals([aborted, seen.length], [true, 0]);
});

Deno.test("timers deliver once, are replaced by name, and can be cancelled", async () => {
  const { seen, clock, actor } = start(
    (message) => message.type === "stop" ? [{ kind: "cancel-timer", name: "b" }] : [],
    {
      initial: [
        { kind: "timer", name: "a", delayMs: 10, message: ping(1) },
        { kind: "timer", name: "a", delayMs: 20, message: ping(2) },
        { kind: "timer", name: "b", delayMs: 50, message: ping(3) },
      ],
    },
  );
  clock.advance(15);
  await turn();
  assertEquals(seen, []);
  clock.advance(5);
  actor.post({ type: "stop", reason: "" });
  await turn();
  clock.advance(1_000);
  await turn();
  assertEquals(seen.map(({ message }) => message), [ping(2), { type: "stop", reason: "" }]);
});

Deno.test("heartbeats go out at their interval with the number of messages handled", async () => {
  const { actor, network, clock } = start(() => [], { heartbeat: { to: "boss", intervalMs: 1_000 } });
  actor.post(ping(1));
  await turn();
  clock.advance(2_500);
  const beat = { to: "boss", message: { type: "heartbeat" as const, id: "actor", handled: 1 } };
  assertEquals(network.sent, [beat, beat]);
});

Deno.test("a flood beyond the mailbox fails the actor instead of growing", async () => {
  const { actor } = start(() => [], { mailboxCapacity: 10 });
  for (let count = 0; count < 11; count++) actor.post(ping(count), "peer");
  assertStringIncludes((await endOf(actor)).reason, 'mailbox is full: 10 messages wait and "ping" came from peer');
});

Deno.test("a long queue is handled in turns, so that timers get through", async () => {
  const { actor, seen, clock } = start(() => []);
  for (let count = 0; count < 200; count++) actor.post(ping(count));
  await turn();
  assertEquals(seen.length, 64);
  for (let turns = 0; turns < 4; turns++) {
    clock.advance(0);
    await turn();
  }
  assertEquals(seen.length, 200);
});
