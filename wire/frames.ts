/**
 * Frames of a socket link. A frame starts with one head byte: a link's greeting, a whole message, or the announcement of
 * a message that is too large for a frame. After an announcement come raw pieces of that message, without head bytes (so
 * that neither side copies more than it must), until the announced length is reached. It knows no socket and no message.
 */
import { WireError } from "./error.ts";

/** Version of greeting and frames; both ends must agree. */
export const linkProtocol = 1;

/** Payload bytes of the largest frame. Deno closes a connection at frames of 64 MiB; 1 MiB is the fastest size. */
export const frameBytesMax = 1024 * 1024;

/** Head bytes of frames. */
export const frameKind = { greeting: 0, whole: 1, announcement: 2 } as const;

/** The frames of a message, with pieces of at most `payloadBytesMax` bytes; large ones view `bytes`. */
export function* framesOf(
  bytes: Uint8Array<ArrayBuffer>,
  payloadBytesMax: number = frameBytesMax,
): Generator<Uint8Array<ArrayBuffer>> {
  if (bytes.byteLength <= payloadBytesMax) return yield frame(frameKind.whole, bytes);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(bytes.byteLength), true);
  yield frame(frameKind.announcement, length);
  for (let start = 0; start < bytes.byteLength; start += payloadBytesMax) {
    yield bytes.subarray(start, Math.min(start + payloadBytesMax, bytes.byteLength));
  }
}

/** The first frame of each direction: protocol version and the sender's actor id. */
export function greetingFrame(id: string): Uint8Array<ArrayBuffer> {
  return frame(frameKind.greeting, new TextEncoder().encode(JSON.stringify({ protocol: linkProtocol, id })));
}

/**
 * The peer's id in a greeting.
 *
 * @throws {WireError} when the frame is no greeting of this protocol.
 */
export function greetingId(bytes: Uint8Array): string {
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
  return id;
}

/** Puts messages back together. */
export class Assembler {
  /** The announced message, as far as it has come. */
  #joined: Uint8Array<ArrayBuffer> | undefined;
  #filled = 0;

  constructor(private readonly messageBytesMax: number) {}

  /**
   * Takes one frame; the message's bytes when it completes one.
   *
   * @throws {WireError} for an unknown or misplaced frame, or a message above the cap.
   */
  take(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | undefined {
    if (this.#joined !== undefined) return this.#fill(this.#joined, bytes);
    const payload = bytes.subarray(1);
    if (bytes[0] === frameKind.whole) {
      if (payload.byteLength > this.messageBytesMax) throw this.#tooLarge(payload.byteLength);
      return payload;
    }
    if (bytes[0] !== frameKind.announcement) throw new WireError(`frame kind ${bytes[0]} is unknown`);
    if (payload.byteLength !== 8) throw new WireError(`announcement has ${payload.byteLength} bytes, needed 8`);
    const length = Number(new DataView(payload.buffer, payload.byteOffset, 8).getBigUint64(0, true));
    if (length > this.messageBytesMax) throw this.#tooLarge(length);
    if (length === 0) throw new WireError("announcement of an empty message");
    this.#joined = new Uint8Array(length);
    this.#filled = 0;
    return undefined;
  }

  #fill(joined: Uint8Array<ArrayBuffer>, piece: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const left = joined.byteLength - this.#filled;
    if (piece.byteLength === 0) throw new WireError("empty piece");
    if (piece.byteLength > left) throw new WireError(`piece of ${piece.byteLength} bytes where ${left} were left`);
    joined.set(piece, this.#filled);
    this.#filled += piece.byteLength;
    if (this.#filled < joined.byteLength) return undefined;
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
