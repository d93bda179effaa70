import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { batchBytesMax, batchMessagesMax, batchOf, framesIn } from "../../wire/batch.ts";
import { WireError } from "../../wire/error.ts";
import { framesOf } from "../../wire/frames.ts";

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
