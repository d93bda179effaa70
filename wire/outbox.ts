/**
 * What a socket link has to send: messages wait here, in order, for the receiver's credit and for the bulk connection that
 * large ones need. They are written when their turn comes, so that what waits costs the memory of its tensors and no more;
 * small ones that wait leave together. It is bounded by the link, and knows neither greetings nor what arrives.
 */
import {
  batchBytesMax,
  batchHeadBytes,
  batchLengthBytes,
  batchMessagesMax,
  batchOf,
  lateBelow,
  lateFrom,
} from "./batch.ts";
import { type Prepared, write } from "./codec.ts";
import { Allowance } from "./credit.ts";
import { frameBytesMax, frameKind, frameRoom, framesOf } from "./frames.ts";

/** Where frames go. */
export interface Ways {
  /** The link's first connection. */
  readonly main: WebSocket;
  /** The connection for large messages and what follows them; undefined until it is there. */
  readonly bulk: WebSocket | undefined;
  /** Whether frames of some sizes leave late ({@linkcode lateFrom}), and so are filled up. */
  readonly late: boolean;
  /** Asks for the bulk connection; repeating it does nothing. */
  wantBulk(): void;
}

/** The message that is being sent. */
interface Current {
  readonly frames: Iterator<Uint8Array<ArrayBuffer>>;
  next: Uint8Array<ArrayBuffer>;
  /** Bytes that have not left, about. */
  left: number;
}

/** The sending half of a socket link. */
export class Outbox {
  readonly #credit = new Allowance();
  #waiting: Prepared[] = [];
  /** Messages at the beginning of `#waiting` that have left. */
  #gone = 0;
  #waitingBytes = 0;
  #current: Current | undefined;
  #moved = false;

  constructor(private readonly ways: Ways) {}

  /** Messages that wait. */
  get length(): number {
    return this.#waiting.length - this.#gone + (this.#current === undefined ? 0 : 1);
  }

  /** Bytes that wait, outside the sockets. */
  get bytes(): number {
    return this.#waitingBytes + (this.#current?.left ?? 0);
  }

  /** Adds a message to those that wait; {@linkcode Outbox.pump} sends it. */
  put(message: Prepared): void {
    this.#waiting.push(message);
    this.#waitingBytes += message.bytes;
  }

  /** Sends a small message before all that wait, without credit. */
  sendUrgent(message: Prepared): void {
    for (const frame of written(message, true)) this.ways.main.send(frame);
  }

  /**
   * Takes a grant of the receiver.
   *
   * @throws {WireError} when it grants more than was sent.
   */
  grant(bytes: number): void {
    this.#credit.grant(bytes);
  }

  /** Forgets what waits. */
  clear(): void {
    this.#waiting = [];
    this.#gone = this.#waitingBytes = 0;
    this.#current = undefined;
  }

  /**
   * Sends what credit and connections allow.
   *
   * @throws {WireError} when the tensors of a message are gone.
   */
  pump(): void {
    while (this.#begin()) {
      const current = this.#current, socket = this.#moved ? this.ways.bulk : this.ways.main;
      if (current === undefined || socket?.readyState !== WebSocket.OPEN) return;
      for (;;) {
        const { byteLength } = current.next;
        if (!this.#credit.allows(byteLength)) return;
        this.#credit.spend(byteLength);
        // The socket copies what it is given before send() returns.
        socket.send(current.next);
        current.left = Math.max(0, current.left - byteLength);
        const { value, done } = current.frames.next();
        if (done) break;
        current.next = value;
      }
      this.#current = undefined;
    }
  }

  /** Whether there is a message to go on with; begins the next one when none is under way. */
  #begin(): boolean {
    if (this.#current !== undefined) return true;
    const message = this.#waiting[this.#gone];
    if (message === undefined) return false;
    if (message.tensors !== undefined && !this.#move()) return false;
    const together = this.#together();
    // What is whole is written to memory that is used again, so it must leave at once.
    if (message.tensors === undefined && together === 0 && !this.#allows(message.bytes + frameRoom)) return false;
    const taken = this.#waiting.slice(this.#gone, this.#gone + Math.max(1, together));
    const bytes = taken.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#gone += taken.length;
    if (this.#gone > 64 && this.#gone * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#gone);
      this.#gone = 0;
    }
    this.#waitingBytes -= bytes;
    const frames = taken.length === 1 ? written(message) : [batchOf(eachWritten(taken), this.#bytesMin)].values();
    const { value, done } = frames.next();
    if (done) return false;
    this.#current = { frames, next: this.#filledUp(message, value), left: bytes };
    return true;
  }

  /** The frame of a message that is whole in it, as one that leaves at once. */
  #filledUp({ tensors }: Prepared, frame: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const isLate = tensors === undefined && frame.byteLength > lateFrom && frame.byteLength < this.#bytesMin;
    return isLate ? batchOf([frame], this.#bytesMin) : frame;
  }

  get #bytesMin(): number {
    return this.ways.late ? lateBelow : 0;
  }

  /** Whether credit allows a frame of so many bytes, filled up. */
  #allows(bytes: number): boolean {
    return this.#credit.allows(Math.max(bytes, this.#bytesMin));
  }

  /** How many messages from the next one on a batch and the credit take; 0 when not even one. */
  #together(): number {
    let count = 0, bytes = batchHeadBytes;
    for (; count < batchMessagesMax; count++) {
      const message = this.#waiting[this.#gone + count];
      if (message === undefined || message.tensors !== undefined) break;
      bytes += batchLengthBytes + frameRoom + message.bytes;
      if (bytes > batchBytesMax || !this.#allows(bytes)) break;
    }
    return count;
  }

  /** Moves on to the bulk connection, behind all that was sent before; false while it is not there. */
  #move(): boolean {
    if (this.#moved) return true;
    if (this.ways.bulk === undefined) {
      this.ways.wantBulk();
      return false;
    }
    this.ways.main.send(new Uint8Array([frameKind.moved]));
    return this.#moved = true;
  }
}

/** The frames of a message; those of a whole one are valid until the next message is written only. */
function written(message: Prepared, urgent = false): Generator<Uint8Array<ArrayBuffer>> {
  return framesOf(write(message, { room: frameRoom }), frameBytesMax, { room: true, urgent });
}

/** The frames of one message after the other, each written when it is asked for. */
function* eachWritten(messages: readonly Prepared[]): Generator<Uint8Array<ArrayBuffer>> {
  for (const message of messages) yield* written(message);
}
