/**
 * Messages to bytes and back, through one msgpackr packer with its extensions off, so that any msgpack reader can follow
 * the wire. Small tensors travel as raw `bin` inside the msgpack; large ones lie apart, in memory of their own, and leave
 * an empty `bin` in their place. No other file imports msgpackr.
 */
import { Buffer } from "node:buffer";
import { Packr } from "msgpackr";
import { WireError } from "./error.ts";
import { typeFirst } from "./head.ts";
import { type Message, messages } from "./messages.ts";
import { scan } from "./scan.ts";

/** Deepest nesting, most values, most tensors that lie apart, and most bytes of one message. */
export const codecLimits = {
  depthMax: 16,
  valuesMax: 1_000_000,
  tensorsMax: 65_535,
  bytesMax: 512 * 1024 * 1024,
} as const;

// Without these settings msgpackr writes records and truncates typed arrays to bytes.
const packr = new Packr({ useRecords: false, moreTypes: false, int64AsType: "number", variableMapSize: true });

/** msgpackr's option that leaves so many bytes (at most 255) free before what it writes. */
const RESERVE = 2048;

/** A message as it travels: msgpack, and what lies apart from it. */
export interface Packed {
  readonly head: Uint8Array<ArrayBuffer>;
  /**
   * What belongs in the place of each empty `bin` of `head`, in the order of its fields; absent for a message that is
   * whole in its head.
   */
  readonly tensors?: readonly Uint8Array<ArrayBuffer>[];
}

/** Bytes of a message in all. */
export function packedBytes({ head, tensors = [] }: Packed): number {
  return head.byteLength + sumOf(tensors);
}

function sumOf(tensors: readonly Uint8Array[]): number {
  return tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0);
}

/** Options of {@linkcode prepare}. */
export interface PrepareOptions {
  /** Largest message that is whole in its head. @default 256 KiB */
  wholeBytesMax?: number;
  /** Smallest tensor that lies apart. @default 64 KiB */
  apartBytesMin?: number;
}

/** A message that can be written later: its fields are its own, its tensors still those of the caller. */
export interface Prepared {
  readonly type: string;
  /** Bytes of the message, rather more than less. */
  readonly bytes: number;
  readonly value: unknown;
  /** Bytes of `tensors`. */
  readonly apartBytes: number;
  /** As in {@linkcode Packed}. */
  readonly tensors?: readonly Uint8Array<ArrayBuffer>[];
}

/**
 * `message` checked and taken apart, without copying its tensors, which the caller must not change before it is written.
 *
 * @throws {WireError} when a value cannot travel (a typed array other than bytes, a date, a function, a cycle), or there
 * are more tensors than {@linkcode codecLimits} allow.
 */
export function prepare(
  message: Message,
  { wholeBytesMax = 256 * 1024, apartBytesMin = 64 * 1024 }: PrepareOptions = {},
): Prepared {
  const found: Found = { bytes: 0, bins: [] };
  const value = plain(typeFirst(message), { depth: 0, path: "message", found });
  const { type } = message, { bytes } = found;
  if (bytes <= wholeBytesMax) return { type, bytes, value, apartBytes: 0 };
  const apart = found.bins.filter(({ bytes }) => bytes.byteLength >= apartBytesMin || bytes.byteLength === 0);
  if (apart.length > codecLimits.tensorsMax) {
    throw new WireError(`message has ${apart.length} tensors, at most ${codecLimits.tensorsMax}`);
  }
  for (const { put } of apart) put(empty);
  const tensors = apart.map(({ bytes }) => bytes);
  return { type, bytes, value, tensors, apartBytes: sumOf(tensors) };
}

/** Most bytes of the memory that {@linkcode write} uses again and again. */
const scratchBytes = 512 * 1024;
let scratch: Buffer | undefined;

/**
 * The message as it travels, behind `room` free bytes. Its head is valid until the next call only.
 *
 * @throws {WireError} when its tensors' memory is not there any more.
 */
export function write(
  { type, value, bytes, tensors, apartBytes }: Prepared,
  { room = 0 }: { room?: number } = {},
): Packed {
  // Memory that is moved to another thread leaves views of 0 bytes behind.
  if (sumOf(tensors ?? []) !== apartBytes) {
    throw new WireError(`sending "${type}": its tensors were moved away while it waited; send a copy of them`);
  }
  const headBytes = bytes - apartBytes + room + 4_096;
  // Memory that is used again is in the processor's caches, and its pages are there.
  const again = scratch ??= memory(scratchBytes);
  packr.useBuffer(headBytes > scratchBytes ? memory(headBytes) : again);
  try {
    const written = packr.pack(value, RESERVE + room);
    const head = new Uint8Array(written.buffer as ArrayBuffer, written.byteOffset + room, written.byteLength - room);
    return { head, tensors };
  } finally {
    // A large message's memory is not held on to.
    packr.useBuffer(again);
  }
}

