import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Assembler } from "../../wire/assembler.ts";
import type { Packed } from "../../wire/codec.ts";
import { WireError } from "../../wire/error.ts";
import { frameKind, framesOf, greetingFrame, readGreeting } from "../../wire/frames.ts";

/** A message of parts of these lengths, the head's first, with bytes that tell where they belong. */
function packedOf([head, ...tensors]: readonly number[]): Packed {
  const part = (length: number, index: number) => new Uint8Array(length).map((_, at) => index * 31 + at);
  return { head: part(head, 0), tensors: tensors.map((length, index) => part(length, index + 1)) };
}

Deno.test("any messages cut into frames of any size come back together, one after the other", () => {
  const part = fc.integer({ min: 0, max: 40 });
  const message = fc.record({ head: fc.integer({ min: 1, max: 60 }), tensors: fc.array(part, { maxLength: 4 }) });
  const sizes = fc.integer({ min: 1, max: 20 });
  fc.assert(fc.property(fc.array(message, { maxLength: 4 }), sizes, (messages, size) => {
    const assembler = new Assembler(300);
    for (const { head, tensors } of messages) {
      const packed = packedOf([head, ...tensors]);
      const frames = [...framesOf(packed, size)];
      frames.forEach((frame, index) => {
        assertEquals(frame.byteLength <= size + 5 + 8 * (1 + tensors.length), true);
        const taken = assembler.take(frame.slice());
        assertEquals(taken, index === frames.length - 1 ? packed : undefined);
      });
    }
  }));
});

Deno.test("a whole message ends at a multiple of 4 bytes in the frame that it arrives in, and is not copied where it has room", () => {
  for (const length of [1, 2, 3, 4, 97, 100]) {
    const memory = new Uint8Array(8 + length).fill(7);
    const [frame] = framesOf({ head: memory.subarray(8) }, 200, { room: true });
    assertEquals(frame.buffer, memory.buffer);
    // A socket gives each frame memory of its own.
    const whole = new Assembler(200).take(frame.slice());
    assert(whole !== undefined && whole.tensors === undefined);
    const { head } = whole;
    assertEquals([(head.byteOffset + head.byteLength) % 4, ...head], [0, ...new Array<number>(length).fill(7)]);
    assertEquals(memory.subarray(0, 4), new Uint8Array(4).fill(7), "bytes beyond the room");
  }
});

Deno.test("tensors leave from their own memory, and arrive in memory of their own or in that of their only frame", () => {
  const packed = packedOf([10, 64, 40]);
  const frames = [...framesOf(packed, 40)];
  assertEquals(frames.slice(1).map(({ buffer, byteLength }) => [buffer, byteLength]), [
    [packed.tensors?.[0].buffer, 40],
    [packed.tensors?.[0].buffer, 24],
    [packed.tensors?.[1].buffer, 40],
  ]);
  const assembler = new Assembler(200);
  const taken = frames.map((frame) => assembler.take(frame)).at(-1);
  assertEquals(taken, packed);
  assertEquals(taken?.tensors?.[1].buffer, packed.tensors?.[1].buffer, "the only frame of a tensor is not copied");
  assertEquals(taken?.tensors?.[0].byteOffset, 0);
});

Deno.test("an assembler asks before it takes a message, with the beginning and the length of all parts", () => {
  for (const size of [4, 100]) {
    const asked: [number[], number][] = [];
    const assembler = new Assembler(200, (beginning, byteLength) => {
      asked.push([[...beginning], byteLength]);
      if (byteLength > 100) throw new WireError("refused");
    });
    for (const frame of framesOf(packedOf([10, 64]), size)) assembler.take(frame);
    assertEquals(asked, [[[...packedOf([Math.min(size, 10)]).head], 74]]);
    assertThrows(
      () => [...framesOf(packedOf([10, 164]), size)].forEach((frame) => assembler.take(frame)),
      WireError,
      "refused",
    );
  }
});

Deno.test("an assembler refuses a message above its cap before it sets memory aside", () => {
  for (const size of [4, 100]) {
    const [announcement] = framesOf(packedOf([5, 3, 3]), size);
    assertThrows(() => new Assembler(10).take(announcement), WireError, "message of 11 bytes is larger than 10");
  }
  const [whole] = framesOf({ head: new Uint8Array(11) });
  assertThrows(() => new Assembler(10).take(whole), WireError, "larger than 10");
  const huge = new Uint8Array(9).fill(255).fill(frameKind.announcement, 0, 1);
  assertThrows(() => new Assembler(10).take(huge), WireError, "larger than 10");
});

