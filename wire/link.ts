/**
 * A link carries messages between two actors, in order but for urgent ones (`urgent.ts`), which may overtake others, and
 * tells each side once when it ends. Whether it runs over memory, a Worker or a socket is not known here; every kind passes
 * `tests/wire/link_exam.ts`.
 */
import { WireError } from "./error.ts";
import type { Message } from "./messages.ts";

/** One end of an ordered, two-way connection. */
export interface Link {
  /** Id of the actor at the other end. */
  readonly peer: string;
  /** Whether the peer sends its pulse here and nothing else. */
  readonly pulse?: boolean;
  /** Bytes given to {@linkcode Link.send} that have not left yet. */
  readonly bufferedBytes: number;
  /** Called for each message, in order but for urgent ones; those that came earlier are held until it is set. */
  onMessage: ((message: Message) => void) | undefined;
  /** Called once, after the last message; `reason` says who ended it and why. */
  onClose: ((reason: string) => void) | undefined;
  /** Resolves when the link has ended and nothing sent on it waits any more; a process should not exit before. */
  readonly ended: Promise<void>;
  /**
   * Sends `message`; the caller must not change its tensors afterwards.
   *
   * @throws {WireError} when the link is closed, the message is too large, or too much waits already; in the last case
   * the link is closed too.
   */
  send(message: Message): void;
  /** Ends the link; the peer's `onClose` gets `reason`. Repeating it does nothing. */
  close(reason: string): void;
}

/** Bounds of a link. */
export interface LinkLimits {
  /** Largest message. @default 512 MiB */
  messageBytesMax?: number;
  /** Most bytes that may wait to be sent before the link gives up on a peer that does not read. @default 1 GiB */
  bufferedBytesMax?: number;
  /** Most messages that may wait so. @default 100,000 */
  bufferedMessagesMax?: number;
}

/** {@linkcode LinkLimits} with defaults filled in. */
export function linkLimits(limits: LinkLimits): Required<LinkLimits> {
  const messageBytesMax = limits.messageBytesMax ?? 512 * 1024 * 1024;
  return {
    messageBytesMax,
    bufferedBytesMax: limits.bufferedBytesMax ?? 1024 * 1024 * 1024,
    bufferedMessagesMax: limits.bufferedMessagesMax ?? 100_000,
  };
}

/** The receiving half that all links share: holds early messages, and ends once. */
export class Inbox {
  #onMessage: ((message: Message) => void) | undefined;
  #onClose: ((reason: string) => void) | undefined;
  #held: Message[] = [];
  #reason: string | undefined;
  #closeTold = false;
  #draining = false;
  readonly #ended = Promise.withResolvers<void>();

  /** Resolves with {@linkcode Inbox.settle}. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Says that the transport below is done with. */
  settle(): void {
    this.#ended.resolve();
  }

  /** Why the link ended; undefined while it is open. */
  get closedReason(): string | undefined {
    return this.#reason;
  }

  get onMessage(): ((message: Message) => void) | undefined {
    return this.#onMessage;
  }

  set onMessage(handler: ((message: Message) => void) | undefined) {
    this.#onMessage = handler;
    this.#drain();
  }

  get onClose(): ((reason: string) => void) | undefined {
    return this.#onClose;
  }

  set onClose(handler: ((reason: string) => void) | undefined) {
    this.#onClose = handler;
    this.#drain();
  }

  /** Hands over a message that arrived; ignored after the end. */
  deliver(message: Message): void {
    if (this.#reason !== undefined) return;
    this.#held.push(message);
    this.#drain();
  }

  /** Ends the link for this side; false when it had ended already. */
  end(reason: string): boolean {
    if (this.#reason !== undefined) return false;
    this.#reason = reason;
    this.#drain();
    return true;
  }

  /** Whether messages wait for {@linkcode Inbox.onMessage} to be set. */
  get holding(): boolean {
    return this.#held.length > 0;
  }

  /** Called when all that has come was handed over. */
  protected drained(): void {}

  /** Throws when the link has ended. */
  assertOpen(peer: string): void {
    if (this.#reason !== undefined) throw new WireError(`sending to ${peer}: the link is closed (${this.#reason})`);
  }

  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    try {
      while (this.#held.length > 0 && this.#onMessage !== undefined) {
        const message = this.#held.shift();
        if (message !== undefined) this.#onMessage(message);
      }
      if (this.#held.length === 0) this.drained();
      const finished = this.#held.length === 0 && this.#reason !== undefined;
      if (finished && !this.#closeTold && this.#onClose !== undefined) {
        this.#closeTold = true;
        this.#onClose(this.#reason ?? "");
      }
    } finally {
      this.#draining = false;
    }
  }
}

/** Human-readable text of anything thrown. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
