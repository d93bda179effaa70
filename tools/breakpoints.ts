/**
 * The test's side of breakpoints (`actors/runtime/breakpoints.ts`): a listener on loopback that actors ask where to stand
 * still. It knows which of them are there, and waits until one has come to a place; what to do to it then is up to others.
 */
import { deadline } from "@std/async/deadline";
import type { Breakpoint, BreakpointOrder, BreakpointReport } from "../actors/runtime/breakpoints.ts";

/** An actor's process that asks for breakpoints. */
export interface Stoppable {
  readonly id: string;
  readonly pid: number;
  /** Resolves when its process has ended. */
  readonly ended: Promise<void>;
  /** Breaks its links to these peers. */
  cut(peers: readonly string[]): void;
  /** Lets it go on, if it stands still. */
  go(): void;
}

interface Present extends Stoppable {
  tell(order: BreakpointOrder): void;
  /** Told when it stands still. */
  onStand: () => void;
}

interface Awaited {
  readonly at: Breakpoint;
  readonly there: PromiseWithResolvers<Stoppable>;
}

/** All actors of a run, as far as breakpoints go. */
export class Breakpoints implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #present = new Map<string, Present>();
  /** What actors that are not there yet shall stop at. */
  readonly #awaited = new Map<string, Awaited>();
  readonly #served: Promise<void>;

  constructor() {
    this.#served = this.#serve();
  }

  /** For the run's options. */
  get address(): string {
    return `tcp://127.0.0.1:${this.#listener.addr.port}`;
  }

  /** The newest process of an actor; undefined when there is none. */
  processOf(id: string): Stoppable | undefined {
    return this.#present.get(id);
  }

  /**
   * Resolves when the actor, or one of its name that is yet to start, stands still there.
   *
   * @throws {Error} when it does not come there in time.
   */
  async reached(id: string, at: Breakpoint, timeoutMs = 60_000): Promise<Stoppable> {
    const there = Promise.withResolvers<Stoppable>();
    this.#awaited.set(id, { at, there });
    const present = this.#present.get(id);
    if (present !== undefined) this.#arm(present, { at, there });
    try {
      return await deadline(there.promise, timeoutMs);
    } catch (error) {
      throw new Error(`${id} did not ${at.on} ${at.type} within ${timeoutMs} ms`, { cause: error });
    } finally {
      this.#awaited.delete(id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#served;
  }

  async #serve(): Promise<void> {
    const served: Promise<void>[] = [];
    try {
      for await (const connection of this.#listener) served.push(this.#hear(connection).catch(() => {}));
    } catch {
      // Closed.
    }
    await Promise.all(served);
  }

  async #hear(connection: Deno.Conn): Promise<void> {
    const end = Promise.withResolvers<void>();
    let actor: Present | undefined;
    let rest = "";
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(4_096);
    try {
      for (let count = await connection.read(buffer); count !== null; count = await connection.read(buffer)) {
        const lines = (rest + decoder.decode(buffer.subarray(0, count), { stream: true })).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const report = JSON.parse(line) as BreakpointReport;
          if (report.kind === "begins") actor = this.#begin(connection, report, end.promise);
          else actor?.onStand();
        }
      }
    } finally {
      if (actor !== undefined && this.#present.get(actor.id) === actor) this.#present.delete(actor.id);
      end.resolve();
      connection.close();
    }
  }

  #begin(connection: Deno.Conn, { id, pid }: { id: string; pid: number }, ended: Promise<void>): Present {
    const tell = (order: BreakpointOrder) =>
      void connection.write(new TextEncoder().encode(`${JSON.stringify(order)}\n`)).catch(() => {});
    const actor: Present = {
      id,
      pid,
      ended,
      tell,
      cut: (peers) => tell({ cut: peers }),
      go: () => tell({ go: true }),
      onStand: () => {},
    };
    this.#present.set(id, actor);
    const awaited = this.#awaited.get(id);
    if (awaited === undefined) tell({});
    else this.#arm(actor, awaited);
    return actor;
  }

  #arm(actor: Present, { at, there }: Awaited): void {
    actor.onStand = () => there.resolve(actor);
    actor.tell({ stop: at });
  }
}
