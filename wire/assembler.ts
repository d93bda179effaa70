/**
 * Puts the frames of one connection back together to messages. Limits are checked before memory is set aside, and at most
 * 16 MiB are on the word of an announcement alone. It knows no socket and decodes nothing.
 */
import type { Packed } from "./codec.ts";
import { WireError } from "./error.ts";
import { frameKind, partsMax } from "./frames.ts";

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

  /** Whether a message has begun whose pieces must come next. */
  get underway(): boolean {
    return this.#underway !== undefined;
  }

  /**
   * Takes one frame; the message when it completes one. Parts that came in one frame are views of it.
   *
   * @throws {WireError} for an unknown or misplaced frame, or a message above the cap.
   */
  take(bytes: Uint8Array<ArrayBuffer>): Packed | undefined {
    const underway = this.#underway;
    if (underway !== undefined) return this.#fill(underway, bytes);
    const pad = bytes[0] >> 4, kind = bytes[0] & 15;
    if ((kind === frameKind.whole || kind === frameKind.urgent) && pad < 4) {
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
