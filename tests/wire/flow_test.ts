import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { Assembler } from "../../wire/assembler.ts";
import { batchBytesMax, batchOf, framesIn } from "../../wire/batch.ts";
import { decode, encode } from "../../wire/codec.ts";
import { windowBytes } from "../../wire/credit.ts";
import { WireError } from "../../wire/error.ts";
import { frameKind, framesOf, greetingFrame, readGreeting } from "../../wire/frames.ts";
import { Identity } from "../../wire/identity.ts";
import type { Link, LinkLimits } from "../../wire/link.ts";
import type { Message } from "../../wire/messages.ts";
import { SocketLink } from "../../wire/socket_end.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";
import { toWire } from "../../wire/tensor.ts";

const token = "of this test";
const stop: Message = { type: "stop", reason: "over" };

function part(name: string, megabytes: number): Message {
  return { type: "weights-part", name, tensor: toWire(new Float32Array(megabytes * 2 ** 18).fill(1.5)) };
}

/** Runs `test` with a listener of actor "left" and the link that `connect` makes to it as actor "right". */
async function withLeft(
  test: (left: SocketLink, url: string) => Promise<void>,
  { connect, ...limits }: LinkLimits & { connect(url: string): Promise<unknown> | void },
): Promise<void> {
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "left", token, ...limits }, accepted.resolve);
  try {
    const [left] = await deadline(Promise.all([accepted.promise, connect(listener.url)]), 15_000);
    assert(left instanceof SocketLink);
    await test(left, listener.url);
  } finally {
    await listener.close();
  }
}

/** A peer made by hand: shows who it is, and afterwards only what the test sends. */
class Bare {
  readonly socket: WebSocket;
  readonly frames: Uint8Array<ArrayBuffer>[] = [];
  readonly closed: Promise<string>;
  /** Resolves to the listener's ticket once greetings are exchanged. */
  readonly open: Promise<string | undefined>;

  constructor(url: string, { id = "right", bulk }: { id?: string; bulk?: string } = {}) {
    const authorization = Identity.ofSecret(token, { actor: id, role: "actor", attempt: null }).header("left");
    this.socket = new WebSocket(url, { headers: { authorization } });
    this.socket.binaryType = "arraybuffer";
    this.closed = new Promise((resolve) => this.socket.onclose = ({ reason }) => resolve(reason));
    this.open = new Promise((resolve) =>
      this.socket.onmessage = ({ data }) => {
        const frame = new Uint8Array(data);
        if (this.frames.push(frame) > 1) return;
        this.socket.send(greetingFrame(id, { bulk }));
        resolve(readGreeting(frame).ticket);
      }
    );
  }

  send(...frames: Uint8Array<ArrayBuffer>[]): void {
    for (const frame of frames) this.socket.send(frame);
  }
}

/** Runs `test` with a link whose other end is made by hand. */
async function withBare(
  test: (left: SocketLink, bare: { main: Bare; ticket: string; url: string }) => Promise<void>,
  limits: LinkLimits = {},
): Promise<void> {
  let main: Bare | undefined;
  await withLeft(async (left, url) => {
    assert(main !== undefined);
    const ticket = await main.open;
    assert(ticket !== undefined);
    await test(left, { main, ticket, url });
    main.socket.close();
    await deadline(main.closed, 15_000);
  }, { ...limits, connect: (url) => void (main = new Bare(url)) });
}

function endOf(link: Link): Promise<string> {
  return deadline(new Promise((resolve) => link.onClose = resolve), 15_000);
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 5_000 && !condition(); turn++) await new Promise((resolve) => setTimeout(resolve, 2));
  assert(condition(), "waited in vain");
}

function credit(bytes: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array([frameKind.credit, 0, 0, 0, 0]);
  new DataView(frame.buffer).setUint32(1, bytes, true);
  return frame;
}

