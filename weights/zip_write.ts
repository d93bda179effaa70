/**
 * Writes zip archives of stored entries as torch does: each entry's bytes start at a multiple of 64. Above 4 GiB, or
 * 65,535 entries, the wide form of the format is written (zip64). Equal entries give equal files. Format: PKWARE's
 * APPNOTE.TXT 6.3.
 */
import { joined, packed } from "./pieces.ts";
import { crc32 } from "./zip.ts";

const ALIGNMENT = 64;
const LOCAL_BYTES = 30, WIDE_EXTRA_BYTES = 20;
const FULL16 = 0xffff, FULL32 = 0xffffffff;
/** Bit 11: names are UTF-8. */
const FLAGS = 0x0800;
/** 1 January 1980, so that equal entries give equal files. */
const DATE = 0x21;
/** An extra field of a private kind, torch's own, which holds the padding. */
const PADDING_KIND = 0x4246;
const WIDE_KIND = 1;

/** Options of {@linkcode zipPieces}. */
export interface ZipOptions {
  /** Write the wide form whatever the size. @default only where it is needed */
  readonly wide?: boolean;
}

/** The archive in pieces, the entries' own bytes among them without a copy. */
export function* zipPieces(
  entries: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  options: ZipOptions = {},
): Generator<Uint8Array<ArrayBuffer>> {
  const names = new Map([...entries.keys()].map((name) => [name, new TextEncoder().encode(name)]));
  let bound = 0;
  for (const [name, bytes] of entries) {
    bound += bytes.byteLength + 2 * (names.get(name)?.byteLength ?? 0) + 4 * (ALIGNMENT + LOCAL_BYTES);
  }
  const wide = options.wide ?? (bound >= FULL32 || entries.size >= FULL16);
  const version = wide ? 45 : 20;
  const directory: Uint8Array<ArrayBuffer>[] = [];
  let at = 0;
  for (const [name, bytes] of entries) {
    const encoded = names.get(name) ?? new Uint8Array();
    const crc = crc32(bytes), size = bytes.byteLength;
    const shortSize = wide ? FULL32 : size;
    const unpadded = at + LOCAL_BYTES + encoded.byteLength + (wide ? WIDE_EXTRA_BYTES : 0) + 4;
    const padding = (ALIGNMENT - unpadded % ALIGNMENT) % ALIGNMENT;
    const common = [[2, version], [2, FLAGS], [2, 0], [2, 0], [2, DATE], [4, crc], [4, shortSize], [
      4,
      shortSize,
    ]] as const;
    const local = joined([
      packed([[4, 0x04034b50], ...common, [2, encoded.byteLength], [2, (wide ? WIDE_EXTRA_BYTES : 0) + 4 + padding]]),
      encoded,
      packed(wide ? [[2, WIDE_KIND], [2, 16], [8, size], [8, size]] : []),
      packed([[2, PADDING_KIND], [2, padding]]),
      new Uint8Array(padding),
    ]);
    yield local;
    yield bytes;
    const wideExtra = packed(wide ? [[2, WIDE_KIND], [2, 24], [8, size], [8, size], [8, at]] : []);
    directory.push(
      packed([[4, 0x02014b50], [2, version], ...common, [2, encoded.byteLength], [2, wideExtra.byteLength]]),
      packed([[2, 0], [2, 0], [2, 0], [4, 0], [4, wide ? FULL32 : at]]),
      encoded,
      wideExtra,
    );
    at += local.byteLength + size;
  }
  const directoryBytes = directory.reduce((sum, part) => sum + part.byteLength, 0);
  yield* directory;
  if (wide) {
    const [count, end] = [entries.size, at + directoryBytes];
    yield packed([[4, 0x06064b50], [8, 44], [2, version], [2, version], [4, 0], [4, 0], [8, count], [8, count]]);
    yield packed([[8, directoryBytes], [8, at], [4, 0x07064b50], [4, 0], [8, end], [4, 1]]);
  }
  const count = wide ? FULL16 : entries.size;
  const [shortBytes, shortStart] = wide ? [FULL32, FULL32] : [directoryBytes, at];
  yield packed([[4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, shortBytes], [4, shortStart], [2, 0]]);
}

/** {@linkcode zipPieces} joined. */
export function writeZip(
  entries: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  options: ZipOptions = {},
): Uint8Array<ArrayBuffer> {
  return joined(zipPieces(entries, options));
}
