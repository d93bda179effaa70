/**
 * A TCP proxy on loopback that stands for a bad network between a host and whoever it connects to: it can hold back what
 * goes one way or both, delay all of it, break every connection, or those that carry nothing for a while.
 */

/** Directions, as the client sees them. */
export type Way = "up" | "down";

/** Connections through one port to another. */
export class FaultProxy implements AsyncDisposable {
  /** Time that every piece of data takes, milliseconds. */
  delayMs = 0;
  /** A connection ends when it has carried nothing for so long, one way or the other. */
  idleMs: number | undefined;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.Conn>();
  readonly #held: Record<Way, PromiseWithResolvers<void> | undefined> = { up: undefined, down: undefined };
  readonly #served: Promise<void>;

  /** @param target Port that connections go to. */
  constructor(target: number) {
    this.#served = this.#serve(target);
  }

  /** Port to connect to instead of the target. */
  get port(): number {
    return this.#listener.addr.port;
  }

  /** Holds back what goes this way, of all connections, without anybody being told. */
  hold(way: Way): void {
    this.#held[way] ??= Promise.withResolvers();
  }

  /** Lets go what was held back, and all that follows. */
  release(way: Way): void {
    this.#held[way]?.resolve();
    this.#held[way] = undefined;
  }

  /** Breaks every connection. */
  break(): void {
    for (const connection of this.#open) close(connection);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release("up");
    this.release("down");
    this.#listener.close();
    this.break();
    await this.#served;
  }

  async #serve(target: number): Promise<void> {
    const served: Promise<void>[] = [];
    try {
      for await (const client of this.#listener) served.push(this.#join(client, target));
    } catch {
      // Closed.
    }
    await Promise.all(served);
  }

  async #join(client: Deno.TcpConn, target: number): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: target }).catch(() => undefined);
    if (server === undefined) return close(client);
    for (const each of [client, server]) this.#open.add(each);
    await Promise.all([this.#pipe("up", client, server), this.#pipe("down", server, client)]);
    for (const each of [client, server]) {
      this.#open.delete(each);
      close(each);
    }
  }

  /** Data in order, each piece as late as it has to be; the end closes both. */
  async #pipe(way: Way, from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    let last = Promise.resolve();
    const read = async (): Promise<number | null> => {
      const idle = this.idleMs === undefined ? undefined : setTimeout(() => close(from), this.idleMs);
      return await from.read(buffer).finally(() => clearTimeout(idle));
    };
    try {
      for (let count = await read(); count !== null; count = await read()) {
        const bytes = buffer.slice(0, count), due = performance.now() + this.delayMs;
        const before = last;
        last = this.#pass(way, { bytes, due, before, to });
        last.catch(() => {});
        if (this.delayMs === 0) await last;
      }
      await last;
    } catch {
      // Broken, by one side or by the test.
    }
    close(from);
    close(to);
  }

  async #pass(
    way: Way,
    { bytes, due, before, to }: { bytes: Uint8Array; due: number; before: Promise<void>; to: Deno.Conn },
  ): Promise<void> {
    await before;
    const waitMs = due - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    while (this.#held[way] !== undefined) await this.#held[way]?.promise;
    for (let written = 0; written < bytes.byteLength;) written += await to.write(bytes.subarray(written));
  }
}

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // It is closed.
  }
}
