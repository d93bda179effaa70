import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { ManualClock } from "../../../actors/runtime/clock.ts";
import { MemoryHub } from "../../../actors/runtime/memory_hub.ts";
import { LinkNetwork, type Network, openSocketNetwork } from "../../../actors/runtime/network.ts";
import { Authority, claimsSchema, Identity } from "../../../wire/identity.ts";
import type { Link } from "../../../wire/link.ts";
import { memoryLinkPair } from "../../../wire/memory_link.ts";
import type { Message } from "../../../wire/messages.ts";

const ping = (count: number): Message => ({ type: "ping", count });
const turn = () => new Promise((resolve) => setTimeout(resolve, 1));

/** Notes what a network delivers, as text. */
function noted(network: Network): string[] {
  const events: string[] = [];
  network.onMessage = (message, from) =>
    events.push(message.type === "ping" ? `${from} ping ${message.count}` : `${from} ${message.type}`);
  network.onPeerDown = (peer, reason) => events.push(`${peer} down: ${reason}`);
  return events;
}

/** A network whose connections a test makes by hand. */
function manual(reachTimeoutMs = 1_000, waitingMax = 5) {
  const clock = new ManualClock();
  const attempts: { peer: string; url: string; link: PromiseWithResolvers<Link> }[] = [];
  const network = new LinkNetwork({
    id: "a",
    clock,
    reachTimeoutMs,
    waitingMax,
    connect(peer, url) {
      const link = Promise.withResolvers<Link>();
      attempts.push({ peer, url, link });
      return link.promise;
    },
  });
  return { network, clock, attempts, events: noted(network) };
}

async function until(condition: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 5_000 && !condition(); attempt++) await turn();
  assert(condition(), "waited in vain");
}

Deno.test("the first message connects, and what is sent meanwhile arrives in order", async () => {
  const { network, attempts } = manual();
  network.addUrl("b", "url-b");
  assertEquals(attempts.length, 0);
  network.send("b", ping(1));
  network.send("b", ping(2));
  assertEquals(attempts.map(({ peer, url }) => [peer, url]), [["b", "url-b"]]);
  const [near, far] = memoryLinkPair("a", "b");
  const seen: Message[] = [];
  far.onMessage = (message) => seen.push(message);
  attempts[0].link.resolve(near);
  await turn();
  network.send("b", ping(3));
  await turn();
  assertEquals(seen, [ping(1), ping(2), ping(3)]);
});

Deno.test("messages wait for the directory that tells the peer's address", async () => {
  const { network, attempts, events } = manual();
  const [near, far] = memoryLinkPair("a", "boss");
  network.adopt(near);
  network.send("b", ping(1));
  assertEquals(attempts.length, 0);
  far.send({ type: "directory", actors: [{ id: "a", url: "own" }, { id: "b", url: "url-b" }] });
  await turn();
  assertEquals(attempts.map(({ peer, url }) => [peer, url]), [["b", "url-b"]]);
  assertEquals(events, ["boss directory"]);
});

Deno.test("a link that the peer opens carries what waited for it", async () => {
  const { network, attempts } = manual();
  network.addUrl("b", "url-b");
  network.send("b", ping(1));
  const [near, far] = memoryLinkPair("a", "b");
  network.adopt(near);
  const seen: Message[] = [];
  far.onMessage = (message) => seen.push(message);
  await turn();
  assertEquals(seen, [ping(1)]);
  // The own attempt succeeds later: both links stay, nobody is lost.
  const [late] = memoryLinkPair("a", "b");
  attempts[0].link.resolve(late);
  await turn();
  network.send("b", ping(2));
  await turn();
  assertEquals(seen, [ping(1), ping(2)]);
});

Deno.test("a peer that cannot be reached in time is down, once, and says what was missing", () => {
  const { network, clock, events } = manual();
  network.addUrl("b", "url-b");
  network.send("b", ping(1));
  network.send("c", ping(1));
  clock.advance(999);
  assertEquals(events, []);
  clock.advance(1);
  network.send("b", ping(2));
  clock.advance(10_000);
  assertEquals(events, ["b down: not reached within 1000 ms", "c down: not reached within 1000 ms: address unknown"]);
  assertEquals(clock.pending, 0);
});

