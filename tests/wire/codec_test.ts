import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { codecLimits, decode, encode, pack, packedBytes, prepare, write } from "../../wire/codec.ts";
import { WireError } from "../../wire/error.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

const ping: Message = { type: "ping", count: 7 };

/** A msgpack message `{type: "configure", config: <bytes>, …}` whose `config.x` is any value. */
function withValue(...value: number[]): Uint8Array<ArrayBuffer> {
  const text = (word: string) => [0xa0 | word.length, ...new TextEncoder().encode(word)];
  return new Uint8Array([0x82, ...text("type"), ...text("ping"), ...text("count"), ...value]);
}

Deno.test("pack() leaves the room asked for before a message, and writes the same bytes as encode()", () => {
  for (const length of [3, 40_000]) {
    const message = { type: "weights-part", name: "w", tensor: toWire(new Float32Array(length).fill(1.5)) } as const;
    const plain = encode(message), { head, tensors } = pack(message, { room: 4 });
    assert(head.byteOffset >= 4);
    assertEquals([head, tensors], [plain, undefined]);
    assertEquals(decode(head), message);
  }
});

Deno.test("pack() leaves large tensors where they are, small ones and all other fields in the head", () => {
  const large = new Float32Array(100_000).map((_, index) => index), small = new Float32Array([1, 2]);
  const images = [large, small, new Float32Array(), large].map((values, index) => ({
    name: String(index),
    bytes: toWire(values),
  }));
  const message: Message = { type: "extract", batch: 3, size: 8, images };
  const packed = pack(message);
  assertEquals(packed.tensors?.map(({ buffer, byteLength }) => [buffer === large.buffer, byteLength]), [
    [true, 400_000],
    [false, 0],
    [true, 400_000],
  ]);
  assert(packed.head.byteLength < 500);
  assertEquals(packedBytes(packed), packed.head.byteLength + 800_000);
  const decoded = decode(packed.head, packed.tensors);
  assertEquals(decoded, message);
  assert(decoded.type === "extract" && decoded.images[0].bytes.bytes.buffer === large.buffer);
});

Deno.test("a large message without tensors is packed in parts too, and keeps its empty bytes", () => {
  const message: Message = {
    type: "save",
    epoch: 0,
    by: "trainer-0",
    step: 1,
    progress: { text: "π".repeat(400_000), none: new Uint8Array() },
  };
  const { head, tensors } = pack(message);
  assertEquals(tensors, [new Uint8Array()]);
  assertEquals(decode(head, tensors), message);
});

Deno.test("a prepared message waits without a copy, and its tensors' loss is an error", () => {
  const tensor = new Uint8Array(400_000);
  const prepared = prepare({ type: "weights-part", name: "w", tensor: toWire(tensor) });
  assertEquals(prepared.tensors?.[0].buffer, tensor.buffer);
  structuredClone(tensor.buffer, { transfer: [tensor.buffer] });
  assertThrows(() => write(prepared), WireError, 'sending "weights-part": its tensors were moved away while it waited');
});

Deno.test("a message of more than 65,535 tensors that lie apart is refused", () => {
  const progress = { large: new Uint8Array(400_000), many: new Array(65_535).fill(new Uint8Array()) };
  assertThrows(
    () => pack({ type: "save", epoch: 0, step: 1, by: "trainer-0", progress }),
    WireError,
    "65536 tensors, at most 65535",
  );
});

Deno.test("decode() refuses tensors too many, too few or of another size than their fields tell", () => {
  const tensor = new Uint8Array(400_000);
  const { head } = pack({ type: "weights-part", name: "w", tensor: toWire(tensor) });
  for (const tensors of [[], [tensor, tensor]]) {
    assertThrows(() => decode(head, tensors), WireError, `message has 1 places for ${tensors.length} tensors`);
  }
  assertThrows(() => decode(head, [tensor.subarray(1)]), WireError, "byte length must match dtype and shape");
  assertThrows(() => decode(head), WireError, "byte length must match dtype and shape");
});

