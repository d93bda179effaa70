import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { delay } from "@std/async/delay";
import { WireError } from "../../wire/error.ts";
import { frameKind, greetingFrame } from "../../wire/frames.ts";
import { Authority, Identity } from "../../wire/identity.ts";
import type { Link } from "../../wire/link.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";
import { linkExam } from "./link_exam.ts";
import { token, withListener } from "./listener.ts";

/** What the actor `right` shows the listener `left`. */
function proof(): string {
  return Identity.ofSecret(token, { actor: "right", role: "actor", attempt: null }).header("left");
}

linkExam("socket", async (limits) => {
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "left", token, ...limits }, accepted.resolve);
  const right = await connectSocket(listener.url, { id: "right", token, ...limits });
  return { left: await deadline(accepted.promise, 15_000), right, close: () => listener.close() };
});

/** How a bare WebSocket ends after `act` has used it. */
async function bareSocket(url: string, act: (socket: WebSocket) => void): Promise<CloseEvent> {
  const socket = new WebSocket(url, { headers: { authorization: proof() } });
  const end = new Promise<CloseEvent>((resolve) => socket.onclose = resolve);
  socket.onopen = () => act(socket);
  return await deadline(end, 15_000);
}

Deno.test("a wrong token is refused with 401 before the upgrade, and the error says what to do", async () => {
  await withListener(async (listener, links) => {
    for (const wrong of ["", "wrong", "right-toke", "right-token2", "right-tokeN"]) {
      const connect = () => connectSocket(listener.url, { id: "right", token: wrong || "x" });
      await assertRejects(connect, WireError, "the token was refused; pass the token that the run printed");
    }
    const response = await fetch(listener.url.replace("ws:", "http:"), { headers: { upgrade: "websocket" } });
    assertEquals([response.status, await response.text()], [401, "wrong token\n"]);
    assertEquals(links, []);
  });
});

Deno.test("a page in a browser is refused even with the right token", async () => {
  await withListener(async (listener, links) => {
    const headers = { authorization: proof(), origin: "http://localhost", upgrade: "websocket" };
    const response = await fetch(listener.url.replace("ws:", "http:"), { headers });
    await response.body?.cancel();
    assertEquals([response.status, links.length], [403, 0]);
  });
});

Deno.test("plain HTTP is told that only WebSocket is spoken", async () => {
  await withListener(async (listener) => {
    const response = await fetch(listener.url.replace("ws:", "http:"), {
      headers: { authorization: proof() },
    });
    await response.body?.cancel();
    assertEquals(response.status, 426);
  });
});

Deno.test("a client that does not greet, or greets wrongly, is cut off and never becomes a link", async () => {
  await withListener(async (listener, links) => {
    assertEquals((await bareSocket(listener.url, () => {})).code, 1008);
    const foreign = new TextEncoder().encode('\u0000{"protocol":999,"id":"right"}');
    assertEquals((await bareSocket(listener.url, (socket) => socket.send(foreign))).reason.includes("999"), true);
    for (const id of ["", "a b", "x\ny", "a".repeat(201)]) {
      const end = await bareSocket(listener.url, (socket) => socket.send(greetingFrame(id)));
      assertEquals([end.code, end.reason], [1008, "greeting's actor id is malformed"]);
    }
    assertEquals(links, []);
  });
});

Deno.test("text frames, unknown frames and bad msgpack end the link with a reason", async () => {
  await withListener(async (listener, links) => {
    const whole = (...bytes: number[]) => new Uint8Array([frameKind.whole, ...bytes]);
    const cases: [string | Uint8Array<ArrayBuffer>, string][] = [
      ["{}", "text frame"],
      [new Uint8Array([9, 1]), "frame kind 9 is unknown"],
      [new Uint8Array(), "frame kind undefined is unknown"],
      [whole(0xc1), "type 0xc1"],
      [whole(0x81), "truncated"],
      [whole(1, 1), "trailing"],
      [whole(1), "message type undefined is unknown"],
    ];
    for (const [frame, reason] of cases) {
      const end = await bareSocket(listener.url, (socket) => {
        socket.send(greetingFrame("right"));
        socket.send(frame);
      });
      assertEquals(end.reason.startsWith("bad message from right: "), true, end.reason);
      assertEquals(end.reason.includes(reason), true, `${end.reason} should say ${reason}`);
    }
    assertEquals(links.length, cases.length);
  });
});

