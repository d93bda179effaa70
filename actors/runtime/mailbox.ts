/** A bounded queue of messages in order of arrival. It refuses to grow past its bound rather than to forget. */
import type { Message } from "../../wire/messages.ts";
import type { ActorId } from "./behavior.ts";

/** One waiting message. */
export interface Delivery {
  readonly message: Message;
  readonly from: ActorId;
}

/** First in, first out. */
export class Mailbox {
  #items: Delivery[] = [];
  #head = 0;

  constructor(private readonly capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`mailbox capacity must be ≥ 1, got ${capacity}`);
    }
  }

  /** Messages that wait. */
  get length(): number {
    return this.#items.length - this.#head;
  }

  /**
   * Adds one message.
   *
   * @throws {RangeError} when the mailbox is full.
   */
  put(delivery: Delivery): void {
    if (this.length >= this.capacity) {
      throw new RangeError(
        `mailbox is full: ${this.capacity} messages wait and "${delivery.message.type}" came from ${delivery.from}`,
      );
    }
    this.#items.push(delivery);
  }

  /** Takes the oldest message; undefined when empty. */
  take(): Delivery | undefined {
    if (this.length === 0) return undefined;
    const delivery = this.#items[this.#head++];
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return delivery;
  }
}