Deno.test("decode() gives back what encode() took", () => {
  const message = fc.record({
    type: fc.constant("saved" as const),
    step: fc.nat(),
    folder: fc.string({ unit: "grapheme", maxLength: 100 }),
    digest: fc.constant("0".repeat(64)),
  });
  fc.assert(fc.property(message, (saved) => assertEquals(decode(encode(saved)), saved)));
  const progress = { epoch: 2 ** 40, loss: -1.5e-300, note: "π", list: [true, null, [-1, 2 ** 31]], empty: {} };
  const save: Message = { type: "save", epoch: 0, by: "trainer-0", step: 2 ** 32, progress };
  assertEquals(decode(encode(save)), save);
});

Deno.test("encode() writes standard msgpack, byte for byte", () => {
  assertEquals([...encode(ping)], [...withValue(7)]);
});

Deno.test("tensors keep every bit, NaN payloads included, and decode to views", () => {
  const bits = new Uint32Array([0x7fc00001, 0xff800000, 0x80000000, 1, 0x3f800000]);
  const values = toWire(new Float32Array(bits.buffer), [5, 1]);
  const bytes = encode({ type: "reduced", epoch: 0, key: "k", values });
  const message = decode(bytes);
  assert(message.type === "reduced");
  assertEquals(message.values.shape, [5, 1]);
  assertEquals(message.values.bytes.buffer, bytes.buffer);
  assertEquals(message.values.bytes.constructor, Uint8Array);
  const floats = f32FromWire(message.values);
  assertEquals([...new Uint32Array(floats.buffer, floats.byteOffset, 5)], [...bits]);
});

Deno.test("a message of an earlier encode() is not changed by later ones, small or large", () => {
  const large: Message = { type: "reduced", epoch: 0, key: "k", values: toWire(new Float32Array(50_000).fill(1.5)) };
  const earlier = [encode(ping), encode(large), encode(ping), encode(large), encode(ping)];
  const copies = earlier.map((bytes) => new Uint8Array(bytes));
  for (let count = 0; count < 2_000; count++) encode({ type: "log", level: "info", text: `line ${count}` });
  encode({ type: "reduced", epoch: 0, key: "k", values: toWire(new Float32Array(60_000).fill(-1)) });
  earlier.forEach((bytes, index) => assert(bytes.every((byte, at) => byte === copies[index][at]), `message ${index}`));
  assertEquals(earlier.map((bytes) => decode(bytes).type), ["ping", "reduced", "ping", "reduced", "ping"]);
});

Deno.test("a small message does not keep a large one's memory", () => {
  encode({ type: "reduced", epoch: 0, key: "k", values: toWire(new Float32Array(1_000_000)) });
  assert(encode(ping).buffer.byteLength <= 65_536);
});

Deno.test("fields that are undefined are left out", () => {
  assertEquals(decode(encode({ type: "load", step: undefined })), { type: "load" });
});

Deno.test("encode() refuses values that msgpack cannot carry faithfully, naming where", () => {
  const cyclic: Record<string, unknown> = {};
  cyclic.self = cyclic;
  const cases: [unknown, string][] = [
    [new Float32Array(2), "message.progress.x cannot travel: it is a Float32Array"],
    [new Date(), "is a Date"],
    [new Map(), "is a Map"],
    [12n, "is a bigint"],
    [() => 1, "is a function"],
    [cyclic, "nests deeper"],
  ];
  for (const [x, reason] of cases) {
    assertThrows(
      () => encode({ type: "save", epoch: 0, by: "trainer-0", step: 1, progress: { x } }),
      WireError,
      reason,
    );
  }
});

