/**
 * Frames of a socket link. A frame starts with one head byte: a link's greeting, a whole message, or the beginning of a
 * message in parts. The upper half of a whole message's head byte tells how many bytes of padding follow it: messages end
 * at a multiple of 4 bytes, so that a tensor at their end is read where it lies, without a copy. A message in parts begins
 * with the lengths of its parts and, unless that is too long, its head; then come raw pieces of one part after the other,
 * without head bytes, so that a tensor leaves from its own memory and arrives in its own. This file knows no socket and no
 * message.
 */
import { codecLimits, type Packed } from "./codec.ts";
import { WireError } from "./error.ts";

/** Version of greeting and frames; both ends must agree. */
export const linkProtocol = 5;

/** Payload bytes of the largest frame. Deno closes a connection at frames of 64 MiB; 1 MiB is the fastest size. */
export const frameBytesMax = 1024 * 1024;

/** Bytes in front of a head that {@linkcode framesOf} can use, where the caller has left them. */
export const frameRoom = 4;

/** Most parts of a message: its head and its tensors. */
export const partsMax = codecLimits.tensorsMax + 1;

/**
 * Head bytes of frames. An announcement is followed by its message's head in pieces, `parts` contains it. An urgent message
 * is a whole one that takes no credit. `credit` carries the bytes that may be sent beyond what was granted before. By
 * `bulkWanted` a listener asks for the bulk connection; after `moved` the sender's messages come over that one, but for
 * urgent ones. A batch holds several whole messages (`batch.ts`).
 */
export const frameKind = {
  greeting: 0,
  whole: 1,
  announcement: 2,
  parts: 3,
  urgent: 4,
  credit: 5,
  bulkWanted: 6,
  moved: 7,
  batch: 8,
} as const;

/**
 * The frames of a message, in pieces of at most `payloadBytesMax` bytes; those of tensors view their memory. With `room`,
 * the {@linkcode frameRoom} bytes before the head in its buffer are overwritten, and a whole message is not copied either.
 *
 * @throws {WireError} when a tensor's memory is gone before its turn comes.
 */
export function* framesOf(
  packed: Packed,
  payloadBytesMax: number = frameBytesMax,
  { room = false, urgent = false }: { room?: boolean; urgent?: boolean } = {},
): Generator<Uint8Array<ArrayBuffer>> {
  const { head, tensors } = packed;
  if (tensors === undefined) return yield wholeFrame(head, { kind: urgent ? frameKind.urgent : frameKind.whole, room });
  const headInside = head.byteLength <= payloadBytesMax;
  const parts = headInside ? tensors : [head, ...tensors], lengths = parts.map((part) => part.byteLength);
  yield beginning(packed, headInside);
  for (const [index, part] of parts.entries()) {
    for (let start = 0; start < lengths[index]; start += payloadBytesMax) {
      if (part.byteLength !== lengths[index]) {
        throw new WireError("a tensor was moved away while it was sent; send a copy of it");
      }
      yield part.subarray(start, Math.min(start + payloadBytesMax, part.byteLength));
    }
  }
}

/** Bytes that bring `length` to a multiple of 4. */
function padding(length: number): number {
  return (4 - length % 4) % 4;
}

function wholeFrame(
  bytes: Uint8Array<ArrayBuffer>,
  { kind, room }: { kind: number; room: boolean },
): Uint8Array<ArrayBuffer> {
  const pad = padding(bytes.byteLength + 1), head = 1 + pad;
  const framed = room
    ? new Uint8Array(bytes.buffer, bytes.byteOffset - head, bytes.byteLength + head)
    : new Uint8Array(bytes.byteLength + head);
  if (!room) framed.set(bytes, head);
  framed.fill(0, 0, head);
  framed[0] = kind | pad << 4;
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

/** What a greeting says. */
export interface Greeting {
  /** The sender's actor id. */
  readonly id: string;
  /** Whether it sends its pulse here and nothing else. */
  readonly pulse: boolean;
  /** A listener's name for this link, with which its client may add a bulk connection to it. */
  readonly ticket?: string;
  /** The link that this connection is added to. */
  readonly bulk?: string;
}

const ticketPattern = /^[\da-f-]{36}$/;

/** The first frame of each direction. */
export function greetingFrame(
  id: string,
  { pulse, ticket, bulk }: { pulse?: true; ticket?: string; bulk?: string } = {},
): Uint8Array<ArrayBuffer> {
  const payload = new TextEncoder().encode(JSON.stringify({ protocol: linkProtocol, id, pulse, ticket, bulk }));
  const bytes = new Uint8Array(payload.byteLength + 1);
  bytes[0] = frameKind.greeting;
  bytes.set(payload, 1);
  return bytes;
}

/**
 * What a greeting says.
 *
 * @throws {WireError} when the frame is no greeting of this protocol.
 */
export function readGreeting(bytes: Uint8Array): Greeting {
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
  const pulse = "pulse" in value && value.pulse === true;
  return {
    id,
    pulse,
    ticket: "ticket" in value ? ticketOf(value.ticket) : undefined,
    bulk: "bulk" in value ? ticketOf(value.bulk) : undefined,
  };
}

function ticketOf(value: unknown): string {
  if (typeof value !== "string" || !ticketPattern.test(value)) throw new WireError("greeting's ticket is malformed");
  return value;
}
