/** What no decent client sends: control frames, masks, lengths and heads that break the protocol, and clients that only hold on. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { greetingFrame } from "../../wire/frames.ts";
import { connectSocket, type Listener } from "../../wire/socket_link.ts";
import { token, withListener } from "./listener.ts";
import { frame, opcodes, RawClient, upgradeRequest } from "./raw_client.ts";

const greeting = frame(opcodes.binary, greetingFrame("right"));
const { binary, close, continuation, ping, pong, text } = opcodes;
const bytes = (...values: number[]) => new Uint8Array(values);

/** Why the link ends of a client that greets and then sends `frames`. */
async function endOf(listener: Listener, frames: readonly Uint8Array[]): Promise<string> {
  const client = await RawClient.connect(listener.port);
  try {
    await client.send(upgradeRequest(token));
    assertStringIncludes(await client.readUntil("ticket"), "101 Switching Protocols");
    for (const each of [greeting, ...frames]) await client.send(each).catch(() => {});
    // The other side hangs up by itself, or says why and waits for the answer.
    const last = await client.readUntil("bad message");
    await client.send(frame(close, bytes())).catch(() => {});
    return last;
  } finally {
    client.close();
  }
}

const refused: Readonly<Record<string, [Uint8Array[], string]>> = {
  "a ping of 126 bytes": [[frame(ping, new Uint8Array(126))], "Ping frame too large"],
  "a ping in fragments": [[frame(ping, bytes(1), { final: false })], "Control frame must not be fragmented"],
  "a close frame in fragments": [
    [frame(close, bytes(3, 232), { final: false })],
    "Control frame must not be fragmented",
  ],
  "a close reason that is no UTF-8": [[frame(close, bytes(3, 232, 0xff, 0xfe))], "Invalid UTF-8"],
  "half a close code": [[frame(close, bytes(3))], "Invalid close frame"],
  "a close code that is none": [[frame(close, bytes(3, 237))], "Invalid close code"],
  "a reserved bit": [[frame(binary, bytes(1), { reserved: 0x40 })], "Reserved bits are not zero"],
  "an unknown opcode": [[frame(3, bytes(1))], "Invalid value"],
  "an unknown control opcode": [[frame(11, bytes(1))], "Invalid value"],
  "a continuation of nothing": [[frame(continuation, bytes(1))], "Invalid continuation frame"],
  "a message within another": [
    [frame(binary, bytes(1), { final: false }), frame(binary, bytes(1))],
    "Invalid fragment",
  ],
  "text that is no UTF-8": [[frame(text, bytes(0xff))], "Invalid UTF-8"],
  "a frame of 2^62 bytes": [[bytes(0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4)], "Frame too large"],
  // Masks protect proxies, of which there are none here; what is in the frame is judged like any other.
  "an unmasked frame of nonsense": [[frame(binary, bytes(9, 1), { masked: false })], "frame kind 9 is unknown"],
};

Deno.test("frames that break the protocol end their link with a reason, and no other link", async () => {
  await withListener(async (listener, links) => {
    const other = await connectSocket(listener.url, { id: "right", token });
    const ends: string[] = [];
    for (const [name, [frames, reason]] of Object.entries(refused)) {
      const end = endOf(listener, frames);
      await deadline(waitFor(() => links.length === ends.length + 2), 15_000);
      const link = links[links.length - 1];
      ends.push(await deadline(new Promise<string>((resolve) => link.onClose = resolve), 15_000));
      assertStringIncludes(ends[ends.length - 1], reason, name);
      await end;
    }
    const heard = new Promise((resolve) => links[0].onMessage = resolve);
    other.send({ type: "ping", count: 1 });
    assertEquals(await deadline(heard, 15_000), { type: "ping", count: 1 });
    other.close("done");
  });
});

Deno.test("pings of up to 125 bytes are answered, and pongs that nobody asked for are let pass", async () => {
  await withListener(async (listener, links) => {
    const client = await RawClient.connect(listener.port);
    try {
      await client.send(upgradeRequest(token));
      await client.readUntil("ticket");
      await client.send(greeting);
      for (let i = 0; i < 100; i++) await client.send(frame(pong, bytes(i)));
      await client.send(frame(ping, new TextEncoder().encode("x".repeat(125))));
      assertStringIncludes(await client.readUntil("x".repeat(125)), `\x8a\x7d${"x".repeat(125)}`);
      assertEquals(links.length, 1);
    } finally {
      client.close();
    }
  });
});

Deno.test("a head that grows without end is cut off at 64 KiB", async () => {
  await withListener(async (listener, links) => {
    const client = await RawClient.connect(listener.port);
    try {
      await client.send("GET / HTTP/1.1\r\nHost: left\r\n");
      for (let line = 0; line < 70; line++) await client.send(`X-${line}: ${"a".repeat(1_000)}\r\n`);
      assertStringIncludes(await client.read(), "HTTP/1.1 400 Bad Request");
      assertEquals(await client.read(), "", "the connection ends");
      assertEquals(links, []);
    } finally {
      client.close();
    }
  });
});

Deno.test("connections that send nothing, half a head, or an upgrade and no more keep nobody out", async () => {
  await withListener(async (listener, links) => {
    const clients: RawClient[] = [];
    try {
      for (let i = 0; i < 300; i++) {
        const client = await RawClient.connect(listener.port);
        clients.push(client);
        if (i % 3 > 0) await client.send(i % 3 === 1 ? "GET / HTTP/1.1\r\nHost: le" : upgradeRequest(token));
      }
      const link = await connectSocket(listener.url, { id: "right", token });
      const upgraded = clients.filter((_, index) => index % 3 === 2);
      // 1008, a policy violation.
      for (const client of upgraded) assertStringIncludes(await client.readUntil("\x03\xf0"), "\x03\xf0");
      assertEquals(links.length, 1, "who does not greet becomes no link");
      link.close("done");
    } finally {
      for (const client of clients) client.close();
    }
  });
});

async function waitFor(found: () => boolean): Promise<void> {
  while (!found()) await new Promise((resolve) => setTimeout(resolve, 2));
}
