import { assertEquals, assertThrows } from "@std/assert";
import { WireError } from "../../wire/error.ts";
import { f16BitsFromWire, f32FromWire, i32FromWire, toWire, u32FromWire, u8FromWire } from "../../wire/tensor.ts";

Deno.test("toWire() views the array and each reader gives its elements back", () => {
  const f32 = new Float32Array([1, -2.5, 3]).subarray(1);
  assertEquals(toWire(f32).bytes.buffer, f32.buffer);
  assertEquals([...f32FromWire(toWire(f32))], [-2.5, 3]);
  assertEquals([...u32FromWire(toWire(new Uint32Array([4_000_000_000])))], [4_000_000_000]);
  assertEquals([...i32FromWire(toWire(new Int32Array([-5])))], [-5]);
  assertEquals([...u8FromWire(toWire(new Uint8Array([255])))], [255]);
  assertEquals([...f16BitsFromWire(toWire(new Uint16Array([0x3c00])))], [0x3c00]);
});

Deno.test("f32FromWire() copies only when the bytes are not aligned", () => {
  const buffer = new Uint8Array(12);
  buffer.set(new Uint8Array(new Float32Array([1.5, -2]).buffer), 1);
  const unaligned = { dtype: "f32" as const, shape: [2], bytes: buffer.subarray(1, 9) };
  assertEquals([...f32FromWire(unaligned)], [1.5, -2]);
  const aligned = { ...unaligned, bytes: buffer.subarray(4, 12) };
  assertEquals(f32FromWire(aligned).buffer, buffer.buffer);
});

Deno.test("readers refuse another dtype and a wrong length", () => {
  assertThrows(() => f32FromWire(toWire(new Uint8Array(4))), WireError, "its dtype is u8");
  const short = { dtype: "f32" as const, shape: [2, 3], bytes: new Uint8Array(20) };
  assertThrows(() => f32FromWire(short), WireError, "shape [2, 3] needs 24 bytes, got 20");
  assertThrows(() => toWire(new Float32Array(5), [2, 3]), RangeError, "needs 6 elements, got 5");
});
