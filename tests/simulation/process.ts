/**
 * Simulated processes and the links between them: a process may be killed or frozen at any moment, a message takes its
 * time, messages of one link stay in order. It knows no role.
 */
import { LinkNetwork } from "../../actors/runtime/network.ts";
import type { Clock } from "../../actors/runtime/clock.ts";
import { runPolicy } from "../../actors/who_may_send.ts";
import { Inbox, type Link } from "../../wire/link.ts";
import { WireError } from "../../wire/error.ts";
import type { Message } from "../../wire/messages.ts";
import type { VirtualClock } from "./clock.ts";

/** What all processes of a simulation share. */
export interface World {
  readonly clock: VirtualClock;
  /** Uniform in [0, 1), from the seed. */
  readonly random: () => number;
  /** Told of each message that arrives. */
  readonly trace: (line: string) => void;
  readonly listening: Map<string, SimulatedProcess>;
}

/** One process. */
export class SimulatedProcess {
  alive = true;
  readonly network: LinkNetwork;
  readonly links = new Set<SimulatedLink>();
  /** Ends what runs inside; set by whoever starts it. */
  onDeath: () => void = () => {};
  /** Whether it goes on without the process that started it. */
  outlives = false;
  #frozen: (() => void)[] | undefined;

  /** @param attempt Number of this start of the actor, for those that have one. */
  constructor(readonly world: World, readonly id: string, readonly url: string, readonly attempt = Infinity) {
    this.network = new LinkNetwork({
      id,
      clock: this.clock,
      policy: runPolicy,
      connect: (peer, url) => this.connect(peer, url),
    });
    world.listening.set(url, this);
  }

  /** Timers of this process: none fires once it is dead, all wait while it is frozen. */
  get clock(): Clock {
    const { clock } = this.world;
    return {
      now: () => clock.now(),
      date: () => clock.date(),
      after: (delayMs, action) => clock.after(delayMs, () => this.gate(action)),
    };
  }

  /** Whatever happens to this process happens in here. */
  gate(action: () => void): void {
    if (!this.alive) return;
    if (this.#frozen !== undefined) this.#frozen.push(action);
    else action();
  }

  get frozen(): boolean {
    return this.#frozen !== undefined;
  }

  freeze(): void {
    this.#frozen ??= [];
  }

  thaw(): void {
    const waiting = this.#frozen ?? [];
    this.#frozen = undefined;
    for (const action of waiting) this.gate(action);
  }

  /** The end of the process without a word; what it has sent arrives or does not, then its peers see their links break. */
  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    this.world.listening.delete(this.url);
    for (const link of this.links) link.cut(this.world.random() < 0.5);
    this.onDeath();
  }

  /** Opens a link to whoever listens at `url`. */
  connect(peer: string, url: string): Promise<Link> {
    const { world } = this, { clock } = world;
    return new Promise((resolve, reject) => {
      clock.after(latency(world), () =>
        this.gate(() => {
          const target = world.listening.get(url);
          if (target === undefined) return reject(new Error(`nobody listens at ${url}`));
          // What a gate does by the token.
          if (target.network.lowestOf(this.id) > this.attempt) {
            return reject(new Error("the token was refused"));
          }
          const near = new SimulatedLink(this, peer), far = new SimulatedLink(target, this.id);
          [near.other, far.other] = [far, near];
          target.gate(() => target.network.adopt(far));
          resolve(near);
        }));
    });
  }
}

/** Mostly a fraction of a millisecond, now and then long. */
function latency({ random }: World): number {
  return random() < 0.02 ? 200 * random() : random();
}

/** One end of a connection between two processes. */
export class SimulatedLink extends Inbox implements Link {
  other: SimulatedLink | undefined;
  readonly bufferedBytes = 0;
  /** When the latest of what was sent arrives: nothing overtakes. */
  #lastAt = 0;
  #lossy = false;

  constructor(readonly owner: SimulatedProcess, readonly peer: string) {
    super();
    owner.links.add(this);
  }

  send(message: Message): void {
    this.assertOpen(this.peer);
    if (!this.owner.alive) throw new WireError("its process has ended");
    // The receiver must not see later changes of what was sent.
    const copy = structuredClone(message);
    this.#arrive(() => {
      if (this.#lossy) return;
      this.owner.world.trace(`${this.owner.id} ${this.peer} ${message.type}`);
      this.other?.owner.gate(() => this.other?.deliver(copy));
    });
  }

  close(reason: string): void {
    if (!this.end(reason)) return;
    this.settle();
    this.owner.links.delete(this);
    this.#arrive(() => this.other?.owner.gate(() => this.other?.close(reason)));
  }

  /** Breaks the connection; what is under way arrives first unless it is lost. */
  cut(lossy: boolean): void {
    this.#lossy ||= lossy;
    this.#arrive(() => this.other?.owner.gate(() => this.other?.close(`connection to ${this.owner.id} was lost`)));
    this.end("cut");
    this.settle();
  }

  #arrive(action: () => void): void {
    const { world } = this.owner, { clock } = world;
    this.#lastAt = Math.max(this.#lastAt, clock.now() + latency(world));
    clock.after(this.#lastAt - clock.now(), action);
  }
}