Deno.test("a refused connection, another actor at the address, and too many waiting messages are losses", async () => {
  const { network, attempts, events } = manual();
  for (const peer of ["b", "c", "d"]) network.addUrl(peer, `url-${peer}`);
  network.send("b", ping(1));
  attempts[0].link.reject(new Error("nobody listens there"));
  network.send("c", ping(1));
  const [near] = memoryLinkPair("a", "mallory");
  attempts[1].link.resolve(near);
  await turn();
  for (let count = 0; count < 6; count++) network.send("d", ping(count));
  assertEquals(events, [
    "b down: nobody listens there",
    "c down: mallory answers at its address",
    "d down: 5 messages wait for its link",
  ]);
});

Deno.test("a lost link is reported once, after its messages, and a new one makes the peer known again", async () => {
  const { network, events } = manual();
  const [near, far] = memoryLinkPair("a", "b");
  const [second, farSecond] = memoryLinkPair("a", "b");
  network.adopt(near);
  network.adopt(second);
  far.send(ping(1));
  far.close("crashed");
  await turn();
  farSecond.close("crashed too");
  await turn();
  assertEquals(events, ["b ping 1", "b down: crashed"]);
  network.send("b", ping(2));
  const [again, farAgain] = memoryLinkPair("a", "b");
  network.adopt(again);
  farAgain.send(ping(3));
  await turn();
  assertEquals(events.slice(2), ["b ping 3"]);
});

Deno.test("a peer that was disconnected is no loss, and its late end does not touch the link of its successor", async () => {
  const { network, events } = manual();
  const [near, far] = memoryLinkPair("a", "b");
  network.adopt(near);
  let told = "";
  far.onClose = (reason) => told = reason;
  network.send("c", ping(0));
  network.disconnect("b", "attempt 2 begins");
  network.disconnect("c", "attempt 2 begins");
  const [second, farSecond] = memoryLinkPair("a", "b");
  network.adopt(second);
  await turn();
  assertEquals(told, "attempt 2 begins");
  far.close("crashed");
  farSecond.send(ping(1));
  await turn();
  assertEquals(events, ["b ping 1"]);
});

Deno.test("a connection that was under way to a peer that is gone is given up, and its successor is asked", async () => {
  const { network, attempts, events } = manual();
  network.addUrl("b", "url-b");
  network.send("b", ping(1));
  network.disconnect("b", "epoch 5 begins", 5);
  network.addUrl("b", "url-b-anew");
  network.send("b", ping(2));
  const [near, far] = memoryLinkPair("a", "b");
  attempts[0].link.resolve(near);
  const heard: Message[] = [];
  far.onMessage = (message) => heard.push(message);
  await turn();
  assertEquals([heard, attempts.map(({ url }) => url), events], [[], ["url-b", "url-b-anew"], []]);
});

Deno.test("a directory ends links to earlier starts, forgets losses, and is not believed about starts that are void", async () => {
  const { network, attempts, events } = manual();
  const [controllerLink, controller] = memoryLinkPair("a", "controller");
  network.adopt(controllerLink);
  const tell = async (url: string, attempt: number) => {
    controller.send({ type: "directory", actors: [{ id: "b", url, attempt }] });
    await turn();
  };
  const [near, far] = memoryLinkPair("a", "b");
  network.adopt(near);
  let ended = "";
  far.onClose = (reason) => ended = reason;
  await tell("url-of-7", 7);
  assertEquals(ended, "start 7 of it counts");
  await tell("url-of-3", 3);
  network.send("b", ping(1));
  attempts[0].link.reject(new Error("nobody listens there"));
  await turn();
  network.send("b", ping(2));
  await tell("url-of-7", 7);
  network.send("b", ping(3));
  assertEquals(attempts.map(({ url }) => url), ["url-of-7", "url-of-7"]);
  assertEquals(events.filter((line) => line.startsWith("b")), ["b down: nobody listens there"]);
});

Deno.test("nothing is delivered before both handlers are set, and nothing is lost by that", async () => {
  const network = new LinkNetwork({ id: "a", connect: () => Promise.reject(new Error("no")) });
  const [near, far] = memoryLinkPair("a", "b");
  network.adopt(near);
  far.send(ping(1));
  far.close("gone");
  await turn();
  assertEquals(noted(network), ["b ping 1", "b down: gone"]);
});

Deno.test("a peer cannot forge the loss of another", async () => {
  const { network, events } = manual();
  const [near, far] = memoryLinkPair("a", "b");
  network.adopt(near);
  far.send({ type: "peer-down", peer: "c", reason: "forged" });
  await turn();
  assertEquals(events, ['b down: "peer-down" must not come over a link']);
});