/** {@linkcode prepare} and {@linkcode write} at once. */
export function pack(message: Message, { room, ...options }: PrepareOptions & { room?: number } = {}): Packed {
  return write(prepare(message, options), { room });
}

/**
 * The bytes of `message`, whole, in memory that nobody else uses.
 *
 * @throws {WireError} as {@linkcode pack} does.
 */
export function encode(message: Message): Uint8Array<ArrayBuffer> {
  return new Uint8Array(pack(message, { wholeBytesMax: Infinity }).head);
}

const empty = new Uint8Array(0);

/** Memory that msgpackr can write to: it calls a Buffer's own methods for strings, which a plain Uint8Array lacks. */
function memory(byteLength: number): Buffer {
  return Buffer.allocUnsafeSlow(byteLength);
}

/**
 * The message in `bytes`, checked against the table, with `tensors` in the places of its empty `bin`s when they are given.
 * Tensors inside are views of `bytes`.
 *
 * @throws {WireError} for truncated or trailing bytes, foreign types, too deep nesting, tensors too many or too few, or a
 * message that breaks its schema.
 */
export function decode(bytes: Uint8Array<ArrayBuffer>, tensors?: readonly Uint8Array<ArrayBuffer>[]): Message {
  const byteLength = packedBytes({ head: bytes, tensors });
  if (byteLength > codecLimits.bytesMax) {
    throw new WireError(`message of ${byteLength} bytes is larger than ${codecLimits.bytesMax}`);
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
  if (tensors !== undefined) {
    let used = 0;
    value = filled(value, () => tensors[used++] ?? empty);
    if (used !== tensors.length) throw new WireError(`message has ${used} places for ${tensors.length} tensors`);
  }
  return messages.parse(value);
}

/** `value` with `next()` in the place of each empty `bin`, in the order in which {@linkcode plain} meets them. */
function filled(value: unknown, next: () => Uint8Array): unknown {
  if (value instanceof Uint8Array) return value.byteLength === 0 ? next() : value;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      if (typeof value[index] === "object") value[index] = filled(value[index], next);
    }
  } else if (isRecord(value)) {
    for (const key of Object.keys(value)) {
      if (typeof value[key] === "object") value[key] = filled(value[key], next);
    }
  }
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** What {@linkcode plain} has met: bytes of the message, rather more than less, and its tensors with their places. */
interface Found {
  bytes: number;
  readonly bins: { readonly bytes: Uint8Array<ArrayBuffer>; put(other: Uint8Array): void }[];
}

/** Where {@linkcode plain} is. */
interface Place {
  depth: number;
  path: string;
  found: Found;
}

/** `value` without undefined fields; refuses what msgpackr would write in a way of its own. */
function plain(value: unknown, { depth, path, found }: Place): unknown {
  found.bytes += 9;
  if (typeof value === "string") found.bytes += 3 * value.length;
  if (value === null || typeof value === "boolean" || typeof value === "number" || typeof value === "string") {
    return value;
  }
  if (depth > codecLimits.depthMax) throw new WireError(`${path} nests deeper than ${codecLimits.depthMax}`);
  if (value instanceof Uint8Array) {
    found.bytes += value.byteLength;
    return isBytes(value) ? value : new Uint8Array(value);
  }
  const note = (item: unknown, put: (other: Uint8Array) => void) => {
    if (isBytes(item)) found.bins.push({ bytes: item, put });
    return item;
  };
  if (Array.isArray(value)) {
    const result: unknown[] = new Array(value.length);
    for (let index = 0; index < value.length; index++) {
      const item = plain(value[index], { depth: depth + 1, path: `${path}[${index}]`, found });
      result[index] = note(item, (other) => result[index] = other);
    }
    return result;
  }
  if (typeof value === "object" && isPlainObject(value)) {
    const result: Record<string, unknown> = {};
    for (const [key, item] of Object.entries(value)) {
      if (item === undefined) continue;
      found.bytes += 9 + 3 * key.length;
      const carried = plain(item, { depth: depth + 1, path: `${path}.${key}`, found });
      result[key] = note(carried, (other) => result[key] = other);
    }
    return result;
  }
  const what = typeof value === "object" ? value?.constructor?.name ?? "object" : typeof value;
  throw new WireError(`${path} cannot travel: it is a ${what}; send tensors through toWire()`);
}

/** Bytes over memory that is not shared with other threads. */
function isBytes(value: unknown): value is Uint8Array<ArrayBuffer> {
  return value instanceof Uint8Array && value.buffer instanceof ArrayBuffer;
}

function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
