import { assert, assertEquals, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import fc from "fast-check";
import { batchBytesMax, batchMessagesMax, batchOf, framesIn, lateBelow, lateFrom } from "../../wire/batch.ts";
import { WireError } from "../../wire/error.ts";
import { framesOf } from "../../wire/frames.ts";
import type { Link } from "../../wire/link.ts";
import type { Message } from "../../wire/messages.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

function wholeFrame(bytes: Uint8Array<ArrayBuffer>, urgent = false): Uint8Array<ArrayBuffer> {
  return [...framesOf({ head: bytes }, 2 ** 20, { urgent })][0];
}

Deno.test("the frames of any whole messages come out of their batch as they went in, each at a multiple of 4 bytes", () => {
  const message = fc.uint8Array({ minLength: 1, maxLength: 50 });
  fc.assert(fc.property(fc.array(message, { minLength: 1, maxLength: 9 }), (messages) => {
    const frames = messages.map((bytes) => wholeFrame(new Uint8Array(bytes)));
    // A socket gives each frame memory of its own.
    const found = [...framesIn(batchOf(frames).slice())];
    assertEquals(found, frames);
    for (const { byteOffset, byteLength } of found) assertEquals([byteOffset % 4, byteLength % 4], [0, 0]);
  }));
});

Deno.test("a batch cut off at any byte but the end of a message is refused, and so is one byte more", () => {
  const frames = [5, 1, 16].map((length) => wholeFrame(new Uint8Array(length).fill(7)));
  const batch = batchOf(frames).slice();
  const ends = frames.map((_, index) => batchOf(frames.slice(0, index + 1)).byteLength);
  let refused = 0;
  for (let length = 1; length <= batch.byteLength + 1; length++) {
    const cut = new Uint8Array(length);
    cut.set(batch.subarray(0, length));
    if (ends.includes(length)) assertEquals([...framesIn(cut)].length, ends.indexOf(length) + 1);
    else {
      assertThrows(() => [...framesIn(cut)], WireError, "malformed");
      refused++;
    }
  }
  assert(refused === batch.byteLength + 1 - frames.length);
});

Deno.test("a batch that is too large, or holds an urgent message, a batch, too many messages or none, is refused", () => {
  const inner = wholeFrame(new Uint8Array([1, 2, 3]));
  const cases: [Uint8Array<ArrayBuffer>, string][] = [
    [new Uint8Array(batchBytesMax + 4), "bytes, at most 270336"],
    [batchOf([inner, wholeFrame(new Uint8Array([1, 2, 3]), true)]).slice(), "holds a frame of kind 4;"],
    [batchOf([batchOf([inner]).slice()]).slice(), "holds a frame of kind 8;"],
    [batchOf([]).slice(), "malformed"],
    [batchOf(new Array(batchMessagesMax + 1).fill(inner)).slice(), "batch of more than 64 messages"],
  ];
  for (const [batch, reason] of cases) assertThrows(() => [...framesIn(batch)], WireError, reason);
});

Deno.test("a batch is filled up with zeros, whatever was there before, and what fills it up is passed over", () => {
  batchOf([wholeFrame(new Uint8Array(60_000).fill(9))]);
  for (const count of [1, 2, batchMessagesMax]) {
    const frames = Array.from({ length: count }, (_, at) => wholeFrame(new Uint8Array(20).fill(1 + at)));
    const bare = batchOf(frames).byteLength;
    const filled = batchOf(frames, lateBelow).slice();
    assertEquals(filled.byteLength, lateBelow);
    assert(filled.subarray(bare).every((byte) => byte === 0), "nothing of another message may leave");
    assertEquals([...framesIn(filled)], frames);
    assertEquals(batchOf(frames, bare - 1).byteLength, bare, "what is large enough is left as it is");
  }
});

Deno.test("a client's frames that its socket would send late are filled up, and none of a listener's", async () => {
  const sizes = { client: [] as number[], listener: [] as number[] };
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (data) {
    // Only who has dialled knows an address.
    if (data instanceof Uint8Array) sizes[this.url === "" ? "listener" : "client"].push(data.byteLength);
    return send.call(this, data);
  };
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "left", token: "secret" }, accepted.resolve);
  try {
    const right = await connectSocket(listener.url, { id: "right", token: "secret" });
    const left = await deadline(accepted.promise, 15_000);
    sizes.client = [];
    sizes.listener = [];
    for (const [from, to] of [[right, left], [left, right]]) {
      for (const length of [100, 2_000, 70_000]) {
        const came = new Promise<Message>((resolve) => to.onMessage = resolve);
        from.send({ type: "weights-part", name: "w", tensor: toWire(new Float32Array(length / 4).fill(3)) });
        const message = await deadline(came, 15_000);
        assert(message.type === "weights-part");
        assertEquals(f32FromWire(message.tensor), new Float32Array(length / 4).fill(3));
      }
    }
    const [small, filled, large] = sizes.client;
    assert(small < lateFrom && filled === lateBelow && large > 70_000, sizes.client.join());
    assert(sizes.listener.length === 3 && sizes.listener[1] < 2_200, sizes.listener.join());
  } finally {
    WebSocket.prototype.send = send;
    await listener.close();
  }
});
