/**
 * Frames of a socket link: one head byte, then either a link's greeting, a whole message, or one chunk of a message that
 * is too large for a frame. Chunks come back together under a cap. It knows no socket and no message.
 */
import { WireError } from "./error.ts";

/** Version of greeting and frames; both ends must agree. */
export const linkProtocol = 1;

/** Payload bytes of the largest frame. Deno closes a connection at frames of 64 MiB; 1 MiB is the fastest size. */
export const frameBytesMax = 1024 * 1024;

/** Head bytes of frames. */
export const frameKind = { greeting: 0, whole: 1, chunk: 2, lastChunk: 3 } as const;

/** Cuts `bytes` into frames of at most `payloadBytesMax` bytes after the head byte. */
export function* framesOf(
  bytes: Uint8Array,
  payloadBytesMax: number = frameBytesMax,
): Generator<Uint8Array<ArrayBuffer>> {
  if (bytes.byteLength <= payloadBytesMax) return yield frame(frameKind.whole, bytes);
  for (let start = 0; start < bytes.byteLength; start += payloadBytesMax) {
    const end = Math.min(start + payloadBytesMax, bytes.byteLength);
    yield frame(end === bytes.byteLength ? frameKind.lastChunk : frameKind.chunk, bytes.subarray(start, end));
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

/** Puts chunks back together. */
export class Assembler {
  #chunks: Uint8Array<ArrayBuffer>[] = [];
  #byteLength = 0;

  constructor(private readonly messageBytesMax: number) {}

  /**
   * Takes one frame; the message's bytes when it completes one.
   *
   * @throws {WireError} for an unknown or misplaced frame, or a message that grows past the cap.
   */
  take(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | undefined {
    const kind = bytes[0];
    const payload = bytes.subarray(1);
    if (this.#byteLength + payload.byteLength > this.messageBytesMax) {
      throw new WireError(`message grows past ${this.messageBytesMax} bytes`);
    }
    if (kind === frameKind.whole) {
      if (this.#chunks.length > 0) throw new WireError("whole message inside a chunked one");
      return payload;
    }
    if (kind !== frameKind.chunk && kind !== frameKind.lastChunk) throw new WireError(`frame kind ${kind} is unknown`);
    if (payload.byteLength === 0) throw new WireError("empty chunk");
    this.#chunks.push(payload);
    this.#byteLength += payload.byteLength;
    if (kind === frameKind.chunk) return undefined;
    return this.#join();
  }

  #join(): Uint8Array<ArrayBuffer> {
    const joined = new Uint8Array(this.#byteLength);
    let offset = 0;
    for (const chunk of this.#chunks) {
      joined.set(chunk, offset);
      offset += chunk.byteLength;
    }
    this.#chunks = [];
    this.#byteLength = 0;
    return joined;
  }
}

function frame(kind: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(payload.byteLength + 1);
  bytes[0] = kind;
  bytes.set(payload, 1);
  return bytes;
}
