/**
 * A link over `postMessage`, between a thread and its Worker. Tensor bytes are transferred when a message owns them whole,
 * so a large tensor changes threads without a copy; the sender must not use them afterwards. It knows no codec: the
 * structured clone carries messages, and the table checks them on arrival.
 */
import { WireError } from "./error.ts";
import { errorText, Inbox, type Link, type LinkLimits, linkLimits } from "./link.ts";
import { type Message, messages } from "./messages.ts";

/** What a `Worker` and a worker's `self` have in common. */
export interface MessagePortLike {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent) => void): void;
  removeEventListener(type: "message", listener: (event: MessageEvent) => void): void;
}

/**
 * This thread's own side, for code that runs inside a Worker.
 *
 * @throws {TypeError} on a main thread, which has no such side.
 */
export function workerSelf(): MessagePortLike {
  const scope: unknown = globalThis;
  if (!isPort(scope)) throw new TypeError("workerSelf() needs to run inside a Worker");
  return scope;
}

function isPort(scope: unknown): scope is MessagePortLike {
  return typeof scope === "object" && scope !== null && "postMessage" in scope && "addEventListener" in scope;
}

/**
 * A link to actor `peer` on the other side of `port`, a `Worker` or a worker's `self`. Each side makes one.
 *
 * Bytes that span their whole `ArrayBuffer` are transferred, others are copied.
 */
export function workerLink(port: MessagePortLike, options: LinkLimits & { peer: string }): Link {
  return new WorkerLink(port, options.peer, linkLimits(options));
}

/** What crosses the port: a message, an acknowledgement of bytes taken, or the end. */
type Envelope = { link: "message"; message: unknown; size: number } | { link: "taken"; size: number } | {
  link: "close";
  reason: string;
};

class WorkerLink extends Inbox implements Link {
  bufferedBytes = 0;
  readonly #listener = (event: MessageEvent) => this.#receive(event.data);

  constructor(
    private readonly port: MessagePortLike,
    readonly peer: string,
    private readonly bounds: Required<LinkLimits>,
  ) {
    super();
    port.addEventListener("message", this.#listener);
  }

  send(message: Message): void {
    this.assertOpen(this.peer);
    const { size, transfer } = measure(message);
    if (size > this.bounds.messageBytesMax) {
      throw new WireError(
        `sending "${message.type}" to ${this.peer}: ${size} bytes are more than ${this.bounds.messageBytesMax}`,
      );
    }
    if (this.bufferedBytes + size > this.bounds.bufferedBytesMax) {
      const reason =
        `${this.peer} does not read: ${this.bufferedBytes} bytes wait, at most ${this.bounds.bufferedBytesMax} may`;
      this.close(reason);
      throw new WireError(`sending "${message.type}": ${reason}`);
    }
    this.bufferedBytes += size;
    this.#post({ link: "message", message, size }, transfer);
  }

  close(reason: string): void {
    if (this.closedReason !== undefined) return;
    this.#post({ link: "close", reason }, []);
    this.port.removeEventListener("message", this.#listener);
    this.end(reason);
    this.settle();
  }

  #post(envelope: Envelope, transfer: Transferable[]): void {
    this.port.postMessage(envelope, transfer);
  }

  #receive(data: unknown): void {
    if (!isEnvelope(data)) return;
    if (data.link === "taken") {
      this.bufferedBytes -= data.size;
    } else if (data.link === "close") {
      this.port.removeEventListener("message", this.#listener);
      this.end(data.reason);
      this.settle();
    } else {
      this.#post({ link: "taken", size: data.size }, []);
      this.#deliverChecked(data.message);
    }
  }

  #deliverChecked(value: unknown): void {
    let message: Message;
    try {
      message = messages.parse(value);
    } catch (error) {
      return this.close(`bad message from ${this.peer}: ${errorText(error)}`);
    }
    this.deliver(message);
  }
}

function isEnvelope(data: unknown): data is Envelope {
  if (typeof data !== "object" || data === null || !("link" in data)) return false;
  return data.link === "message" || data.link === "taken" || data.link === "close";
}

/** Approximate bytes of a message (its tensors and strings) and the buffers that can be transferred whole. */
function measure(message: Message): { size: number; transfer: Transferable[] } {
  const buffers = new Set<ArrayBuffer>();
  const shared = new Set<ArrayBuffer>();
  let size = 64;
  const visit = (value: unknown): void => {
    if (typeof value === "string") size += value.length;
    else if (value instanceof Uint8Array) {
      size += value.byteLength;
      const buffer = value.buffer;
      if (!(buffer instanceof ArrayBuffer)) return;
      // Two views of one buffer, or a part of a larger one, must not detach what others hold.
      if (buffers.has(buffer) || value.byteLength !== buffer.byteLength) shared.add(buffer);
      buffers.add(buffer);
    } else if (typeof value === "object" && value !== null) Object.values(value).forEach(visit);
  };
  visit(message);
  return { size, transfer: [...buffers].filter((buffer) => !shared.has(buffer) && buffer.byteLength > 0) };
}
