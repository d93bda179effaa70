/**
 * Frames of a socket link. A frame starts with one head byte: a link's greeting, a whole message, or the beginning of a
 * message in parts. The upper half of a whole message's head byte tells how many bytes of padding follow it: messages end
 * at a multiple of 4 bytes, so that a tensor at their end is read where it lies, without a copy. A message in parts begins
 * with the lengths of its parts and, unless that is too long, its head; then come raw pieces of one part after the other,
 * without head bytes, so that a tensor leaves from its own memory and arrives in its own. This file knows no socket and no
 * message.
 */
import type { Packed } from "./codec.ts";
import { WireError } from "./error.ts";

/** Version of greeting and frames; both ends must agree. */
export const linkProtocol = 3;

/** Payload bytes of the largest frame. Deno closes a connection at frames of 64 MiB; 1 MiB is the fastest size. */
export const frameBytesMax = 1024 * 1024;

/** Bytes in front of a head that {@linkcode framesOf} can use, where the caller has left them. */
export const frameRoom = 4;

/** Most parts of a message. */
const partsMax = 65_536;

/** Head bytes of frames; an announcement is followed by its message's head in pieces, `parts` contains it. */
export const frameKind = { greeting: 0, whole: 1, announcement: 2, parts: 3 } as const;

/**
 * The frames of a message, in pieces of at most `payloadBytesMax` bytes; those of tensors view their memory. With `room`,
 * the {@linkcode frameRoom} bytes before the head in its buffer are overwritten, and a whole message is not copied either.
 *
 * @throws {WireError} when it has more than 65,536 parts.
 */
export function* framesOf(
  packed: Packed,
  payloadBytesMax: number = frameBytesMax,
  { room = false }: { room?: boolean } = {},
): Generator<Uint8Array<ArrayBuffer>> {
  const { head, tensors } = packed;
  if (tensors === undefined) return yield wholeFrame(head, room);
  if (tensors.length >= partsMax) throw new WireError(`message has ${tensors.length} tensors, at most ${partsMax - 1}`);
  const headInside = head.byteLength <= payloadBytesMax;
  yield beginning(packed, headInside);
  for (const part of headInside ? tensors : [head, ...tensors]) {
    for (let start = 0; start < part.byteLength; start += payloadBytesMax) {
      yield part.subarray(start, Math.min(start + payloadBytesMax, part.byteLength));
    }
  }
}

/** Bytes that bring `length` to a multiple of 4. */
function padding(length: number): number {
  return (4 - length % 4) % 4;
}

function wholeFrame(bytes: Uint8Array<ArrayBuffer>, room: boolean): Uint8Array<ArrayBuffer> {
  const pad = padding(bytes.byteLength + 1), head = 1 + pad;
  const framed = room
    ? new Uint8Array(bytes.buffer, bytes.byteOffset - head, bytes.byteLength + head)
    : new Uint8Array(bytes.byteLength + head);
  if (!room) framed.set(bytes, head);
  framed.fill(0, 0, head);
  framed[0] = frameKind.whole | pad << 4;
  return framed;
}

/** The first frame of a message in parts: the number of tensors, the lengths of head and tensors, perhaps the head. */
function beginning({ head, tensors = [] }: Packed, headInside: boolean): Uint8Array<ArrayBuffer> {
  const lengths = [head, ...tensors].map((part) => BigInt(part.byteLength));
  const from = headInside ? 5 : 1;
  const bytes = new Uint8Array(from + 8 * lengths.length + (headInside ? head.byteLength : 0));
  const view = new DataView(bytes.buffer);
  bytes[0] = headInside ? frameKind.parts : frameKind.announcement;
  if (headInside) view.setUint32(1, lengths.length, true);
  lengths.forEach((length, index) => view.setBigUint64(from + 8 * index, length, true));
  if (headInside) bytes.set(head, from + 8 * lengths.length);
  return bytes;
}

/** The first frame of each direction: protocol version, the sender's actor id, and whether it sends its pulse only. */
export function greetingFrame(id: string, { pulse }: { pulse?: true } = {}): Uint8Array<ArrayBuffer> {
  const payload = new TextEncoder().encode(JSON.stringify({ protocol: linkProtocol, id, pulse }));
  const bytes = new Uint8Array(payload.byteLength + 1);
  bytes[0] = frameKind.greeting;
  bytes.set(payload, 1);
  return bytes;
}

/**
 * The peer's id in a greeting, and whether it sends its pulse only.
 *
 * @throws {WireError} when the frame is no greeting of this protocol.
 */
export function readGreeting(bytes: Uint8Array): { id: string; pulse: boolean } {
  const limit = 1024;
  if (bytes[0] !== frameKind.greeting || bytes.byteLength > limit) throw new WireError("first frame is no greeting");
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(1)));
  } catch {
    throw new WireError("greeting is malformed");
  }
  if (typeof value !== "object" || value === null || !("protocol" in value) || !("id" in value)) {
    throw new WireError("greeting is malformed");
  }
  if (value.protocol !== linkProtocol) {
    throw new WireError(
      `greeting speaks link protocol ${
        String(value.protocol)
      }, needed ${linkProtocol}; run the same version on every host`,
    );
  }
  const id = value.id;
  if (typeof id !== "string" || !/^[\w.:@/-]{1,200}$/.test(id)) throw new WireError("greeting's actor id is malformed");
  return { id, pulse: "pulse" in value && value.pulse === true };
}

