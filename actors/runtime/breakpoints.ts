/**
 * Breakpoints, for tests of faults at an exact moment: an actor whose bootstrap names an address asks there at which
 * message it shall stand still. From then on nothing leaves it and nothing reaches it, until it is told to go on; to all
 * others it looks like one whose main thread is stuck. What becomes of it meanwhile is the test's business. No run but a
 * test's has such an address, and without one nothing of this is in a message's way.
 */
import type { Message } from "../../wire/messages.ts";
import type { ActorId } from "./behavior.ts";
import type { Network } from "./network.ts";

/** Where an actor shall stand still. */
export interface Breakpoint {
  readonly on: "send" | "receive";
  readonly type: Message["type"];
  /** Text that the message's `key` holds. @default any */
  readonly key?: string;
  /** Counts messages that fit, from 1. @default 1 */
  readonly nth?: number;
  /** Whether this message still passes. @default false */
  readonly after?: boolean;
}

/** What a test tells an actor, one JSON line each; the first one lets it begin. */
export interface BreakpointOrder {
  /** The next place to stand still at. */
  readonly stop?: Breakpoint;
  /** Peers to which the links break at once. */
  readonly cut?: readonly ActorId[];
  /** Go on, if it stands still. */
  readonly go?: boolean;
}

/** What an actor tells the test: who it is when it begins, then each time that it stands still. */
export type BreakpointReport =
  | { readonly kind: "begins"; readonly id: ActorId; readonly pid: number }
  | { readonly kind: "stands" };

/** A network that stands still when it is told to. */
export class StoppableNetwork implements Network {
  readonly #inner: Network;
  readonly #onStop: () => void;
  /** What happens while it stands still, in order. */
  readonly #later: (() => void)[] = [];
  #stop: { readonly at: Breakpoint; left: number } | undefined;
  #stands = false;
  #onMessage: Network["onMessage"];
  #onPeerDown: Network["onPeerDown"];

  /** @param onStop Told each time that it begins to stand still. */
  constructor(inner: Network, onStop: () => void) {
    this.#inner = inner;
    this.#onStop = onStop;
  }

  get id(): ActorId {
    return this.#inner.id;
  }

  get onMessage(): Network["onMessage"] {
    return this.#onMessage;
  }

  set onMessage(handler: Network["onMessage"]) {
    this.#onMessage = handler;
    this.#inner.onMessage = (message, from) => this.#pass("receive", message, () => this.#onMessage?.(message, from));
  }

  get onPeerDown(): Network["onPeerDown"] {
    return this.#onPeerDown;
  }

  set onPeerDown(handler: Network["onPeerDown"]) {
    this.#onPeerDown = handler;
    this.#inner.onPeerDown = (peer, reason) => this.#inTurn(() => this.#onPeerDown?.(peer, reason));
  }

  send(to: ActorId, message: Message): void {
    this.#pass("send", message, () => this.#inner.send(to, message));
  }

  disconnect(peer: ActorId, reason: string, below?: number): void {
    this.#inTurn(() => this.#inner.disconnect(peer, reason, below));
  }

  close(reason: string): Promise<void> {
    return this.#inner.close(reason);
  }

  /** Carries out what the test wants. */
  obey({ stop, cut = [], go = false }: BreakpointOrder): void {
    if (stop !== undefined) this.#stop = { at: stop, left: stop.nth ?? 1 };
    for (const peer of cut) {
      this.#inner.disconnect(peer, "cut by a test");
      this.#inner.onPeerDown?.(peer, "cut by a test");
    }
    if (!go || !this.#stands) return;
    this.#stands = false;
    for (const event of this.#later.splice(0)) event();
  }

  #pass(on: Breakpoint["on"], message: Message, event: () => void): void {
    if (this.#stands) return void this.#later.push(() => this.#pass(on, message, event));
    const stop = this.#stop;
    if (stop === undefined || !fits(stop.at, on, message) || --stop.left > 0) return event();
    this.#stop = undefined;
    if (stop.at.after) event();
    else this.#later.push(event);
    this.#stands = true;
    this.#onStop();
  }

  #inTurn(event: () => void): void {
    if (this.#stands) this.#later.push(() => this.#inTurn(event));
    else event();
  }
}

function fits({ on, type, key }: Breakpoint, way: Breakpoint["on"], message: Message): boolean {
  if (on !== way || type !== message.type) return false;
  return key === undefined || "key" in message && message.key.includes(key);
}

/** The network as it stops where the test at `address` says; resolves when the test lets the actor begin. */
export async function stoppable(network: Network, address: string): Promise<Network> {
  const { hostname, port } = new URL(address);
  const connection = await Deno.connect({ hostname, port: Number(port) });
  const tell = (report: BreakpointReport) =>
    void connection.write(new TextEncoder().encode(`${JSON.stringify(report)}\n`)).catch(() => {});
  const stopped = new StoppableNetwork(network, () => tell({ kind: "stands" }));
  tell({ kind: "begins", id: network.id, pid: Deno.pid });
  const begun = Promise.withResolvers<void>();
  const listen = async () => {
    let rest = "";
    for await (const text of connection.readable.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) stopped.obey(JSON.parse(line) as BreakpointOrder);
      if (lines.length > 0) begun.resolve();
    }
  };
  // A test that is over stops nobody any more.
  listen().catch(() => {}).finally(() => {
    stopped.obey({ go: true });
    begun.resolve();
  });
  await begun.promise;
  return stopped;
}
