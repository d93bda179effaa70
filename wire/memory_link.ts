/**
 * Links inside one process. Every message passes through the codec, so that both ends see what a socket would show them
 * and nobody shares memory by accident.
 */
import { decode, encode } from "./codec.ts";
import { WireError } from "./error.ts";
import { errorText, Inbox, type Link, type LinkLimits, linkLimits } from "./link.ts";
import type { Message } from "./messages.ts";

/**
 * Two connected ends: the first belongs to actor `first`, the second to `second`. Delivery is asynchronous and in order.
 */
export function memoryLinkPair(first: string, second: string, limits: LinkLimits = {}): [Link, Link] {
  const bounds = linkLimits(limits);
  const left = new MemoryLink(second, bounds);
  const right = new MemoryLink(first, bounds);
  left.other = right;
  right.other = left;
  return [left, right];
}

class MemoryLink extends Inbox implements Link {
  other: MemoryLink | undefined;
  bufferedBytes = 0;

  constructor(readonly peer: string, private readonly bounds: Required<LinkLimits>) {
    super();
  }

  send(message: Message): void {
    this.assertOpen(this.peer);
    // Copied, because small messages share one packing buffer and the receiver keeps views.
    const bytes = new Uint8Array(encode(message));
    if (bytes.byteLength > this.bounds.messageBytesMax) {
      throw new WireError(
        `sending "${message.type}" to ${this.peer}: ${bytes.byteLength} bytes are more than ${this.bounds.messageBytesMax}`,
      );
    }
    if (this.bufferedBytes + bytes.byteLength > this.bounds.bufferedBytesMax) {
      const reason =
        `${this.peer} does not read: ${this.bufferedBytes} bytes wait, at most ${this.bounds.bufferedBytesMax} may`;
      this.close(reason);
      throw new WireError(`sending "${message.type}": ${reason}`);
    }
    this.bufferedBytes += bytes.byteLength;
    queueMicrotask(() => {
      this.bufferedBytes -= bytes.byteLength;
      this.other?.receive(bytes);
    });
  }

  close(reason: string): void {
    const other = this.other;
    if (!this.end(reason)) return;
    queueMicrotask(() => {
      other?.end(reason);
      other?.settle();
      this.settle();
    });
  }

  receive(bytes: Uint8Array<ArrayBuffer>): void {
    try {
      this.deliver(decode(bytes));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.close(`bad message from ${this.peer}: ${errorText(error)}`);
    }
  }
}
