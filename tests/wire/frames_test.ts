import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { WireError } from "../../wire/error.ts";
import { Assembler, frameKind, framesOf, greetingFrame, greetingId } from "../../wire/frames.ts";

Deno.test("any message cut into frames of any size comes back together", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 50 }), fc.integer({ min: 1, max: 20 }), (bytes, size) => {
    const assembler = new Assembler(50);
    const frames = [...framesOf(bytes, size)];
    frames.forEach((frame, index) => {
      assertEquals(frame.byteLength <= size + 1, true);
      const whole = assembler.take(frame);
      assertEquals(whole && [...whole], index === frames.length - 1 ? [...bytes] : undefined);
    });
  }));
});

Deno.test("an assembler refuses a message that grows past its cap, before it is whole", () => {
  const assembler = new Assembler(10);
  const chunk = new Uint8Array(7).fill(frameKind.chunk, 0, 1);
  assembler.take(chunk);
  assertThrows(() => assembler.take(chunk), WireError, "grows past 10 bytes");
});

Deno.test("an assembler refuses empty, unknown and interleaved frames", () => {
  const frame = (...bytes: number[]) => new Uint8Array(bytes);
  assertThrows(() => new Assembler(10).take(frame(frameKind.chunk)), WireError, "empty chunk");
  assertThrows(() => new Assembler(10).take(frame(7, 1)), WireError, "kind 7 is unknown");
  assertThrows(() => new Assembler(10).take(frame(frameKind.greeting, 1)), WireError, "kind 0 is unknown");
  const assembler = new Assembler(10);
  assembler.take(frame(frameKind.chunk, 1));
  assertThrows(() => assembler.take(frame(frameKind.whole, 1)), WireError, "inside a chunked one");
});

Deno.test("a greeting carries the id, and foreign bytes are refused", () => {
  assertEquals(greetingId(greetingFrame("trainer-0@host:a/b")), "trainer-0@host:a/b");
  const raw = (text: string) => new Uint8Array([frameKind.greeting, ...new TextEncoder().encode(text)]);
  assertThrows(() => greetingId(raw("{}")), WireError, "malformed");
  assertThrows(() => greetingId(raw("null")), WireError, "malformed");
  assertThrows(() => greetingId(raw("{")), WireError, "malformed");
  assertThrows(() => greetingId(raw('{"protocol":2,"id":"a"}')), WireError, "run the same version on every host");
  assertThrows(() => greetingId(new Uint8Array([1, 2])), WireError, "no greeting");
  assertThrows(() => greetingId(raw(" ".repeat(2_000))), WireError, "no greeting");
});
