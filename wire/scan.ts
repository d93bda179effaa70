/**
 * One pass over msgpack bytes before they are decoded: exactly one value, nothing truncated, nothing trailing, and only
 * the part of msgpack that messages use (no extensions, string keys). It keeps hostile bytes away from the decoder, and
 * builds no value.
 */
import { WireError } from "./error.ts";

/** Bounds of {@linkcode scan}. */
export interface ScanLimits {
  /** Deepest nesting of arrays and maps. */
  depthMax: number;
  /** Most values in all: scalars, arrays, maps and keys. */
  valuesMax: number;
}

/** Length in bytes of the count or value that follows a head byte. */
const extraBytes = new Uint8Array(256);
for (const [heads, extra] of [[[0xc4, 0xcc, 0xd0, 0xd9], 1], [[0xc5, 0xcd, 0xd1, 0xda, 0xdc, 0xde], 2]] as const) {
  for (const head of heads) extraBytes[head] = extra;
}
for (const head of [0xc6, 0xca, 0xce, 0xd2, 0xdb, 0xdd, 0xdf]) extraBytes[head] = 4;
for (const head of [0xcb, 0xcf, 0xd3]) extraBytes[head] = 8;

/**
 * Checks that `bytes` hold one whole value within `limits`.
 *
 * @throws {WireError} naming the byte where the check failed.
 */
export function scan(bytes: Uint8Array, limits: ScanLimits): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Values left to read at each depth, and whether that depth is a map (whose even values are keys).
  const left: number[] = [1];
  const isMap: boolean[] = [false];
  let offset = 0;
  let values = 0;
  while (left.length > 0) {
    const depth = left.length - 1;
    if (left[depth] === 0) {
      left.pop();
      isMap.pop();
      continue;
    }
    const mustBeKey = isMap[depth] && left[depth] % 2 === 0;
    left[depth]--;
    if (++values > limits.valuesMax) throw new WireError(`message holds more than ${limits.valuesMax} values`);
    if (offset >= bytes.byteLength) throw truncated(bytes);
    const head = bytes[offset];
    const start = offset;
    offset += 1 + extraBytes[head];
    if (offset > bytes.byteLength) throw truncated(bytes);
    if (mustBeKey && !isString(head)) throw new WireError(`message has a key that is no string at byte ${start}`);
    const container = containerCount(view, start);
    if (container !== undefined) {
      if (left.length > limits.depthMax) throw new WireError(`message nests deeper than ${limits.depthMax}`);
      if (container > bytes.byteLength - offset) throw truncated(bytes);
      left.push(container);
      isMap.push((head & 0xf0) === 0x80 || head >= 0xde && head <= 0xdf);
      continue;
    }
    offset += payloadBytes(view, start);
    if (offset > bytes.byteLength) throw truncated(bytes);
  }
  if (offset !== bytes.byteLength) {
    throw new WireError(`message has ${bytes.byteLength - offset} trailing bytes after byte ${offset}`);
  }
}

function isString(head: number): boolean {
  return (head & 0xe0) === 0xa0 || head >= 0xd9 && head <= 0xdb;
}

/** Values inside the array or map that starts at `start`; undefined for anything else. */
function containerCount(view: DataView, start: number): number | undefined {
  const head = view.getUint8(start);
  if ((head & 0xf0) === 0x80) return (head & 0x0f) * 2;
  if ((head & 0xf0) === 0x90) return head & 0x0f;
  if (head === 0xdc) return view.getUint16(start + 1);
  if (head === 0xdd) return view.getUint32(start + 1);
  if (head === 0xde) return view.getUint16(start + 1) * 2;
  if (head === 0xdf) return view.getUint32(start + 1) * 2;
  return undefined;
}

/** Bytes of the string or binary that starts at `start`, 0 for a scalar. */
function payloadBytes(view: DataView, start: number): number {
  const head = view.getUint8(start);
  if ((head & 0xe0) === 0xa0) return head & 0x1f;
  if (head === 0xc4 || head === 0xd9) return view.getUint8(start + 1);
  if (head === 0xc5 || head === 0xda) return view.getUint16(start + 1);
  if (head === 0xc6 || head === 0xdb) return view.getUint32(start + 1);
  if (head === 0xc1 || head >= 0xc7 && head <= 0xc9 || head >= 0xd4 && head <= 0xd8) {
    throw new WireError(`message uses msgpack type 0x${head.toString(16)}, which is not allowed, at byte ${start}`);
  }
  return 0;
}

function truncated(bytes: Uint8Array): WireError {
  return new WireError(`message is truncated: its ${bytes.byteLength} bytes end inside a value`);
}
