/** Batches that a trainer has asked the loader for, until its steps take them. It decodes nothing. */
import { deadline } from "@std/async/deadline";
import { EpochOver } from "./remote_peers.ts";
import type { BatchMessage } from "./views.ts";

interface Waiting {
  readonly step: number;
  readonly replica: number;
  readonly batch: PromiseWithResolvers<BatchMessage>;
  here: boolean;
}

/** Batches by step and replica. */
export class Batches {
  readonly #waiting = new Map<string, Waiting>();

  /** @param ask Asks the loader for one. */
  constructor(private readonly ask: (want: { step: number; replica: number }) => void) {}

  /** Asks for a batch unless it was asked for already. */
  want(step: number, replica: number): void {
    const key = `${step}/${replica}`;
    if (this.#waiting.has(key)) return;
    const waiting: Waiting = { step, replica, batch: Promise.withResolvers(), here: false };
    // Whoever takes it hears of its loss.
    waiting.batch.promise.catch(() => {});
    this.#waiting.set(key, waiting);
    this.ask({ step, replica });
  }

  /** Takes a batch that came; one that nobody waits for any more is dropped. */
  receive(batch: BatchMessage): void {
    const waiting = this.#waiting.get(`${batch.step}/${batch.replica}`);
    if (waiting === undefined) return;
    waiting.here = true;
    waiting.batch.resolve(batch);
  }

  /** The batches of `step` for `replicas`, which were asked for; they are given once. */
  async take(step: number, { replicas, timeoutMs }: { replicas: readonly number[]; timeoutMs: number }): Promise<
    BatchMessage[]
  > {
    const all = replicas.map((replica) => {
      const waiting = this.#waiting.get(`${step}/${replica}`);
      if (waiting === undefined) {
        throw new RangeError(`The batch of step ${step}, replica ${replica} was not asked for`);
      }
      return waiting.batch.promise;
    });
    const batches = await deadline(Promise.all(all), timeoutMs);
    for (const replica of replicas) this.#waiting.delete(`${step}/${replica}`);
    return batches;
  }

  /** Forgets what has not come, whose waits end with {@linkcode EpochOver}: the loader may be another one now. */
  end(reason: string): void {
    for (const [key, { batch, here }] of this.#waiting) {
      if (here) continue;
      batch.reject(new EpochOver(reason));
      this.#waiting.delete(key);
    }
  }

  /** Forgets all but those of `replicas` from `step` on. */
  keep(step: number, replicas: readonly number[]): void {
    for (const [key, waiting] of this.#waiting) {
      if (waiting.step < step || !replicas.includes(waiting.replica)) this.#waiting.delete(key);
    }
  }
}
