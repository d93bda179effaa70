/**
 * Links inside one process. Every message passes through the codec, so that both ends see what a socket would show them
 * and nobody shares memory by accident.
 */
import { decode, pack, type Packed, packedBytes } from "./codec.ts";
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
    const packed = pack(message), byteLength = packedBytes(packed);
    if (byteLength > this.bounds.messageBytesMax) {
      throw new WireError(
        `sending "${message.type}" to ${this.peer}: ${byteLength} bytes are more than ${this.bounds.messageBytesMax}`,
      );
    }
    if (this.bufferedBytes + byteLength > this.bounds.bufferedBytesMax) {
      const reason =
        `${this.peer} does not read: ${this.bufferedBytes} bytes wait, at most ${this.bounds.bufferedBytesMax} may`;
      this.close(reason);
      throw new WireError(`sending "${message.type}": ${reason}`);
    }
    this.bufferedBytes += byteLength;
    // The receiver keeps views.
    const copied: Packed = {
      head: new Uint8Array(packed.head),
      tensors: packed.tensors?.map((tensor) => new Uint8Array(tensor)),
    };
    queueMicrotask(() => {
      this.bufferedBytes -= byteLength;
      this.other?.receive(copied);
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

  receive({ head, tensors }: Packed): void {
    try {
      this.deliver(decode(head, tensors));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.close(`bad message from ${this.peer}: ${errorText(error)}`);
    }
  }
}