Deno.test("a tensor above 16 MiB gets the rest of its memory when 16 MiB of it have come", () => {
  const packed = { head: new Uint8Array([1]), tensors: [new Uint8Array(17 * 2 ** 20).map((_, at) => at % 251)] };
  const assembler = new Assembler(2 ** 30);
  const taken = [...framesOf(packed)].map((frame) => assembler.take(frame)).at(-1);
  assertEquals(taken?.tensors?.[0].byteLength, 17 * 2 ** 20);
  assert(taken?.tensors?.[0].every((byte, at) => byte === at % 251));
});

Deno.test("an assembler refuses empty, unknown, malformed and oversized frames", () => {
  const frame = (...bytes: number[]) => new Uint8Array(bytes);
  const started = () => {
    const assembler = new Assembler(10);
    assembler.take(frame(frameKind.announcement, 5, 0, 0, 0, 0, 0, 0, 0));
    return assembler;
  };
  const { announcement, parts } = frameKind;
  const refused = (bytes: Uint8Array<ArrayBuffer>, reason: string) =>
    assertThrows(() => new Assembler(10).take(bytes), WireError, reason);
  refused(frame(), "kind undefined is unknown");
  refused(frame(7, 1), "kind 7 is unknown");
  refused(frame(frameKind.greeting, 1), "kind 0 is unknown");
  refused(frame(announcement, 1), "of 2 bytes is malformed");
  refused(frame(announcement), "of 1 bytes is malformed");
  refused(frame(announcement, 0, 0, 0, 0, 0, 0, 0, 0), "empty message");
  refused(frame(parts), "of 1 bytes is malformed");
  refused(frame(parts, 0, 0, 0, 0), "it must tell 1 to 65536 lengths");
  refused(frame(parts, 255, 255, 255, 255, 1), "it must tell 1 to 65536 lengths");
  refused(frame(parts, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0), "of 13 bytes is malformed");
  refused(frame(parts, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0), "head of 0 bytes where 1 were told");
  refused(frame(parts, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 5), "head of 2 bytes where 1 were told");
  assertThrows(() => started().take(frame()), WireError, "empty piece");
  assertThrows(() => started().take(new Uint8Array(6)), WireError, "6 bytes where 5 were left");
});

Deno.test("a framed tensor whose memory is moved away before its turn is an error, not another message", () => {
  const tensor = new Uint8Array(10);
  const frames = framesOf({ head: new Uint8Array(3), tensors: [tensor] }, 4);
  frames.next();
  frames.next();
  structuredClone(tensor.buffer, { transfer: [tensor.buffer] });
  assertThrows(() => frames.next(), WireError, "moved away while it was sent; send a copy of it");
});

Deno.test("a greeting carries the id and what the connection is for, and foreign bytes are refused", () => {
  const id = "trainer-0@host:a/b", ticket = crypto.randomUUID();
  const plain = { id, pulse: false, ticket: undefined, bulk: undefined };
  assertEquals(readGreeting(greetingFrame(id)), plain);
  assertEquals(readGreeting(greetingFrame(id, { pulse: true })), { ...plain, pulse: true });
  assertEquals(readGreeting(greetingFrame(id, { ticket })), { ...plain, ticket });
  assertEquals(readGreeting(greetingFrame(id, { bulk: ticket })), { ...plain, bulk: ticket });
  for (const wrong of ["", "x", `${ticket}0`, "a\nb"]) {
    assertThrows(() => readGreeting(greetingFrame(id, { bulk: wrong })), WireError, "ticket is malformed");
  }
  const raw = (text: string) => new Uint8Array([frameKind.greeting, ...new TextEncoder().encode(text)]);
  assertThrows(() => readGreeting(raw("{}")), WireError, "malformed");
  assertThrows(() => readGreeting(raw("null")), WireError, "malformed");
  assertThrows(() => readGreeting(raw("{")), WireError, "malformed");
  assertThrows(() => readGreeting(raw('{"protocol":1,"id":"a"}')), WireError, "run the same version on every host");
  assertThrows(() => readGreeting(new Uint8Array([1, 2])), WireError, "no greeting");
  assertThrows(() => readGreeting(raw(" ".repeat(2_000))), WireError, "no greeting");
});
