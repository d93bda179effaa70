/**
 * The head of a message: its type, read from the first bytes of its msgpack without decoding anything behind it. Every
 * message starts with a map whose first key is `type`. It knows no type by name.
 */
import { WireError } from "./error.ts";

/** Longest name of a type, in bytes. */
const typeBytesMax = 64;
/** msgpack of the key `type`: a string of 4 bytes. */
const typeKey = [0xa4, 0x74, 0x79, 0x70, 0x65] as const;

/** `message` with `type` as its first field, so that {@linkcode typeOf} finds it. */
export function typeFirst<M extends { type: string }>(message: M): M {
  for (const key in message) return key === "type" ? message : { ...{ type: message.type }, ...message };
  return message;
}

/**
 * The type of the message that starts with `bytes`, of which at most the first 80 are looked at.
 *
 * @throws {WireError} when they are not the beginning of a message.
 */
export function typeOf(bytes: Uint8Array): string {
  const start = mapHeadBytes(bytes[0]);
  if (start === undefined) throw new WireError("message is no map, so its type is unknown");
  if (typeKey.some((byte, index) => bytes[start + index] !== byte)) {
    throw new WireError('message does not start with its type: its first field must be "type"');
  }
  const at = start + typeKey.length;
  const head = bytes[at];
  const [length, from] = (head & 0xe0) === 0xa0 ? [head & 0x1f, at + 1] : head === 0xd9 ? [bytes[at + 1], at + 2] : [];
  if (length === undefined || from === undefined || length > typeBytesMax || from + length > bytes.byteLength) {
    throw new WireError("message type is malformed: it must be a text of at most 64 bytes");
  }
  let type = "";
  for (const byte of bytes.subarray(from, from + length)) {
    // Anything but printable ASCII is no name of ours, and must not reach a log.
    if (byte < 0x20 || byte > 0x7e) throw new WireError("message type is malformed: it must be printable ASCII");
    type += String.fromCharCode(byte);
  }
  return type;
}

/** Bytes of a map's head; undefined for what is no map. */
function mapHeadBytes(head: number | undefined): number | undefined {
  if (head === undefined) return undefined;
  if ((head & 0xf0) === 0x80) return 1;
  return head === 0xde ? 3 : head === 0xdf ? 5 : undefined;
}
