import { assertEquals } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { roleOf, runPolicy, speakingRoles, whoMaySend } from "../../actors/who_may_send.ts";
import { frameKind, greetingFrame } from "../../wire/frames.ts";
import { typeFirst, typeOf } from "../../wire/head.ts";
import { Identity } from "../../wire/identity.ts";
import type { Link } from "../../wire/link.ts";
import { localMessageTypes, type Message, messages } from "../../wire/messages.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";
import { memoryLinkPair } from "../../wire/memory_link.ts";
import { LinkNetwork } from "../../actors/runtime/network.ts";

const token = "of this test";

/** Ids that stand for each role. */
const idOf: Readonly<Record<string, string>> = {
  controller: "controller",
  host: "host-0",
  loader: "loader-0",
  trainer: "trainer-1",
  sync: "sync-2",
  sinkhorn: "sinkhorn",
  checkpointer: "checkpointer",
  evaluator: "evaluator",
  extractor: "extractor-0",
  gpu: "gpu",
};

Deno.test("every message type has a line in the table, and every id of a run a role", () => {
  assertEquals(messages.names.filter((name) => !Object.hasOwn(whoMaySend, name)), []);
  assertEquals(speakingRoles.map((role) => roleOf(idOf[role])), [...speakingRoles]);
  const foreign = ["", "trainer", "trainer-", "controller-0", "sinkhorn-1", "trainer-0 ", "Trainer-0", "x-0", "self"];
  assertEquals(foreign.map(roleOf), foreign.map(() => undefined));
});

Deno.test("over all roles and types, a network delivers what the table lists, and closes the link of all else by name", () => {
  const types = [...messages.names, "no-such-type"];
  let delivered = 0, refused = 0;
  for (const from of speakingRoles) {
    for (const to of speakingRoles) {
      for (const type of types) {
        const rule = Object.hasOwn(whoMaySend, type) ? whoMaySend[type] : { from: [], to: [] };
        const expected = from === "gpu"
          ? rule.from.some((role) => role === to)
          : rule.from.some((role) => role === from) && rule.to.some((role) => role === to);
        assertEquals(runPolicy.maySend(type, { from, to }), expected, `${from} "${type}" ${to}`);
        const [, ownSide] = memoryLinkPair(idOf[from], idOf[to]);
        let got = 0;
        const network = new LinkNetwork({
          id: idOf[to],
          policy: runPolicy,
          connect: () => Promise.reject(new Error()),
          onToken: () => got++,
        });
        const closed: string[] = [];
        const inner: Link = ownSide;
        network.adopt(inner);
        Object.defineProperty(inner, "close", { value: (reason: string) => closed.push(reason) });
        network.onMessage = () => got++;
        network.onPeerDown = () => {};
        // The network looks at the type alone, so the body of a real message is not needed.
        const message: object = { type, actors: [] };
        inner.onMessage?.(message as Message);
        if (localMessageTypes.has(type)) continue;
        assertEquals([got, closed], expected ? [1, []] : [0, [`role ${from} may not send "${type}" to role ${to}`]]);
        if (expected) delivered++;
        else refused++;
      }
    }
  }
  assertEquals(delivered > 50 && refused > 2_000, true);
});

