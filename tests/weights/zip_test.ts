import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { WeightsError } from "../../weights/error.ts";
import { crc32, readZip } from "../../weights/zip.ts";
import { writeZip } from "../../weights/zip_write.ts";
import { bytesOf, goldenFile } from "./bytes.ts";

const entries = fc.array(
  fc.tuple(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }), fc.uint8Array({ maxLength: 200 })),
  {
    maxLength: 8,
  },
).map((list) => new Map(list.map(([name, bytes]) => [name, new Uint8Array(bytes)])));

const two = () => writeZip(new Map([["first", bytesOf("some bytes")], ["second", bytesOf("others")]]));

/** A zip whose field at `offset` behind the last signature is replaced. */
function changed(signature: number, offset: number, value: readonly number[]): Uint8Array<ArrayBuffer> {
  const file = two();
  const view = new DataView(file.buffer);
  for (let at = file.byteLength - 4; at >= 0; at--) {
    if (view.getUint32(at, true) === signature) {
      file.set(value, at + offset);
      return file;
    }
  }
  throw new Error("the signature must be there");
}

const CENTRAL = 0x02014b50, END = 0x06054b50;

Deno.test("readZip() gives back what writeZip() took", () => {
  fc.assert(fc.property(entries, fc.boolean(), (given, wide) => {
    assertEquals([...readZip(writeZip(given, { wide }))].sort(), [...given].sort());
  }));
});

Deno.test("entries start at multiples of 64 bytes, as torch aligns them", () => {
  fc.assert(fc.property(entries, fc.boolean(), (given, wide) => {
    for (const bytes of readZip(writeZip(given, { wide })).values()) assertEquals(bytes.byteOffset % 64, 0);
  }));
});

Deno.test("an archive that torch wrote is read", async () => {
  const names = [...readZip(await goldenFile("plain_zip.pth")).keys()];
  assertEquals(names.filter((name) => !/^plain_zip\/data\/\d+$/.test(name)), [
    "plain_zip/data.pkl",
    "plain_zip/version",
  ]);
});

Deno.test("crc32() is the checksum of zip", () => {
  assertEquals(crc32(bytesOf("123456789")), 0xcbf43926);
});

Deno.test("readZip() refuses compressed, encrypted, overlapping, doubled and damaged entries", () => {
  const refused = (file: Uint8Array<ArrayBuffer>, text: string) =>
    assertThrows(() => readZip(file), WeightsError, text);
  refused(changed(CENTRAL, 10, [8, 0]), 'entry "second" is compressed');
  // A bomb claims that few bytes hold many.
  refused(changed(CENTRAL, 24, [0, 0, 0, 0x40]), 'entry "second" is compressed');
  refused(changed(CENTRAL, 8, [1, 0]), 'entry "second" is encrypted');
  refused(changed(CENTRAL, 42, [0, 0, 0, 0]), "overlaps");
  refused(changed(CENTRAL, 20, [0, 0, 1, 0, 0, 0, 1, 0]), "overlaps the directory or ends past the file");
  refused(changed(CENTRAL, 16, [0, 0, 0, 0]), "wrong checksum");
  refused(changed(CENTRAL, 42, [1, 0, 0, 0]), "has no header");
  refused(changed(CENTRAL, 28, [0xff, 0xff]), "directory is broken");
  refused(changed(END, 10, [9, 0]), "directory is broken");
  refused(changed(END, 0, [0]), "truncated, or no zip");
  const doubled = writeZip(new Map([["firsta", bytesOf("a")], ["firstb", bytesOf("b")]]));
  refused(doubled.map((byte) => byte === "b".charCodeAt(0) ? "a".charCodeAt(0) : byte), "");
});

Deno.test("readZip() refuses every prefix of an archive, wide or not", () => {
  for (const wide of [false, true]) {
    const file = writeZip(new Map([["first", bytesOf("some bytes")]]), { wide });
    for (let end = 0; end < file.byteLength; end++) assertThrows(() => readZip(file.slice(0, end)), WeightsError);
  }
});

Deno.test("readZip() refuses wide sizes that lead out of the archive", () => {
  const file = writeZip(new Map([["first", bytesOf("some bytes")]]), { wide: true });
  const view = new DataView(file.buffer);
  const at = (offset: number, value: bigint) => {
    const broken = file.slice();
    new DataView(broken.buffer).setBigUint64(offset, value, true);
    return () => readZip(broken);
  };
  const end64 = file.byteLength - 22 - 20 - 56;
  assertEquals(view.getUint32(end64, true), 0x06064b50);
  // Entries, the directory's start, and the size of the one entry in the directory.
  assertThrows(at(end64 + 32, 2n ** 40n), WeightsError, "past its end");
  assertThrows(at(end64 + 48, 2n ** 63n), WeightsError, "past its end");
  assertThrows(at(end64 - 24, 2n ** 33n), WeightsError, "past its end");
  assertThrows(at(end64 - 24, 11n), WeightsError, "compressed");
  assertThrows(at(end64 - 8, 5n), WeightsError, "has no header");
});

Deno.test("names in an archive are names and no paths: those that lead elsewhere are keys like any other, doubled ones refused", () => {
  const names = ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x", "__proto__", "nul\u0000byte"];
  const read = readZip(writeZip(new Map(names.map((name, index) => [name, bytesOf(`${index}`)]))));
  assertEquals([...read.keys()].sort(), [...names].sort());
  // The second entry's name, in the directory, becomes the first one's.
  const file = writeZip(new Map([["twin-a", bytesOf("a")], ["twin-b", bytesOf("b")]]));
  const text = String.fromCharCode(...file);
  file[text.lastIndexOf("twin-b") + 5] = "a".charCodeAt(0);
  assertThrows(() => readZip(file), WeightsError, 'entry "twin-a" is there twice');
});

Deno.test("an archive that claims more entries or bytes than it has is refused before memory is set aside for them", () => {
  const file = writeZip(new Map([["first", bytesOf("some bytes")]]), { wide: true });
  const end64 = file.byteLength - 22 - 20 - 56;
  const view = new DataView(file.buffer);
  for (const count of [2n, 200_001n, 2n ** 32n, 2n ** 64n - 1n]) {
    view.setBigUint64(end64 + 32, count, true);
    assertThrows(() => readZip(file), WeightsError);
  }
});
