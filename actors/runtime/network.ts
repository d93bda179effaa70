/**
 * Routes messages by actor id. Links are made on the first message to an actor whose address a `directory` message told,
 * or accepted from others; what is sent before a link exists waits, bounded in number and time. A lost peer is reported
 * once. It knows no role and restarts nothing.
 */
import { deadline } from "@std/async/deadline";
import { type Policy, refusal } from "../../wire/admission.ts";
import { errorText, type Link } from "../../wire/link.ts";
import type { Identity } from "../../wire/identity.ts";
import { localMessageTypes, type Message } from "../../wire/messages.ts";
import { connectSocket, listen, type ListenOptions } from "../../wire/socket_link.ts";
import type { Tls } from "../../wire/tls.ts";
import type { ActorId } from "./behavior.ts";
import { type Clock, realClock } from "./clock.ts";

/** One actor's way to all others. */
export interface Network {
  readonly id: ActorId;
  /** Sends, or keeps the message until the peer can be reached. Never throws: a lost peer is reported by `onPeerDown`. */
  send(to: ActorId, message: Message): void;
  /** Called for each message. Nothing is delivered before this and `onPeerDown` are both set. */
  onMessage: ((message: Message, from: ActorId) => void) | undefined;
  /** Called once for each peer that is lost, not for those that {@linkcode Network.close} ends. */
  onPeerDown: ((peer: ActorId, reason: string) => void) | undefined;
  /**
   * Ends all links to `peer` and forgets it; that is not reported as a loss. Processes of it older than start number
   * `below` are let in no more.
   */
  disconnect(peer: ActorId, reason: string, below?: number): void;
  /** Ends all links, with `reason` told to the peers; resolves when what was sent has left, or after 2 s. */
  close(reason: string): Promise<void>;
}

/** Bounds and parts of a {@linkcode LinkNetwork}. */
export interface NetworkOptions {
  id: ActorId;
  clock?: Clock;
  /** Opens a link to a known address. */
  connect(peer: ActorId, url: string): Promise<Link>;
  /** Longest wait for a peer's address and link. @default 15,000 */
  reachTimeoutMs?: number;
  /** Who may send what; absent lets every message in. */
  policy?: Policy;
  /** Takes a newer token in place of the one that will expire. */
  onToken?: (token: string) => void;
  /** Most messages that wait for one peer. @default 10,000 */
  waitingMax?: number;
}

/** Messages that wait for a link. */
interface Waiting {
  messages: Message[];
  connecting: boolean;
  cancelDeadline: () => void;
}

/** A network over any kind of link. */
export class LinkNetwork implements Network {
  readonly id: ActorId;
  #onMessage: ((message: Message, from: ActorId) => void) | undefined;
  #onPeerDown: ((peer: ActorId, reason: string) => void) | undefined;
  /** What happened before anybody listened. */
  #early: (() => void)[] = [];
  readonly #options: NetworkOptions;
  readonly #clock: Clock;
  readonly #urls = new Map<ActorId, string>();
  /** All links of a peer; the first is used for sending, so that its messages stay in order. */
  readonly #links = new Map<ActorId, Link[]>();
  readonly #waiting = new Map<ActorId, Waiting>();
  readonly #down = new Map<ActorId, string>();
  readonly #pulses = new Set<Link>();
  /** Lowest start number of an actor that may come in. */
  readonly #lowest = new Map<ActorId, number>();
  /** Lost peers that somebody looks for: what is sent to them is dropped. */
  readonly #away = new Set<ActorId>();
  /** How often each peer was disconnected: a connection that was under way then is not for its successor. */
  readonly #cuts = new Map<ActorId, number>();
  /** Asked when a peer is lost; true when it is looked for, so that its loss is no news until {@linkcode LinkNetwork.giveUp}. */
  onLost: ((peer: ActorId, reason: string) => boolean) | undefined;
  #closed = false;

  constructor(options: NetworkOptions) {
    this.id = options.id;
    this.#options = options;
    this.#clock = options.clock ?? realClock;
  }

  get onMessage(): ((message: Message, from: ActorId) => void) | undefined {
    return this.#onMessage;
  }

  set onMessage(handler: ((message: Message, from: ActorId) => void) | undefined) {
    this.#onMessage = handler;
    this.#tellEarly();
  }

  get onPeerDown(): ((peer: ActorId, reason: string) => void) | undefined {
    return this.#onPeerDown;
  }

  set onPeerDown(handler: ((peer: ActorId, reason: string) => void) | undefined) {
    this.#onPeerDown = handler;
    this.#tellEarly();
  }

