/**
 * What a trainer without replicas needs of the others' steps: their sums by membership epoch and key, kept until it gets to
 * them. A sum counts with the commit of its step, which names the epoch. It applies nothing.
 */
import { deadline } from "@std/async/deadline";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire } from "../../wire/tensor.ts";
import { EpochOver } from "./remote_peers.ts";

type Vector = Float32Array<ArrayBuffer>;

interface Sum {
  readonly epoch: number;
  readonly vector: PromiseWithResolvers<Vector>;
}

/** Sums of the newest membership epochs. */
export class FollowedSums {
  readonly #sums = new Map<string, Sum>();
  /** What carries an earlier epoch is void. */
  #lowest = 0;

  /** @param timeoutMs Longest wait for one sum. */
  constructor(private readonly timeoutMs: number) {}

  /** What came in epochs before `epoch` is void, and waits for it end with {@linkcode EpochOver}. */
  begin(epoch: number): void {
    this.#lowest = Math.max(this.#lowest, epoch);
    for (const [name, { epoch: own, vector }] of this.#sums) {
      if (own >= this.#lowest) continue;
      vector.reject(new EpochOver(`epoch ${epoch} begins`));
      this.#sums.delete(name);
    }
  }

  /** Takes a message from the sync shards; false when it is none of this object's. */
  receive(message: Message): boolean {
    if (message.type !== "reduced") return false;
    const { epoch, key, values } = message;
    if (epoch >= this.#lowest) this.#of(epoch, key).vector.resolve(f32FromWire(values));
    return true;
  }

  /** The sum under `key` of `epoch`, once it has come; it is given once. */
  async take(epoch: number, key: string): Promise<Vector> {
    try {
      return await deadline(this.#of(epoch, key).vector.promise, this.timeoutMs);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      throw new Error(`Waiting for the sum ${key} of the others took longer than ${this.timeoutMs} ms`);
    } finally {
      this.#sums.delete(`${epoch}/${key}`);
    }
  }

  #of(epoch: number, key: string): Sum {
    const name = `${epoch}/${key}`;
    const known = this.#sums.get(name);
    if (known !== undefined) return known;
    const made: Sum = { epoch, vector: Promise.withResolvers() };
    made.vector.promise.catch(() => {});
    this.#sums.set(name, made);
    return made;
  }
}
