/**
 * Reads zip archives whose entries are stored as they are, which is how torch writes them. Compressed entries are refused,
 * so that no archive grows on reading, and so are entries that overlap. It knows nothing of what is inside.
 * Format: PKWARE's APPNOTE.TXT 6.3.
 */
import zlib from "node:zlib";
import { WeightsError } from "./error.ts";

/** Entries an archive may have; the largest published state dicts have some thousand. */
const ENTRIES_MAX = 200_000;
const END_BYTES = 22, END64_BYTES = 56, LOCATOR64_BYTES = 20, CENTRAL_BYTES = 46, LOCAL_BYTES = 30;
const FULL16 = 0xffff, FULL32 = 0xffffffff;

interface Entry {
  readonly name: string;
  readonly start: number;
  readonly size: number;
  readonly crc: number;
}

/**
 * Bytes of every entry by name; they are views of `file`.
 *
 * @throws {WeightsError} for a broken archive, compressed or encrypted entries, entries that overlap, and wrong checksums.
 */
export function readZip(file: Uint8Array<ArrayBuffer>): Map<string, Uint8Array<ArrayBuffer>> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const { count, start: directoryStart } = directory(view);
  const entries: Entry[] = [];
  let at = directoryStart;
  for (let index = 0; index < count; index++) {
    const { entry, next } = centralEntry(view, at);
    entries.push(entry);
    at = next;
  }
  entries.sort((a, b) => a.start - b.start);
  const found = new Map<string, Uint8Array<ArrayBuffer>>();
  let end = 0;
  for (const { name, start, size, crc } of entries) {
    if (start < end) throw broken(`entry "${name}" overlaps the one before it`);
    end = start + size;
    if (end > directoryStart) {
      throw broken(`entry "${name}" of ${size} bytes overlaps the directory or ends past the file`);
    }
    if (found.has(name)) throw broken(`entry "${name}" is there twice`);
    const bytes = file.subarray(start, end);
    if (crc32(bytes) !== crc) throw broken(`entry "${name}" has a wrong checksum`);
    found.set(name, bytes);
  }
  return found;
}

/** Where the central directory lies, from the end record, which a comment may follow. */
function directory(view: DataView): { count: number; start: number } {
  const lowest = Math.max(0, view.byteLength - END_BYTES - FULL16);
  for (let at = view.byteLength - END_BYTES; at >= lowest; at--) {
    if (view.getUint32(at, true) !== 0x06054b50) continue;
    let count = view.getUint16(at + 10, true), start = view.getUint32(at + 16, true);
    const locator = at - LOCATOR64_BYTES;
    if ((count === FULL16 || start === FULL32) && locator >= 0 && view.getUint32(locator, true) === 0x07064b50) {
      const end64 = big(view, locator + 8);
      if (end64 + END64_BYTES > view.byteLength || view.getUint32(end64, true) !== 0x06064b50) break;
      [count, start] = [big(view, end64 + 32), big(view, end64 + 48)];
    }
    if (count > ENTRIES_MAX) throw broken(`it claims ${count} entries, more than ${ENTRIES_MAX}`);
    return { count, start };
  }
  throw broken("its end record is missing: the file is truncated, or no zip");
}

function centralEntry(view: DataView, at: number): { entry: Entry; next: number } {
  if (at + CENTRAL_BYTES > view.byteLength || view.getUint32(at, true) !== 0x02014b50) {
    throw broken(`its directory is broken at byte ${at}`);
  }
  const flags = view.getUint16(at + 8, true), method = view.getUint16(at + 10, true);
  const crc = view.getUint32(at + 16, true);
  const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
  const nameAt = at + CENTRAL_BYTES, extraAt = nameAt + nameLength;
  const next = extraAt + extraLength + commentLength;
  if (next > view.byteLength) throw broken(`its directory is broken at byte ${at}`);
  const name = new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + nameAt, nameLength));
  let packed = view.getUint32(at + 20, true),
    size = view.getUint32(at + 24, true),
    local = view.getUint32(at + 42, true);
  for (let extra = extraAt; extra + 4 <= extraAt + extraLength;) {
    const length = view.getUint16(extra + 2, true);
    if (view.getUint16(extra, true) === 1) {
      let field = extra + 4;
      const wide = (value: number) => {
        if (value !== FULL32) return value;
        if (field + 8 > extra + 4 + length) throw broken(`entry "${name}" has a broken size`);
        field += 8;
        return big(view, field - 8);
      };
      size = wide(size);
      packed = wide(packed);
      local = wide(local);
    }
    extra += 4 + length;
  }
  if ((flags & 1) !== 0) throw broken(`entry "${name}" is encrypted`);
  if (method !== 0 || packed !== size) throw broken(`entry "${name}" is compressed, which torch never does`);
  if (local + LOCAL_BYTES > view.byteLength || view.getUint32(local, true) !== 0x04034b50) {
    throw broken(`entry "${name}" has no header where the directory says`);
  }
  const start = local + LOCAL_BYTES + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
  return { entry: { name, start, size, crc }, next };
}

function big(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(view.byteLength)) throw broken(`it names byte ${value}, past its end`);
  return Number(value);
}

/** Bytes that the library takes at once. */
const CHUNK_BYTES = 2 ** 28;

/** CRC-32 (IEEE 802.3), as zip uses it. */
export function crc32(bytes: Uint8Array<ArrayBuffer>): number {
  let value = 0;
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) {
    value = zlib.crc32(bytes.subarray(at, at + CHUNK_BYTES), value);
  }
  return value;
}

function broken(what: string): WeightsError {
  return new WeightsError(`Cannot read the zip: ${what}`);
}
