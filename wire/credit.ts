/**
 * Credit: how many bytes a link's sender may have under way before the receiver has taken them. The receiver grants more
 * as it takes; a peer that is frozen or slow grants none, and what waits for it stays in the sender's queue, outside the
 * socket, which has no bound of its own. It knows no frame's content and no socket.
 */
import { WireError } from "./error.ts";

/** Bytes that may be under way before the first grant, and the most ever under way. */
export const windowBytes = 8 * 1024 * 1024;
/** Bytes taken that are worth a grant. A frame and these together are less than a window, so that nobody waits for ever. */
const grantBytes = 1024 * 1024;

/** The sender's half. */
export class Allowance {
  #left = windowBytes;

  /** Whether `bytes` may be sent now. */
  allows(bytes: number): boolean {
    return bytes <= this.#left;
  }

  /** Counts bytes that are sent. */
  spend(bytes: number): void {
    this.#left -= bytes;
  }

  /**
   * Counts a grant.
   *
   * @throws {WireError} when more is granted than was sent.
   */
  grant(bytes: number): void {
    this.#left += bytes;
    if (this.#left > windowBytes) {
      throw new WireError(`a grant of ${bytes} bytes is more than was sent: the window is ${windowBytes} bytes`);
    }
  }
}

/** The receiver's half. */
export class Ledger {
  #allowed = windowBytes;
  #owed = 0;

  /**
   * Counts bytes that have come.
   *
   * @throws {WireError} when they are more than was granted.
   */
  arrived(bytes: number): void {
    this.#allowed -= bytes;
    if (this.#allowed < 0) {
      throw new WireError(`${-this.#allowed} bytes were sent beyond the credit; the window is ${windowBytes} bytes`);
    }
    this.#owed += bytes;
  }

  /** Bytes to grant now that all that has come was taken; 0 while it is not worth a frame. */
  due(): number {
    if (this.#owed < grantBytes) return 0;
    const bytes = this.#owed;
    this.#allowed += bytes;
    this.#owed = 0;
    return bytes;
  }
}