Deno.test("decode() refuses a message cut at any byte, and any bytes after it", () => {
  const bytes = encode({ type: "reduced", epoch: 0, key: "k", values: toWire(new Float32Array(3)) });
  for (let length = 0; length < bytes.byteLength; length++) {
    assertThrows(() => decode(bytes.slice(0, length)), WireError, "truncated");
  }
  assertThrows(() => decode(new Uint8Array([...bytes, 0xc0])), WireError, "1 trailing bytes");
});

Deno.test("decode() refuses hostile msgpack with a WireError", () => {
  const cases: [Uint8Array<ArrayBuffer>, string][] = [
    [withValue(0xc1), "type 0xc1"],
    [withValue(0xd4, 0, 0), "type 0xd4"],
    [withValue(0xd6, 0xff, 0, 0, 0, 0), "type 0xd6"],
    [withValue(0xc7, 0, 0x72), "type 0xc7"],
    [withValue(0xdd, 0xff, 0xff, 0xff, 0xff), "truncated"],
    [withValue(0xdf, 0xff, 0xff, 0xff, 0xff), "truncated"],
    [withValue(0xc6, 0xff, 0xff, 0xff, 0xff), "truncated"],
    [withValue(0xdb, 0xff, 0xff, 0xff, 0xff), "truncated"],
    [withValue(0x81, 1, 1), "no string"],
    [withValue(0x81, 0x90, 1), "no string"],
    [withValue(...new Array(100).fill(0x91), 1), `deeper than ${codecLimits.depthMax}`],
    [new Uint8Array(200_000).fill(0x91), `deeper than ${codecLimits.depthMax}`],
    [new Uint8Array(2_000_000).fill(0x90).fill(0xdd, 0, 1).fill(0, 1, 3), "trailing"],
    [withValue(0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0), "malformed: count"],
    [withValue(0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "malformed: count"],
  ];
  for (const [bytes, reason] of cases) assertThrows(() => decode(bytes), WireError, reason);
  const many = new Uint8Array(5 + 1_000_001).fill(0xc0);
  many.set([0xdd, 0, 0x0f, 0x42, 0x41]);
  assertThrows(() => decode(many), WireError, "more than 1000000 values");
});

Deno.test("decode() refuses keys that would reach a prototype", () => {
  const text = (word: string) => [0xa0 | word.length, ...new TextEncoder().encode(word)];
  for (const key of ["__proto__", "constructor"]) {
    const bytes = new Uint8Array([0x83, ...text("type"), ...text("ping"), ...text("count"), 1, ...text(key), 0x80]);
    assertThrows(() => decode(bytes), WireError, 'message "ping" is malformed');
  }
  assertEquals(Object.hasOwn(Object.prototype, "polluted"), false);
});

Deno.test("any bytes decode or are refused with a WireError, never another error", () => {
  const good = encode({ type: "reduced", epoch: 0, key: "k", values: toWire(new Float32Array(3)) });
  const flipped = fc.tuple(fc.nat(good.byteLength - 1), fc.nat(255)).map(([at, value]) => {
    const bytes = new Uint8Array(good);
    bytes[at] = value;
    return bytes;
  });
  const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => new Uint8Array(bytes));
  fc.assert(
    fc.property(fc.oneof(flipped, noise), (bytes) => {
      try {
        decode(bytes);
      } catch (error) {
        assert(error instanceof WireError, String(error));
      }
    }),
    { numRuns: 5_000 },
  );
});

Deno.test("decode() refuses unknown types, unknown fields and tensors of the wrong size", () => {
  const raw = (message: unknown) => encode(message as Message);
  assertThrows(() => decode(raw({ type: "nothing" })), WireError, 'message type "nothing" is unknown');
  assertThrows(() => decode(raw({ count: 1 })), WireError, "message type undefined is unknown");
  assertThrows(() => decode(raw({ ...ping, extra: 1 })), WireError, 'message "ping" is malformed');
  const values = { dtype: "f32", shape: [3], bytes: new Uint8Array(8) };
  assertThrows(() => decode(raw({ type: "reduced", epoch: 0, key: "k", values })), WireError, "byte length must match");
});
