import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { WireError } from "../../wire/error.ts";
import { Assembler, frameKind, framesOf, greetingFrame, readGreeting } from "../../wire/frames.ts";

Deno.test("any messages cut into frames of any size come back together, one after the other", () => {
  const sizes = fc.integer({ min: 1, max: 20 });
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 4 }), sizes, (messages, size) => {
    const assembler = new Assembler(50);
    for (const bytes of messages) {
      const frames = [...framesOf(new Uint8Array(bytes), size)];
      frames.forEach((frame, index) => {
        assertEquals(frame.byteLength <= Math.max(9, size + 4), true);
        const whole = assembler.take(frame);
        assertEquals(whole && [...whole], index === frames.length - 1 ? [...bytes] : undefined);
      });
    }
  }));
});

Deno.test("a message ends at a multiple of 4 bytes in the memory that it arrives in, and is not copied where it has room", () => {
  for (const length of [1, 2, 3, 4, 97, 100]) {
    for (const size of [200, 32]) {
      const memory = new Uint8Array(8 + length).fill(7);
      const message = memory.subarray(8);
      const frames = [...framesOf(message, size, { room: true })];
      if (length <= size) assertEquals(frames[0].buffer, memory.buffer);
      const assembler = new Assembler(200);
      // A socket gives each frame memory of its own.
      const [whole] = frames.map((frame) => assembler.take(frame.slice())).filter((taken) => taken !== undefined);
      assertEquals([(whole.byteOffset + whole.byteLength) % 4, ...whole], [0, ...new Array<number>(length).fill(7)]);
      assertEquals(memory.subarray(0, 4), new Uint8Array(4).fill(7), "bytes beyond the room");
    }
  }
});

Deno.test("an assembler refuses a message above its cap before it sets memory aside", () => {
  const [announcement] = framesOf(new Uint8Array(11), 4);
  assertThrows(() => new Assembler(10).take(announcement), WireError, "message of 11 bytes is larger than 10");
  const [whole] = framesOf(new Uint8Array(11));
  assertThrows(() => new Assembler(10).take(whole), WireError, "larger than 10");
  const huge = new Uint8Array(9).fill(255).fill(frameKind.announcement, 0, 1);
  assertThrows(() => new Assembler(10).take(huge), WireError, "larger than 10");
});

Deno.test("an assembler refuses empty, unknown, malformed and oversized frames", () => {
  const frame = (...bytes: number[]) => new Uint8Array(bytes);
  const started = () => {
    const assembler = new Assembler(10);
    assembler.take(frame(frameKind.announcement, 5, 0, 0, 0, 0, 0, 0, 0));
    return assembler;
  };
  assertThrows(() => new Assembler(10).take(frame()), WireError, "kind undefined is unknown");
  assertThrows(() => new Assembler(10).take(frame(7, 1)), WireError, "kind 7 is unknown");
  assertThrows(() => new Assembler(10).take(frame(frameKind.greeting, 1)), WireError, "kind 0 is unknown");
  assertThrows(() => new Assembler(10).take(frame(frameKind.announcement, 1)), WireError, "has 1 bytes, needed 8");
  assertThrows(() => new Assembler(10).take(new Uint8Array([2, 0, 0, 0, 0, 0, 0, 0, 0])), WireError, "empty message");
  assertThrows(() => started().take(frame()), WireError, "empty piece");
  assertThrows(() => started().take(new Uint8Array(6)), WireError, "6 bytes where 5 were left");
});

Deno.test("a greeting carries the id, and foreign bytes are refused", () => {
  const id = "trainer-0@host:a/b";
  assertEquals(readGreeting(greetingFrame(id)), { id, pulse: false });
  assertEquals(readGreeting(greetingFrame(id, { pulse: true })), { id, pulse: true });
  const raw = (text: string) => new Uint8Array([frameKind.greeting, ...new TextEncoder().encode(text)]);
  assertThrows(() => readGreeting(raw("{}")), WireError, "malformed");
  assertThrows(() => readGreeting(raw("null")), WireError, "malformed");
  assertThrows(() => readGreeting(raw("{")), WireError, "malformed");
  assertThrows(() => readGreeting(raw('{"protocol":1,"id":"a"}')), WireError, "run the same version on every host");
  assertThrows(() => readGreeting(new Uint8Array([1, 2])), WireError, "no greeting");
  assertThrows(() => readGreeting(raw(" ".repeat(2_000))), WireError, "no greeting");
});