Deno.test("close() tells the peers, reports no losses, and refuses later links", async () => {
  const { network, events, clock } = manual();
  const [near, far] = memoryLinkPair("a", "b");
  network.adopt(near);
  network.send("c", ping(1));
  let reason = "";
  far.onClose = (text) => reason = text;
  await network.close("finished");
  network.send("b", ping(1));
  clock.advance(10_000);
  const [late, farLate] = memoryLinkPair("a", "d");
  network.adopt(late);
  let lateReason = "";
  farLate.onClose = (text) => lateReason = text;
  await turn();
  assertEquals([reason, lateReason, events], ["finished", "a has ended", []]);
});

Deno.test("MemoryHub joins actors by id, and a removed one is down for those that talked to it", async () => {
  const hub = new MemoryHub();
  const [a, b] = [hub.network("a"), hub.network("b")];
  const [eventsA, eventsB] = [noted(a), noted(b)];
  a.send("b", ping(1));
  await turn();
  b.send("a", ping(2));
  const c = hub.network("c");
  c.send("a", ping(3));
  await turn();
  assertEquals([eventsA, eventsB], [["b ping 2", "c ping 3"], ["a ping 1"]]);
  assertThrows(() => hub.network("a"), RangeError, '"a" is taken');
  hub.remove("b", "stopped");
  await turn();
  assertEquals(eventsA.slice(2), ["b down: stopped"]);
  a.send("d", ping(4));
  await a.close("test over");
});

Deno.test("socket networks find each other by directory and see a peer go", async () => {
  const token = "t";
  const open = (id: string) => openSocketNetwork({ id, token, listen: { hostname: "127.0.0.1", port: 0 } });
  const [a, b] = [open("a"), open("b")];
  const [eventsA, eventsB] = [noted(a.network), noted(b.network)];
  a.network.addUrl("b", b.url ?? "");
  for (let count = 0; count < 3; count++) a.network.send("b", ping(count));
  await until(() => eventsB.length === 3);
  b.network.send("a", ping(7));
  await until(() => eventsA.length === 1);
  await b.close("b has finished");
  await until(() => eventsA.length === 2);
  assertEquals(eventsA, ["b ping 7", "b down: b has finished"]);
  assertEquals(eventsB, ["a ping 0", "a ping 1", "a ping 2"]);
  await a.close("test over");
});

Deno.test("whoever has the run's secret renews the token of who has none, over its link", async () => {
  const listener = openSocketNetwork({ id: "controller", token: "secret", listen: { hostname: "127.0.0.1", port: 0 } });
  [listener.network.onMessage, listener.network.onPeerDown] = [() => {}, () => {}];
  const identity = new Identity(new Authority("secret").pass({ actor: "trainer-0", role: "actor", attempt: 3 }));
  const tokenOf = () => identity.header("controller").split(".").slice(0, 2).join(".");
  const first = tokenOf();
  const client = openSocketNetwork({ id: "trainer-0", token: identity });
  const heard: string[] = [];
  [client.network.onMessage, client.network.onPeerDown] = [({ type }) => heard.push(type), () => {}];
  try {
    client.network.addUrl("controller", listener.url ?? "");
    client.network.send("controller", { type: "ping", count: 1 });
    const renewed = async () => {
      while (tokenOf() === first) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    await deadline(renewed(), 10_000);
    const [body] = tokenOf().replace("Seer ", "").split(".");
    const { actor, attempt, key } = claimsSchema.parse(
      JSON.parse(atob(body.replaceAll("-", "+").replaceAll("_", "/"))),
    );
    assertEquals([actor, attempt, key], ["trainer-0", 3, identity.claims.key]);
    assertEquals(heard, [], "it is the network's business");
  } finally {
    await client.close("done");
    await listener.close("done");
  }
});

Deno.test("a socket network with a wrong token sees the peer as down, with the remedy", async () => {
  const server = openSocketNetwork({ id: "b", token: "right", listen: { hostname: "127.0.0.1", port: 0 } });
  const client = openSocketNetwork({ id: "a", token: "wrong" });
  assertEquals(client.url, null);
  const events = noted(client.network);
  client.network.addUrl("b", server.url ?? "");
  client.network.send("b", ping(1));
  await until(() => events.length === 1);
  assertStringIncludes(events[0], "the token was refused");
  await client.close("test over");
  await server.close("test over");
});