Deno.test("a frozen reader costs at most two windows in the sockets, and gets all in order once it goes on", async () => {
  let child: Deno.ChildProcess | undefined;
  const spawn = (url: string) => {
    const script = new URL("./reader_entry.ts", import.meta.url).href;
    const args = ["run", "--no-prompt", "--allow-net=127.0.0.1", "--allow-env", script, url, token, "12"];
    child = new Deno.Command(Deno.execPath(), { args }).spawn();
  };
  await withLeft(async (left) => {
    assert(child !== undefined);
    const answers: string[] = [];
    left.onMessage = (message) => message.type === "log" && answers.push(message.text);
    // The bulk connection is there before the reader freezes.
    left.send(part("0", 1));
    left.send({ type: "ping", count: 1 });
    await until(() => answers.length === 1);
    child.kill("SIGSTOP");
    for (let index = 1; index < 12; index++) left.send(part(String(index), 8));
    for (let turn = 0; turn < 100; turn++) {
      assert(left.socketBytes <= 2 * windowBytes, `${left.socketBytes} bytes wait in the sockets`);
      assert(left.bufferedBytes >= 11 * 8 * 2 ** 20 - 3 * windowBytes, `${left.bufferedBytes} bytes wait in all`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    child.kill("SIGCONT");
    await until(() => answers.length === 2);
    assertEquals(answers[1], Array.from({ length: 12 }, (_, index) => index).join(" "));
    assertEquals(left.bufferedBytes, 0);
    left.close("the test has ended");
    await child.status;
  }, { connect: spawn });
});

Deno.test("an urgent message overtakes what waits, all others keep their order, over both connections", async () => {
  let right: Link | undefined;
  await withLeft(async (left) => {
    assert(right !== undefined);
    const got: string[] = [];
    right.onMessage = (message) => got.push(message.type === "weights-part" ? message.name : message.type);
    left.send({ type: "ping", count: 1 });
    for (let index = 0; index < 6; index++) {
      left.send(part(String(index), 7));
      left.send({ type: "pong", count: index });
    }
    left.send(stop);
    await until(() => got.length === 14);
    assertEquals(got.filter((name) => name !== "stop").join(" "), "ping 0 pong 1 pong 2 pong 3 pong 4 pong 5 pong");
    assert(got.indexOf("stop") < 10, got.join(" "));
  }, { connect: async (url) => right = await connectSocket(url, { id: "right", token }) });
});

Deno.test("what waits for credit when a link is closed still leaves, and then the reason", async () => {
  let right: Link | undefined;
  await withLeft(async (left) => {
    assert(right !== undefined);
    const got: string[] = [];
    right.onMessage = (message) => got.push(message.type === "weights-part" ? message.name : message.type);
    for (let index = 0; index < 5; index++) left.send(part(String(index), 8));
    left.close("finished");
    assertEquals([await endOf(right), got], ["finished", ["0", "1", "2", "3", "4"]]);
    await deadline(left.ended, 15_000);
  }, { connect: async (url) => right = await connectSocket(url, { id: "right", token }) });
});

Deno.test("a client that ends with much to send still sends it", async () => {
  let right: Link | undefined;
  await withLeft(async (left) => {
    assert(right !== undefined);
    const got: string[] = [];
    left.onMessage = (message) => got.push(message.type === "weights-part" ? message.name : message.type);
    for (let index = 0; index < 5; index++) right.send(part(String(index), 8));
    right.close("finished");
    assertEquals([await endOf(left), got], ["finished", ["0", "1", "2", "3", "4"]]);
  }, { connect: async (url) => right = await connectSocket(url, { id: "right", token }) });
});

Deno.test("a peer that never grants credit gets a window, then the link ends by the bound of what waits, naming it", async () => {
  await withBare(async (left) => {
    const end = endOf(left);
    const message: Message = { type: "log", level: "info", text: "a".repeat(16_000) };
    let sent = 0;
    const fill = () => {
      for (; sent < 10_000; sent++) left.send(message);
    };
    assertThrows(fill, WireError, 'sending "log": right does not read: ');
    assert(sent * 16_000 > windowBytes, `${sent} messages`);
    assertStringIncludes(await end, "at most 12000000 and 100000 may");
  }, { bufferedBytesMax: 12_000_000 });
  await withBare((left) => {
    const fill = () => {
      for (let sent = 0; sent < 10_000; sent++) left.send({ type: "log", level: "info", text: "a".repeat(16_000) });
    };
    assertThrows(fill, WireError, "and 20 messages wait, at most 1073741824 and 20 may");
    return Promise.resolve();
  }, { bufferedMessagesMax: 20 });
});

Deno.test("what arrives at a peer that does not grant is at most a window", async () => {
  await withBare(async (left, { main }) => {
    for (let index = 0; index < 200; index++) {
      left.send({ type: "weights-part", name: "w", tensor: toWire(new Uint8Array(100_000)) });
    }
    await until(() => left.socketBytes === 0);
    left.send({ type: "heartbeat", id: "left", handled: 7 });
    await until(() => ((main.frames.at(-1)?.[0] ?? 0) & 15) === frameKind.urgent);
    const bytes = main.frames.slice(1, -1).reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert(bytes <= windowBytes && bytes > windowBytes - 200_000, `${bytes} bytes came`);
  });
});

Deno.test("a peer that sends beyond its credit, or grants what was never sent, is cut off with the reason", async () => {
  const large = [...framesOf({ head: encode({ type: "log", level: "info", text: "a".repeat(16_000) }) })][0];
  await withBare(async (_, { main }) => {
    // Nobody takes what has come, so nothing is granted.
    for (let sent = 0; sent <= windowBytes; sent += large.byteLength) main.send(large);
    assertStringIncludes(
      await deadline(main.closed, 15_000),
      "bytes were sent beyond the credit; the window is 8388608",
    );
  });
  await withBare(async (left, { main }) => {
    left.onMessage = () => {};
    for (let sent = 0; sent <= 3 * windowBytes; sent += large.byteLength) {
      main.send(large);
      if (sent % 2 ** 20 < large.byteLength) await new Promise((resolve) => setTimeout(resolve));
    }
    main.send(credit(1));
    assertStringIncludes(await deadline(main.closed, 15_000), "a grant of 1 bytes is more than was sent");
  });
});

Deno.test("small messages that wait for credit leave together in batches, in order, within what is granted", async () => {
  await withBare(async (left, { main }) => {
    const count = 300;
    for (let index = 0; index < count; index++) {
      // Every tenth is too large to leave with another one; of the last, more would fit into a batch than it may hold.
      const bytes = index >= 200 ? 10 : index % 10 === 0 ? 250_000 : 60_001;
      left.send({ type: "weights-part", name: String(index), tensor: toWire(new Uint8Array(bytes)) });
    }
    left.send({ type: "heartbeat", id: "left", handled: 7 });
    const assembler = new Assembler(2 ** 20), names: string[] = [];
    let taken = 1, granted = windowBytes, came = 0, batches = 0, inBatches = 0;
    const take = () => {
      for (; taken < main.frames.length; taken++) {
        const frame = main.frames[taken];
        if ((frame[0] & 15) === frameKind.urgent) continue;
        came += frame.byteLength;
        assert(came <= granted, `${came} bytes came where ${granted} were granted`);
        assert(frame.byteLength <= batchBytesMax);
        const batch = frame[0] === frameKind.batch, frames = batch ? [...framesIn(frame)] : [frame];
        if (batch) batches++, inBatches += frames.length;
        for (const each of frames) {
          const packed = assembler.take(each), message = packed && decode(packed.head);
          assert(message?.type === "weights-part");
          names.push(message.name);
        }
      }
    };
    while (names.length < count) {
      await until(() => main.frames.length > taken);
      take();
      if (left.bufferedBytes === 0 || came < granted - 2 * batchBytesMax) continue;
      main.send(credit(windowBytes - (granted - came)));
      granted = came + windowBytes;
    }
    assertEquals(names, Array.from({ length: count }, (_, index) => String(index)));
    assert(batches > 10 && inBatches > 2 * batches, `${inBatches} messages in ${batches} batches`);
  });
});

Deno.test("a batch is delivered in order and granted once all of it is taken; what is wrong in it ends the link", async () => {
  const log = (text: string) => [...framesOf({ head: encode({ type: "log", level: "info", text }) })][0];
  await withBare(async (left, { main }) => {
    const got: string[] = [];
    let sent = 0;
    const large = batchOf(Array.from({ length: 16 }, (_, index) => log(String(index % 10).repeat(16_000)))).slice();
    // All five are worth a grant, four are not; of the fifth all messages but one wait.
    for (; sent < 5; sent++) main.send(large);
    left.onMessage = (message) => {
      if (message.type !== "log") return;
      got.push(message.text.slice(0, 1));
      if (got.length === 65) left.onMessage = undefined;
    };
    await until(() => left.holding && got.length === 65);
    assertEquals(got.join(""), "0123456789012345".repeat(4) + "0");
    const grants = () =>
      main.frames.filter(([kind]) => kind === frameKind.credit)
        .reduce((sum, { buffer }) => sum + new DataView(buffer).getUint32(1, true), 0);
    left.send({ type: "heartbeat", id: "left", handled: 7 });
    await until(() => main.frames.some(([kind]) => (kind & 15) === frameKind.urgent));
    assertEquals(grants(), 0);
    left.onMessage = (message) => got.push(message.type);
    await until(() => got.length === 80 && grants() > 0);
    assertEquals(grants(), 5 * large.byteLength);
    main.send(batchOf([log("good"), new Uint8Array([frameKind.whole, 1, 2, 3])]).slice());
    assertStringIncludes(await deadline(main.closed, 15_000), "message has 2 trailing bytes");
    assertEquals(got.length, 81);
  });
});

Deno.test("a bulk connection that is closed alone, a foreign ticket and a ticket used twice end or refuse it", async () => {
  await withBare(async (left, { main, ticket, url }) => {
    const end = endOf(left);
    const foreign = new Bare(url, { bulk: crypto.randomUUID() });
    assertEquals(await deadline(foreign.closed, 15_000), "there is no such link");
    const other = new Bare(url, { id: "mallory", bulk: ticket });
    assertEquals(await deadline(other.closed, 15_000), "there is no such link");
    const bulk = new Bare(url, { bulk: ticket });
    await bulk.open;
    const second = new Bare(url, { bulk: ticket });
    assertEquals(await deadline(second.closed, 15_000), "there is no such link");
    bulk.socket.close(1000);
    assertEquals(await end, "bulk connection to right was lost");
    assertEquals(await deadline(main.closed, 15_000), "bulk connection to right was lost");
  });
});

Deno.test("what comes over the bulk connection waits until the first one says that the peer has moved there", async () => {
  await withBare(async (left, { main, ticket, url }) => {
    const got: string[] = [];
    left.onMessage = (message) => got.push(message.type === "log" ? message.text : message.type);
    const log = (text: string) => [...framesOf({ head: encode({ type: "log", level: "info", text }) })][0];
    const bulk = new Bare(url, { bulk: ticket });
    await bulk.open;
    bulk.send(log("second"), log("third"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(got, []);
    main.send(log("first"), new Uint8Array([frameKind.moved]));
    await until(() => got.length === 3);
    assertEquals(got, ["first", "second", "third"]);
    main.send(new Uint8Array([frameKind.moved]));
    assertStringIncludes(await deadline(main.closed, 15_000), "moved to the bulk connection twice");
    await deadline(bulk.closed, 15_000);
  });
});

Deno.test("only urgent types travel without credit, and only small", async () => {
  const urgent = (message: Message) => [...framesOf({ head: encode(message) }, 2 ** 20, { urgent: true })][0];
  const cases: [Uint8Array<ArrayBuffer>, string][] = [
    [urgent({ type: "ping", count: 1 }), '"ping" is not urgent, it must wait for credit'],
    [urgent({ type: "failed", error: "", logTail: new Array(10).fill("a".repeat(16_000)) }), "urgent message of 160"],
    [new Uint8Array([frameKind.credit, 1]), "credit of 2 bytes, needed 5"],
    [new Uint8Array([frameKind.bulkWanted]), "a client asked for the bulk connection"],
  ];
  for (const [frame, reason] of cases) {
    await withBare(async (_, { main }) => {
      main.send(frame);
      assertStringIncludes(await deadline(main.closed, 15_000), reason);
    });
  }
});
