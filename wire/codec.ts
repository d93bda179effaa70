/**
 * Messages to bytes and back, through one msgpackr packer with its extensions off, so that any msgpack reader can follow
 * the wire. Tensors travel as raw `bin` and decode to views of the received bytes. No other file imports msgpackr.
 */
import { Buffer } from "node:buffer";
import { Packr } from "msgpackr";
import { WireError } from "./error.ts";
import { typeFirst } from "./head.ts";
import { type Message, messages } from "./messages.ts";
import { scan } from "./scan.ts";

/** Deepest nesting, most values and most bytes of one message. */
export const codecLimits = { depthMax: 16, valuesMax: 1_000_000, bytesMax: 512 * 1024 * 1024 } as const;

// Without these settings msgpackr writes records and truncates typed arrays to bytes.
const packr = new Packr({ useRecords: false, moreTypes: false, int64AsType: "number", variableMapSize: true });

/** msgpackr's option that leaves so many bytes (at most 255) free before what it writes. */
const RESERVE = 2048;

/**
 * The bytes of `message`, valid until changed by nobody: they share memory with nothing that is still in use. `room` bytes
 * before them in their buffer are free.
 *
 * @throws {WireError} when a value cannot travel (a typed array other than bytes, a date, a function, a cycle).
 */
export function encode(message: Message, { room = 0 }: { room?: number } = {}): Uint8Array<ArrayBuffer> {
  const sizes = { bytes: 0 };
  const value = plain(typeFirst(message), { depth: 0, path: "message", sizes });
  if (sizes.bytes < 65_536) return packed(value, room);
  // Given room for its tensors, msgpackr need not grow and copy; afterwards it must not hold on to that room.
  packr.useBuffer(roomFor(sizes.bytes + 65_536));
  try {
    return packed(value, room);
  } finally {
    packr.useBuffer(roomFor(8_192));
  }
}

/** Memory that msgpackr can write to: it calls a Buffer's own methods for strings, which a plain Uint8Array lacks. */
function roomFor(byteLength: number): Buffer {
  return Buffer.allocUnsafeSlow(byteLength);
}

function packed(value: unknown, room: number): Uint8Array<ArrayBuffer> {
  const bytes = packr.pack(value, RESERVE + room);
  return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset + room, bytes.byteLength - room);
}

/**
 * The message in `bytes`, checked against the table. Tensors inside are views of `bytes`.
 *
 * @throws {WireError} for truncated or trailing bytes, foreign types, too deep nesting, or a message that breaks its schema.
 */
export function decode(bytes: Uint8Array<ArrayBuffer>): Message {
  if (bytes.byteLength > codecLimits.bytesMax) {
    throw new WireError(`message of ${bytes.byteLength} bytes is larger than ${codecLimits.bytesMax}`);
  }
  scan(bytes, codecLimits);
  // A Node Buffer would make every decoded tensor a Buffer, whose slice() does not copy.
  const source = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let value: unknown;
  try {
    value = packr.unpack(source);
  } catch (error) {
    throw new WireError(`message is not msgpack: ${String(error).slice(0, 200)}`);
  }
  return messages.parse(value);
}

/** Where {@linkcode plain} is, and the tensors' bytes that it has met. */
interface Place {
  depth: number;
  path: string;
  sizes: { bytes: number };
}

/** `value` without undefined fields; refuses what msgpackr would write in a way of its own. */
function plain(value: unknown, place: Place): unknown {
  if (value === null || typeof value === "boolean" || typeof value === "number" || typeof value === "string") {
    return value;
  }
  const { depth, path, sizes } = place;
  if (depth > codecLimits.depthMax) throw new WireError(`${path} nests deeper than ${codecLimits.depthMax}`);
  if (value instanceof Uint8Array) {
    sizes.bytes += value.byteLength;
    return value;
  }
  if (Array.isArray(value)) {
    return value.map((item, index) => plain(item, { depth: depth + 1, path: `${path}[${index}]`, sizes }));
  }
  if (typeof value === "object" && isPlainObject(value)) {
    const result: Record<string, unknown> = {};
    for (const [key, item] of Object.entries(value)) {
      if (item !== undefined) result[key] = plain(item, { depth: depth + 1, path: `${path}.${key}`, sizes });
    }
    return result;
  }
  const found = typeof value === "object" ? value?.constructor?.name ?? "object" : typeof value;
  throw new WireError(`${path} cannot travel: it is a ${found}; send tensors through toWire()`);
}

function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