Deno.test("a port in use is one clear error with the port and the remedy", async () => {
  await withListener((listener) => {
    assertThrows(
      () => listen({ id: "other", token, port: listener.port }, () => {}),
      WireError,
      `listening on 127.0.0.1:${listener.port}: the port is in use; stop what uses it or pass --port with another`,
    );
    return Promise.resolve();
  });
});

Deno.test("connecting where nobody listens, or nobody answers, ends with a reason in time", async () => {
  const port = await new Promise<number>((resolve) => {
    const probe = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    probe.close();
    resolve(probe.addr.port);
  });
  const connect = (url: string) => connectSocket(url, { id: "right", token, timeoutMs: 500 });
  await assertRejects(() => connect(`ws://127.0.0.1:${port}/`), WireError, "nobody listens there");
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const error = await assertRejects(() => connect(`ws://127.0.0.1:${silent.addr.port}/`), WireError);
  assertEquals(error.message.includes("no answer within 500 ms"), true, error.message);
});

Deno.test("an address that is none is a WireError too", async () => {
  await assertRejects(() => connectSocket("not a url", { id: "right", token }), WireError, "not a url");
});

Deno.test("closing a listener ends its links with a reason and frees the port", async () => {
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "left", token }, accepted.resolve);
  const link = await connectSocket(listener.url, { id: "right", token });
  const end = new Promise<string>((resolve) => link.onClose = resolve);
  await accepted.promise;
  await listener.close();
  assertEquals(await deadline(end, 15_000), "left stopped listening");
  const again = listen({ id: "left", token, port: listener.port }, () => {});
  assert(again.port === listener.port);
  await again.close();
});

Deno.test("actors that all connect at once are all let in, each over a link of its own", async () => {
  const links: Link[] = [];
  const listener = listen({ id: "left", token }, (link) => links.push(link));
  try {
    const ids = Array.from({ length: 200 }, (_, index) => `actor-${index}`);
    const ends = await Promise.all(ids.map((id) => connectSocket(listener.url, { id, token })));
    for (const end of ends) end.send({ type: "ping", count: 1 });
    const heard = () => Promise.all(links.map((link) => new Promise((resolve) => link.onMessage = resolve)));
    while (links.length < ids.length) await new Promise((resolve) => setTimeout(resolve, 5));
    await deadline(heard(), 15_000);
    assertEquals(links.map(({ peer }) => peer).sort(), [...ids].sort());
    for (const end of ends) end.close("done");
    await deadline(Promise.all(ends.map((end) => end.ended)), 15_000);
  } finally {
    await listener.close();
  }
});

Deno.test("tokens are renewed until the link is over, and while it ends nothing goes wrong", async () => {
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "left", token, renewalMs: 1 }, accepted.resolve);
  const pass = new Authority(token).pass({ actor: "right", role: "actor", attempt: 2 });
  const right = await connectSocket(listener.url, { id: "right", token: new Identity(pass) });
  let renewed = 0;
  const often = new Promise<void>((resolve) => {
    right.onMessage = ({ type }) => type === "renewed" && ++renewed > 5 && resolve();
  });
  await deadline(often, 15_000);
  const left = await deadline(accepted.promise, 15_000);
  // What waits for the peer keeps the link from ending at once.
  for (let i = 0; i < 20; i++) left.send({ type: "failed", error: "x".repeat(16_000), logTail: [] });
  left.close("the run has ended");
  await delay(50);
  await listener.close();
  await deadline(right.ended, 15_000);
});