Deno.test("a socket link refuses by role and type before it looks at the body, and before it sets memory aside", async () => {
  const links: Link[] = [];
  const listener = listen({ id: "sync-0", token, policy: runPolicy }, (link) => links.push(link));
  const endOf = async (id: string, frames: readonly Uint8Array<ArrayBuffer>[]): Promise<string> => {
    const subject = { actor: id, role: roleOf(id) ?? "actor", attempt: null };
    const authorization = Identity.ofSecret(token, subject).header("sync-0");
    const socket = new WebSocket(listener.url, { headers: { authorization } });
    const end = new Promise<string>((resolve) => socket.onclose = ({ reason }) => resolve(reason));
    socket.onopen = () => [greetingFrame(id), ...frames].forEach((frame) => socket.send(frame));
    return await deadline(end, 15_000);
  };
  try {
    // A map of which only the type is msgpack; behind it 0xc1, which msgpack does not know.
    const head = (type: string) => [0x82, 0xa4, ...bytesOf("type"), 0xa0 | type.length, ...bytesOf(type), 0xc1, 0xc1];
    const whole = (type: string) => new Uint8Array([frameKind.whole, ...head(type)]);
    assertEquals(
      await endOf("loader-0", [whole("prepared")]),
      'bad message from loader-0: role loader may not send "prepared" to role sync',
    );
    assertEquals(
      (await endOf("trainer-0", [whole("contribute")])).includes("no string"),
      true,
      "the body is read then",
    );
    assertEquals(
      await endOf("trainer-0", [whole("reduced")]),
      'bad message from trainer-0: role trainer may not send "reduced" to role sync',
    );
    assertEquals(await endOf("stranger", [whole("contribute")]), "", "no role, no upgrade");
    const announced = new Uint8Array(9);
    announced[0] = frameKind.announcement;
    new DataView(announced.buffer).setBigUint64(1, 500n * 1024n * 1024n, true);
    const piece = new Uint8Array([...head("stop"), ...new Uint8Array(100)]);
    assertEquals((await endOf("trainer-0", [announced, piece])).includes('may not send "stop"'), true);
    const large = await endOf("controller", [announced, piece]);
    assertEquals(large.includes('"stop" of 524288000 bytes is larger than the 16777216'), true, large);
    assertEquals(links.length, 5);
  } finally {
    await listener.close();
  }
});

Deno.test("a link that floods is closed with the type and the rate", async () => {
  const closed = Promise.withResolvers<string>();
  const listener = listen({ id: "controller", token, policy: runPolicy }, (link) => {
    link.onMessage = () => {};
    link.onClose = closed.resolve;
  });
  const link = await connectSocket(listener.url, { id: "trainer-0", token, policy: runPolicy });
  try {
    for (let count = 0; count < 60_000 && link.bufferedBytes >= 0; count++) {
      link.send({ type: "heartbeat", id: "trainer-0", handled: count });
    }
    assertEquals(
      await deadline(closed.promise, 15_000),
      'bad message from trainer-0: "heartbeat" comes more often than 2000 times a second',
    );
  } finally {
    await listener.close();
  }
});

Deno.test("the type is read from a message's first bytes, and only from there", () => {
  const cases: [number[], string][] = [
    [[], "no map"],
    [[0x93], "no map"],
    [[0x81, 0xa3, 1, 2, 3], "first field"],
    [[0x81, 0xa4, ...bytesOf("type")], "malformed"],
    [[0x81, 0xa4, ...bytesOf("type"), 0xa5, ...bytesOf("st")], "malformed"],
    [[0x81, 0xa4, ...bytesOf("type"), 0xd9, 200, ...new Array(200).fill(97)], "malformed"],
    [[0x81, 0xa4, ...bytesOf("type"), 0xa2, 0x1b, 0x5b], "printable"],
    [[0x81, 0xa4, ...bytesOf("type"), 0x01], "malformed"],
  ];
  for (const [bytes, text] of cases) {
    let error = "";
    try {
      typeOf(new Uint8Array(bytes));
    } catch (caught) {
      error = String(caught);
    }
    assertEquals([error.includes(text), error.startsWith("WireError")], [true, true], `${bytes}: ${error}`);
  }
  assertEquals(typeOf(new Uint8Array([0xdf, 0, 0, 0, 1, 0xa4, ...bytesOf("type"), 0xa4, ...bytesOf("stop")])), "stop");
  assertEquals(Object.keys(typeFirst({ reason: "", type: "stop" })), ["type", "reason"]);
});

function bytesOf(text: string): number[] {
  return [...new TextEncoder().encode(text)];
}
