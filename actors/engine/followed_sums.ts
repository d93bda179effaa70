/**
 * What a trainer without replicas needs of the others' steps: their sums by key, kept until it gets to them. It applies
 * nothing.
 */
import { deadline } from "@std/async/deadline";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire } from "../../wire/tensor.ts";
import { EpochOver } from "./remote_peers.ts";

type Vector = Float32Array<ArrayBuffer>;

/** Sums of the newest membership epoch that was heard of. */
export class FollowedSums {
  readonly #sums = new Map<string, PromiseWithResolvers<Vector>>();
  #epoch = 0;

  /** @param timeoutMs Longest wait for one sum. */
  constructor(private readonly timeoutMs: number) {}

  /** Begins `epoch`: what came in earlier ones is void, and waits for it end with {@linkcode EpochOver}. */
  begin(epoch: number): void {
    if (epoch <= this.#epoch) return;
    this.#epoch = epoch;
    for (const { reject } of this.#sums.values()) reject(new EpochOver(`epoch ${epoch} begins`));
    this.#sums.clear();
  }

  /** Takes a message from the sync shards; false when it is none of this object's. */
  receive(message: Message): boolean {
    if (message.type !== "reduced") return false;
    // The shards may have heard of an epoch before this trainer has.
    this.begin(message.epoch);
    if (message.epoch === this.#epoch) this.#of(message.key).resolve(f32FromWire(message.values));
    return true;
  }

  /** The sum under `key`, once it has come; it is given once. */
  async take(key: string): Promise<Vector> {
    try {
      return await deadline(this.#of(key).promise, this.timeoutMs);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      throw new Error(`Waiting for the sum ${key} of the others took longer than ${this.timeoutMs} ms`);
    } finally {
      this.#sums.delete(key);
    }
  }

  #of(key: string): PromiseWithResolvers<Vector> {
    const known = this.#sums.get(key);
    if (known !== undefined) return known;
    const made = Promise.withResolvers<Vector>();
    made.promise.catch(() => {});
    this.#sums.set(key, made);
    return made;
  }
}
