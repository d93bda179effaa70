import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CheckpointError } from "../../checkpoint/error.ts";
import {
  f32Of,
  f32Tensor,
  readSafetensors,
  type SafeTensor,
  type SafetensorsDtype,
  safetensorsDtypeBytes,
  writeSafetensors,
} from "../../checkpoint/safetensors.ts";

const dtypes = Object.keys(safetensorsDtypeBytes) as SafetensorsDtype[];

const tensor = fc.tuple(fc.constantFrom(...dtypes), fc.array(fc.nat(4), { maxLength: 4 })).chain(([dtype, shape]) => {
  const byteLength = shape.reduce((product, dimension) => product * dimension, safetensorsDtypeBytes[dtype]);
  return fc.uint8Array({ minLength: byteLength, maxLength: byteLength })
    .map((bytes): SafeTensor => ({ dtype, shape, bytes: new Uint8Array(bytes) }));
});

const names = fc.oneof(fc.string({ unit: "grapheme", maxLength: 12 }), fc.constantFrom("__proto__", "0", "constructor"))
  .filter((name) => name !== "__metadata__");
const files = fc.record({
  tensors: fc.array(fc.tuple(names, tensor), { maxLength: 6 }).map((entries) => new Map(entries)),
  metadata: fc.dictionary(names, fc.string({ maxLength: 8 }), { maxKeys: 3 }),
});

/** A file with any header over `dataBytes` zeros. */
function fileOf(header: unknown, dataBytes: number): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.byteLength + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  file.set(json, 8);
  return file;
}

const u8 = (start: number, end: number) => ({ dtype: "U8", shape: [end - start], data_offsets: [start, end] });

Deno.test("readSafetensors() gives back what writeSafetensors() took", () => {
  fc.assert(fc.property(files, ({ tensors, metadata }) => {
    const read = readSafetensors(writeSafetensors(tensors, metadata));
    assertEquals(new Map([...read.tensors].sort()), new Map([...tensors].sort()));
    assertEquals(Object.entries(read.metadata).sort(), Object.entries(metadata).sort());
  }));
});

Deno.test("equal tensors give equal files, whatever the order they are given in", () => {
  fc.assert(fc.property(files, ({ tensors, metadata }) => {
    const reversed = new Map([...tensors].reverse());
    const reversedMetadata = Object.fromEntries(Object.entries(metadata).reverse());
    assertEquals(writeSafetensors(reversed, reversedMetadata), writeSafetensors(tensors, metadata));
  }));
});

Deno.test("files of another writer are read, and rewritten to the same tensors", async () => {
  const file = await Deno.readFile(new URL("../golden/sinkhorn.safetensors", import.meta.url));
  const { tensors, metadata } = readSafetensors(file);
  assert(tensors.size > 0);
  assertEquals(readSafetensors(writeSafetensors(tensors, metadata)).tensors.size, tensors.size);
  for (const [name, { dtype, shape, bytes }] of readSafetensors(writeSafetensors(tensors)).tensors) {
    assertEquals({ dtype, shape, bytes }, tensors.get(name));
  }
});

Deno.test("a file cut anywhere, or with bytes added, is refused", () => {
  const file = writeSafetensors(
    new Map([["a", f32Tensor(new Float32Array(3))], ["b", f32Tensor(new Float32Array(2))]]),
  );
  for (let length = 0; length < file.byteLength; length++) {
    assertThrows(() => readSafetensors(file.slice(0, length)), CheckpointError);
  }
  assertThrows(() => readSafetensors(new Uint8Array([...file, 0])), CheckpointError, "1 bytes follow");
});

Deno.test("hostile headers are refused with the reason", () => {
  const cases: [unknown, number, string][] = [
    ["[1]", 0, "no JSON object"],
    ["{", 0, "no JSON"],
    [" {}", 0, "no JSON object"],
    [{ a: u8(0, 4), b: u8(2, 6) }, 6, "overlap"],
    [{ a: u8(0, 4), b: u8(5, 6) }, 6, "leave a gap"],
    [{ a: u8(1, 4) }, 4, "leave a gap"],
    [{ a: u8(0, 9) }, 4, "past the data"],
    [{ a: { ...u8(0, 4), dtype: "U7" } }, 4, "unknown dtype"],
    [{ a: { ...u8(0, 4), dtype: "toString" } }, 4, "unknown dtype"],
    [{ a: { ...u8(0, 4), shape: [-4] } }, 4, "malformed shape"],
    [{ a: { ...u8(0, 4), shape: [2 ** 60, 2 ** 60] } }, 4, "malformed shape"],
    [{ a: { ...u8(0, 4), shape: [2 ** 40, 2 ** 40] } }, 4, "needs"],
    [{ a: { ...u8(0, 4), data_offsets: [4, 0] } }, 4, "malformed offsets"],
    [{ a: { ...u8(0, 4), extra: 1 } }, 4, "unknown field"],
    [{ a: 3 }, 0, "is no object"],
    [{ __metadata__: { a: 1 } }, 0, "is no text"],
    [{ __metadata__: [] }, 0, "metadata is no object"],
  ];
  for (const [header, dataBytes, reason] of cases) {
    assertThrows(() => readSafetensors(fileOf(header, dataBytes)), CheckpointError, reason);
  }
  const huge = new Uint8Array(16);
  new DataView(huge.buffer).setBigUint64(0, 2n ** 63n, true);
  assertThrows(() => readSafetensors(huge), CheckpointError, "more than 100000000");
});

Deno.test("any bytes are read or refused with a CheckpointError, never another error", () => {
  const good = writeSafetensors(new Map([["a", f32Tensor(new Float32Array(3))]]), { k: "v" });
  const flipped = fc.tuple(fc.nat(good.byteLength - 1), fc.integer({ min: 1, max: 255 })).map(([at, mask]) => {
    const bytes = new Uint8Array(good);
    bytes[at] ^= mask;
    return bytes;
  });
  const headers = fc.json().map((json) => fileOf(json, 8));
  const noise = fc.uint8Array({ maxLength: 64 }).map((bytes) => new Uint8Array(bytes));
  fc.assert(
    fc.property(fc.oneof(flipped, headers, noise), (bytes) => {
      try {
        readSafetensors(bytes);
      } catch (error) {
        assert(error instanceof CheckpointError, String(error));
      }
    }),
    { numRuns: 2_000 },
  );
});

Deno.test("writeSafetensors() refuses bytes that do not match the shape, and the reserved name", () => {
  const wrong: SafeTensor = { dtype: "F32", shape: [2], bytes: new Uint8Array(7) };
  assertThrows(() => writeSafetensors(new Map([["a", wrong]])), CheckpointError, 'tensor "a" of shape [2]');
  const reserved = new Map([["__metadata__", f32Tensor(new Float32Array(1))]]);
  assertThrows(() => writeSafetensors(reserved), CheckpointError, "reserved");
});

Deno.test("f32Of() reads tensors at any offset and refuses other dtypes", () => {
  const file = writeSafetensors(new Map([["a", f32Tensor(new Float32Array([1, -2.5]))]]));
  const shifted = new Uint8Array(file.byteLength + 1);
  shifted.set(file, 1);
  for (const bytes of [file, shifted.subarray(1)]) {
    const read = readSafetensors(bytes).tensors.get("a");
    assert(read !== undefined);
    assertEquals([...f32Of(read)], [1, -2.5]);
  }
  assertThrows(() => f32Of({ dtype: "U8", shape: [4], bytes: new Uint8Array(4) }), CheckpointError, "dtype is U8");
  assertThrows(() => f32Tensor(new Float32Array(3), [2]), RangeError, "needs 2 elements");
});
