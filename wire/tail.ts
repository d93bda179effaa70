/**
 * Pushes out the end of what a client sends over TLS. Deno keeps up to 64 KiB of it to itself when the network takes less
 * than it is given, until something else is sent (2.9.6; two machines or two network namespaces show it, loopback does
 * not). Empty text frames are that something: receivers pass them over.
 */
import { sendEmpty, type Sockets } from "./keep_alive.ts";

/**
 * When to push again after something was sent and pushed at once, each time four times later, until the slowest network must
 * have taken it.
 */
const firstMs = 5, lastMs = 6_000;

/** Pushes what a link's sockets have sent. */
export class TailPusher {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sentSince = false;

  constructor(private readonly sockets: () => Sockets) {}

  /** Something was sent. */
  sent(): void {
    this.#sentSince = true;
    sendEmpty(this.sockets());
    if (this.#timer === undefined) this.#pushAfter(firstMs);
  }

  /** The link is over. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #pushAfter(delayMs: number): void {
    this.#sentSince = false;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      sendEmpty(this.sockets());
      const nextMs = this.#sentSince ? firstMs : 4 * delayMs;
      if (nextMs <= lastMs) this.#pushAfter(nextMs);
    }, delayMs);
    Deno.unrefTimer(this.#timer);
  }
}
