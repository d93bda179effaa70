/** Networks of several actors inside one process, joined by memory links. It knows no socket. */
import { memoryLinkPair } from "../../wire/memory_link.ts";
import type { Policy } from "../../wire/admission.ts";
import type { Link } from "../../wire/link.ts";
import type { ActorId } from "./behavior.ts";
import type { Clock } from "./clock.ts";
import { LinkNetwork } from "./network.ts";

/** Options of {@linkcode MemoryHub.network}. */
export interface HubNetworkOptions {
  clock?: Clock;
  reachTimeoutMs?: number;
}

/** Actors that find each other by id, without addresses. */
export class MemoryHub {
  /** @param policy Who may send what; absent lets every message in. */
  constructor(private readonly policy?: Policy) {}

  readonly #networks = new Map<ActorId, LinkNetwork>();

  /**
   * The network of actor `id`; every other actor of the hub can reach it at once, those that come later too.
   *
   * @throws {RangeError} when the hub holds an open network of that id.
   */
  network(id: ActorId, options: HubNetworkOptions = {}): LinkNetwork {
    if (this.#networks.has(id)) throw new RangeError(`actor id "${id}" is taken`);
    const network = new LinkNetwork({
      id,
      policy: this.policy,
      ...options,
      connect: (peer) => this.#connect(id, peer),
    });
    for (const [otherId, other] of this.#networks) {
      network.addUrl(otherId, `memory:${otherId}`);
      other.addUrl(id, `memory:${id}`);
    }
    this.#networks.set(id, network);
    return network;
  }

  /** Address of `id` inside the hub. */
  url(id: ActorId): string {
    return `memory:${id}`;
  }

  /** Ends the network of `id`; its peers see it go down. */
  remove(id: ActorId, reason: string): void {
    this.#networks.get(id)?.close(reason);
    this.#networks.delete(id);
  }

  #connect(from: ActorId, to: ActorId): Promise<Link> {
    const target = this.#networks.get(to);
    if (target === undefined) return Promise.reject(new Error(`${to} is not in this process`));
    const [near, far] = memoryLinkPair(from, to);
    target.adopt(far);
    return Promise.resolve(near);
  }
}