  /** Remembers where `peer` listens, and forgets that it was lost. */
  addUrl(peer: ActorId, url: string): void {
    if (peer === this.id) return;
    if (this.#urls.get(peer) !== url) this.#down.delete(peer);
    this.#urls.set(peer, url);
    this.#connect(peer);
  }

  /** Takes a link that is open already, for instance one accepted by a listener. */
  adopt(link: Link): void {
    if (this.#closed) return link.close(`${this.id} has ended`);
    const peer = link.peer;
    this.#down.delete(peer);
    this.#away.delete(peer);
    this.#links.set(peer, [...this.#links.get(peer) ?? [], link]);
    link.onMessage = (message) => this.#receive(message, link);
    link.onClose = (reason) => this.#lose(peer, reason);
    const waiting = this.#waiting.get(peer);
    this.#waiting.delete(peer);
    waiting?.cancelDeadline();
    for (const message of waiting?.messages ?? []) this.send(peer, message);
  }

  /** Takes a link over which a peer sends its pulse and nothing else; nothing is ever sent there. */
  adoptPulse(link: Link): void {
    if (this.#closed) return link.close(`${this.id} has ended`);
    this.#pulses.add(link);
    link.onMessage = (message) =>
      message.type === "pulse" ? this.#receive(message, link) : link.close(`"${message.type}" is no pulse`);
    link.onClose = () => this.#pulses.delete(link);
  }

  /** Lowest start number of `peer` that may come in. */
  lowestOf(peer: ActorId): number {
    return this.#lowest.get(peer) ?? 0;
  }

  disconnect(peer: ActorId, reason: string, below = 0): void {
    // That start is known already.
    if (below > 0 && below <= this.lowestOf(peer)) return;
    this.#lowest.set(peer, Math.max(below, this.lowestOf(peer)));
    this.#waiting.get(peer)?.cancelDeadline();
    this.#waiting.delete(peer);
    this.#urls.delete(peer);
    this.#cut(peer, reason);
  }

  /** Ends all links to `peer`; what waits for one waits on. */
  #cut(peer: ActorId, reason: string): void {
    this.#cuts.set(peer, (this.#cuts.get(peer) ?? 0) + 1);
    this.#down.delete(peer);
    const links = this.#links.get(peer) ?? [];
    this.#links.delete(peer);
    for (const link of [...links, ...[...this.#pulses].filter((pulse) => pulse.peer === peer)]) {
      link.onClose = () => {};
      link.close(reason);
      this.#pulses.delete(link);
    }
  }

  send(to: ActorId, message: Message): void {
    if (this.#closed || this.#away.has(to)) return;
    const link = this.#links.get(to)?.[0];
    if (link === undefined) return this.#wait(to, message);
    try {
      link.send(message);
    } catch (error) {
      this.#lose(to, errorText(error));
    }
  }

  async close(reason: string): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiting of this.#waiting.values()) waiting.cancelDeadline();
    this.#waiting.clear();
    const links = [...[...this.#links.values()].flat(), ...this.#pulses];
    this.#links.clear();
    for (const link of links) link.close(reason);
    await deadline(Promise.all(links.map((link) => link.ended)), 2_000).catch(() => {});
  }

  #receive(message: Message, link: Link): void {
    if (this.#closed) return;
    if (localMessageTypes.has(message.type)) return link.close(`"${message.type}" must not come over a link`);
    const refused = this.#refused(message.type, link.peer);
    if (refused !== undefined) return link.close(refused);
    if (message.type === "renewed") return this.#options.onToken?.(message.token);
    if (message.type === "directory") {
      for (const { id, url, attempt = this.lowestOf(id) } of message.actors) {
        // Told before it was replaced.
        if (attempt < this.lowestOf(id)) continue;
        // What is linked under this name is an earlier start, and so is what was lost.
        if (attempt > this.lowestOf(id)) {
          this.#lowest.set(id, attempt);
          this.#cut(id, `start ${attempt} of it counts`);
        }
        // The controller says that it lives: a link that was lost is made anew with the next message.
        this.#down.delete(id);
        this.addUrl(id, url);
      }
    }
    this.#tell(() => this.#onMessage?.(message, link.peer));
  }

  /** Why `peer` may not send `type`, also over links that do not look themselves; undefined when it may. */
  #refused(type: string, peer: ActorId): string | undefined {
    const { policy } = this.#options;
    const from = policy?.roleOf(peer) ?? peer, to = policy?.roleOf(this.id) ?? this.id;
    return policy === undefined || policy.maySend(type, { from, to }) ? undefined : refusal(type, { from, to }).message;
  }

  /** Runs `event` when both handlers are set, in order. */
  #tell(event: () => void): void {
    this.#early.push(event);
    this.#tellEarly();
  }

  #tellEarly(): void {
    while (this.#onMessage !== undefined && this.#onPeerDown !== undefined) {
      const event = this.#early.shift();
      if (event === undefined) return;
      event();
    }
  }

  #wait(to: ActorId, message: Message): void {
    if (this.#down.has(to)) return;
    let waiting = this.#waiting.get(to);
    if (waiting === undefined) {
      const limitMs = this.#options.reachTimeoutMs ?? 15_000;
      const late = () =>
        this.#lose(to, `not reached within ${limitMs} ms${this.#urls.has(to) ? "" : ": address unknown"}`);
      waiting = { messages: [], connecting: false, cancelDeadline: this.#clock.after(limitMs, late) };
      this.#waiting.set(to, waiting);
    }
    const waitingMax = this.#options.waitingMax ?? 10_000;
    if (waiting.messages.length >= waitingMax) return this.#lose(to, `${waitingMax} messages wait for its link`);
    waiting.messages.push(message);
    this.#connect(to);
  }

  #connect(peer: ActorId): void {
    const waiting = this.#waiting.get(peer);
    const url = this.#urls.get(peer);
    if (waiting === undefined || waiting.connecting || url === undefined) return;
    waiting.connecting = true;
    const cuts = this.#cuts.get(peer);
    const settle = (action: () => void) => {
      if (this.#cuts.get(peer) === cuts) return action();
      // Who listened there is gone; whoever has its name now is asked anew.
      waiting.connecting = false;
      this.#connect(peer);
    };
    this.#options.connect(peer, url).then((link) => {
      if (this.#cuts.get(peer) !== cuts) link.close(`${peer} is another now`);
      settle(() => {
        if (link.peer === peer) return this.adopt(link);
        link.close(`expected ${peer}, found ${link.peer}`);
        this.#lose(peer, `${link.peer} answers at its address`);
      });
    }, (error) =>
      settle(() => {
        if (this.#waiting.get(peer) === waiting) this.#lose(peer, errorText(error));
      }));
  }

  /** Reports the loss of a peer that was looked for in vain. */
  giveUp(peer: ActorId, reason: string): void {
    if (this.#away.delete(peer)) this.#report(peer, reason);
  }

  #lose(peer: ActorId, reason: string): void {
    if (this.#closed || this.#down.has(peer) || this.#away.has(peer)) return;
    if (this.onLost?.(peer, reason)) {
      this.#away.add(peer);
      this.#drop(peer, reason);
    } else this.#report(peer, reason);
  }

  #report(peer: ActorId, reason: string): void {
    this.#down.set(peer, reason);
    this.#drop(peer, reason);
    this.#tell(() => this.#onPeerDown?.(peer, reason));
  }

  #drop(peer: ActorId, reason: string): void {
    this.#waiting.get(peer)?.cancelDeadline();
    this.#waiting.delete(peer);
    const links = this.#links.get(peer) ?? [];
    this.#links.delete(peer);
    for (const link of links) link.close(reason);
  }
}

/** Options of {@linkcode openSocketNetwork}. */
export interface SocketNetworkOptions extends Omit<NetworkOptions, "connect"> {
  /** The run's secret, or what a process without it got in its place. */
  token: string | Identity;
  /** Certificates; needed off loopback. */
  tls?: Tls;
  /** Told why a connection was refused. */
  onRefused?: (reason: string) => void;
  /** Accepts links too when given; port 0 takes any. */
  listen?: { hostname: string; port: number };
  /** Longest wait for one connection. @default 10,000 */
  connectTimeoutMs?: number;
}

/** A network over WebSockets, with its own address when it listens. */
export interface SocketNetwork {
  readonly network: LinkNetwork;
  /** Where others reach this actor; null when it does not listen. */
  readonly url: string | null;
  /** Ends the listener too. */
  close(reason: string): Promise<void>;
}

/**
 * Opens a network over WebSockets.
 *
 * @throws {WireError} when the address cannot be bound.
 */
export function openSocketNetwork(options: SocketNetworkOptions): SocketNetwork {
  const { id, token, policy, tls, onRefused } = options;
  const network = new LinkNetwork({
    ...options,
    onToken: typeof token === "string" ? undefined : (newer) => token.renew(newer),
    connect: (peer, url) =>
      connectSocket(url, { id, token, policy, tls, peer, timeoutMs: options.connectTimeoutMs ?? 10_000 }),
  });
  const listenOptions: ListenOptions | undefined = options.listen &&
    { id, token, policy, tls, onRefused, lowestOf: (actor) => network.lowestOf(actor), ...options.listen };
  const listener = listenOptions &&
    listen(listenOptions, (link) => link.pulse ? network.adoptPulse(link) : network.adopt(link));
  return {
    network,
    url: listener?.url ?? null,
    async close(reason: string): Promise<void> {
      await network.close(reason);
      await listener?.close();
    },
  };
}