/** Most bytes set aside for a part on the word of its announcement alone. */
const untouchedBytesMax = 16 * 1024 * 1024;

/** A message in parts that is under way. */
interface Underway {
  /** Length of each part, the head's first. */
  readonly lengths: readonly number[];
  readonly parts: Uint8Array<ArrayBuffer>[];
  /** Memory of the part that is being joined, as far as it is believed in. */
  joined?: Uint8Array<ArrayBuffer>;
  filled: number;
}

/** Puts messages back together. */
export class Assembler {
  #underway: Underway | undefined;

  /**
   * @param admit Gets the beginning of each message and its length before memory is set aside for it; throws to refuse.
   */
  constructor(
    private readonly messageBytesMax: number,
    private readonly admit: (beginning: Uint8Array, byteLength: number) => void = () => {},
  ) {}

  /**
   * Takes one frame; the message when it completes one. Parts that came in one frame are views of it.
   *
   * @throws {WireError} for an unknown or misplaced frame, or a message above the cap.
   */
  take(bytes: Uint8Array<ArrayBuffer>): Packed | undefined {
    const underway = this.#underway;
    if (underway !== undefined) return this.#fill(underway, bytes);
    const pad = bytes[0] >> 4;
    if ((bytes[0] & 15) === frameKind.whole && pad < 4) {
      const head = bytes.subarray(1 + pad);
      if (head.byteLength > this.messageBytesMax) throw this.#tooLarge(head.byteLength);
      this.admit(head, head.byteLength);
      return { head };
    }
    const headInside = bytes[0] === frameKind.parts;
    if (!headInside && bytes[0] !== frameKind.announcement) throw new WireError(`frame kind ${bytes[0]} is unknown`);
    const begun = { lengths: this.#lengths(bytes, headInside), parts: [], filled: 0 };
    this.#underway = begun;
    return headInside ? this.#fill(begun, bytes.subarray(5 + 8 * begun.lengths.length)) : undefined;
  }

  /** The parts' lengths in a message's first frame. */
  #lengths(bytes: Uint8Array, headInside: boolean): number[] {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const from = headInside ? 5 : 1;
    const count = !headInside ? (bytes.byteLength - 1) / 8 : bytes.byteLength < 5 ? 0 : view.getUint32(1, true);
    if (!Number.isInteger(count) || count < 1 || count > partsMax || from + 8 * count > bytes.byteLength) {
      throw new WireError(
        `announcement of ${bytes.byteLength} bytes is malformed: it must tell 1 to ${partsMax} lengths`,
      );
    }
    const lengths = Array.from({ length: count }, (_, index) => Number(view.getBigUint64(from + 8 * index, true)));
    const sum = lengths.reduce((total, length) => total + length, 0);
    if (sum > this.messageBytesMax) throw this.#tooLarge(sum);
    if (lengths[0] === 0) throw new WireError("announcement of an empty message");
    const inside = bytes.byteLength - from - 8 * count;
    if (headInside && inside !== lengths[0]) {
      throw new WireError(`head of ${inside} bytes where ${lengths[0]} were told`);
    }
    return lengths;
  }

  #fill(underway: Underway, piece: Uint8Array<ArrayBuffer>): Packed | undefined {
    const { lengths, parts } = underway;
    const expected = lengths[parts.length], left = expected - underway.filled;
    if (piece.byteLength === 0) throw new WireError("empty piece");
    if (piece.byteLength > left) throw new WireError(`piece of ${piece.byteLength} bytes where ${left} were left`);
    if (parts.length === 0 && underway.filled === 0) {
      this.admit(
        piece,
        lengths.reduce((sum, length) => sum + length, 0),
      );
    }
    if (piece.byteLength === expected) parts.push(piece);
    else {
      const joined = room(underway, expected, piece.byteLength);
      joined.set(piece, underway.filled);
      underway.filled += piece.byteLength;
      if (underway.filled < expected) return undefined;
      parts.push(joined);
      underway.joined = undefined;
      underway.filled = 0;
    }
    while (lengths[parts.length] === 0) parts.push(new Uint8Array(0));
    if (parts.length < lengths.length) return undefined;
    this.#underway = undefined;
    return { head: parts[0], tensors: parts.slice(1) };
  }

  #tooLarge(length: number): WireError {
    return new WireError(`message of ${length} bytes is larger than ${this.messageBytesMax}`);
  }
}

/** Memory of the part that is being joined, with room for `more` bytes. */
function room(underway: Underway, expected: number, more: number): Uint8Array<ArrayBuffer> {
  const { joined, filled } = underway;
  if (joined !== undefined && filled + more <= joined.byteLength) return joined;
  // When so much has come, the rest of the announced length is believed.
  const next = new Uint8Array(
    joined === undefined && more <= untouchedBytesMax ? Math.min(expected, untouchedBytesMax) : expected,
  );
  if (joined !== undefined) next.set(joined.subarray(0, filled));
  return underway.joined = next;
}
