/** Where a step's time goes: waiting for images, waiting for other replicas, and the rest. It measures, nothing else. */
import type { Assigner, AssignRequest, Collective } from "../../collectives/collective.ts";
import type { TrainConfig } from "../../config.ts";
import type { RemotePeers } from "./remote_peers.ts";

/** The other replicas with their waits measured. */
export interface TimedPeers extends Assigner {
  /** The replica's SyncBN group. */
  group(replica: number): Collective;
  /** All replicas. */
  world(replica: number): Collective;
  /** See {@linkcode RemotePeers.join}. */
  join: RemotePeers["join"];
}

/** Measures one step. */
export class Stopwatch {
  readonly #now: () => number;
  readonly #startedAt: number;
  #dataMs = 0;
  #syncMs = 0;
  /** Waits under way; several replicas wait at once, and the time counts once. */
  #waits = 0;
  #waitStartedAt = 0;

  constructor(now: () => number) {
    this.#now = now;
    this.#startedAt = now();
  }

  /** Runs `action` and counts its time as waiting for data. */
  async time<T>(_what: "data", action: () => Promise<T>): Promise<T> {
    const startedAt = this.#now();
    try {
      return await action();
    } finally {
      this.#dataMs += this.#now() - startedAt;
    }
  }

  /** `peers` for one step, with keys that name the step and waits that count as synchronisation. */
  around(peers: RemotePeers, run: { step: number; config: TrainConfig }): TimedPeers {
    const { step, config } = run;
    const size = config.syncBatchNormGroup;
    const timed = (collective: Collective): Collective => ({
      size: collective.size,
      allReduce: (key, values) => this.#waiting(() => collective.allReduce(key, values)),
    });
    return {
      assign: (request: AssignRequest) => this.#waiting(() => peers.assign(request)),
      group: (replica) => {
        const low = Math.floor(replica / size) * size;
        const group = peers.collective(replica, { low, high: low + size });
        return timed({ ...group, allReduce: (key, values) => group.allReduce(`statistics/${step}/${key}`, values) });
      },
      join: (key, pieces, slots) => this.#waiting(() => peers.join(key, pieces, slots)),
      world: (replica) => timed(peers.collective(replica, { low: 0, high: config.replicas })),
    };
  }

  /** Milliseconds of the step so far. */
  report(): { dataMs: number; computeMs: number; syncMs: number } {
    const totalMs = this.#now() - this.#startedAt;
    return {
      dataMs: this.#dataMs,
      syncMs: this.#syncMs,
      computeMs: Math.max(0, totalMs - this.#dataMs - this.#syncMs),
    };
  }

  async #waiting<T>(action: () => Promise<T>): Promise<T> {
    if (this.#waits++ === 0) this.#waitStartedAt = this.#now();
    try {
      return await action();
    } finally {
      if (--this.#waits === 0) this.#syncMs += this.#now() - this.#waitStartedAt;
    }
  }
}
