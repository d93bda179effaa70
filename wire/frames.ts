/**
 * Frames of a socket link. A frame starts with one head byte: a link's greeting, a whole message, or the announcement of
 * a message that is too large for a frame. The upper half of a whole message's head byte tells how many bytes of padding
 * follow it: messages end at a multiple of 4 bytes, so that a tensor at their end is read where it lies, without a copy. After an announcement come raw pieces of that message, without head bytes (so
 * that neither side copies more than it must), until the announced length is reached. It knows no socket and no message.
 */
import { WireError } from "./error.ts";

/** Version of greeting and frames; both ends must agree. */
export const linkProtocol = 2;

/** Payload bytes of the largest frame. Deno closes a connection at frames of 64 MiB; 1 MiB is the fastest size. */
export const frameBytesMax = 1024 * 1024;

/** Bytes in front of a message that {@linkcode framesOf} can use for the head, where the caller has left them. */
export const frameRoom = 4;

/** Head bytes of frames. */
export const frameKind = { greeting: 0, whole: 1, announcement: 2 } as const;

/**
 * The frames of a message, with pieces of at most `payloadBytesMax` bytes; large ones view `bytes`. With `room`, the
 * {@linkcode frameRoom} bytes before `bytes` in its buffer are overwritten, and a whole message is not copied either.
 */
export function* framesOf(
  bytes: Uint8Array<ArrayBuffer>,
  payloadBytesMax: number = frameBytesMax,
  { room = false }: { room?: boolean } = {},
): Generator<Uint8Array<ArrayBuffer>> {
  if (bytes.byteLength <= payloadBytesMax) return yield wholeFrame(bytes, room);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(bytes.byteLength), true);
  yield frame(frameKind.announcement, length);
  for (let start = 0; start < bytes.byteLength; start += payloadBytesMax) {
    yield bytes.subarray(start, Math.min(start + payloadBytesMax, bytes.byteLength));
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

/** The first frame of each direction: protocol version, the sender's actor id, and whether it sends its pulse only. */
export function greetingFrame(id: string, { pulse }: { pulse?: true } = {}): Uint8Array<ArrayBuffer> {
  return frame(frameKind.greeting, new TextEncoder().encode(JSON.stringify({ protocol: linkProtocol, id, pulse })));
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

/** Most bytes set aside for a message on the word of its announcement alone. */
const untouchedBytesMax = 16 * 1024 * 1024;

/** Memory for a message that ends at a multiple of 4 bytes. */
function roomFor(byteLength: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(padding(byteLength) + byteLength).subarray(padding(byteLength));
}

/** Puts messages back together. */
export class Assembler {
  /** The announced message, as far as it has come. */
  #joined: Uint8Array<ArrayBuffer> | undefined;
  #filled = 0;
  /** Length of the message that is being joined. */
  #expected = 0;
  /** Length of an announced message of which no piece has come. */
  #announced: number | undefined;

  /**
   * @param admit Gets the beginning of each message and its length before memory is set aside for it; throws to refuse.
   */
  constructor(
    private readonly messageBytesMax: number,
    private readonly admit: (beginning: Uint8Array, byteLength: number) => void = () => {},
  ) {}

  /**
   * Takes one frame; the message's bytes when it completes one.
   *
   * @throws {WireError} for an unknown or misplaced frame, or a message above the cap.
   */
  take(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | undefined {
    if (this.#announced !== undefined) {
      this.admit(bytes, this.#announced);
      this.#joined = roomFor(Math.min(this.#announced, untouchedBytesMax));
      this.#expected = this.#announced;
      this.#announced = undefined;
    }
    if (this.#joined !== undefined) return this.#fill(this.#joined, bytes);
    const pad = bytes[0] >> 4;
    const payload = bytes.subarray(1 + pad);
    if ((bytes[0] & 15) === frameKind.whole && pad < 4) {
      if (payload.byteLength > this.messageBytesMax) throw this.#tooLarge(payload.byteLength);
      this.admit(payload, payload.byteLength);
      return payload;
    }
    if (bytes[0] !== frameKind.announcement) throw new WireError(`frame kind ${bytes[0]} is unknown`);
    if (payload.byteLength !== 8) throw new WireError(`announcement has ${payload.byteLength} bytes, needed 8`);
    const length = Number(new DataView(payload.buffer, payload.byteOffset, 8).getBigUint64(0, true));
    if (length > this.messageBytesMax) throw this.#tooLarge(length);
    if (length === 0) throw new WireError("announcement of an empty message");
    this.#announced = length;
    this.#filled = 0;
    return undefined;
  }

  #fill(joined: Uint8Array<ArrayBuffer>, piece: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const left = this.#expected - this.#filled;
    if (piece.byteLength === 0) throw new WireError("empty piece");
    if (piece.byteLength > left) throw new WireError(`piece of ${piece.byteLength} bytes where ${left} were left`);
    if (this.#filled + piece.byteLength > joined.byteLength) {
      // So much has come that the rest of the announced length is believed.
      const whole = roomFor(this.#expected);
      whole.set(joined.subarray(0, this.#filled));
      joined = this.#joined = whole;
    }
    joined.set(piece, this.#filled);
    this.#filled += piece.byteLength;
    if (this.#filled < this.#expected) return undefined;
    this.#joined = undefined;
    return joined;
  }

  #tooLarge(length: number): WireError {
    return new WireError(`message of ${length} bytes is larger than ${this.messageBytesMax}`);
  }
}

function frame(kind: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(payload.byteLength + 1);
  bytes[0] = kind;
  bytes.set(payload, 1);
  return bytes;
}
