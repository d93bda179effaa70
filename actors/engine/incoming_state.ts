/**
 * A training state on its way in, as named parts of the state before a step: from the checkpointer when a run goes on, or
 * from another trainer. Parts may come twice, from two trainers, with the same numbers. It loads nothing.
 */
import { deadline } from "@std/async/deadline";
import type { Message } from "../../wire/messages.ts";
import { EpochOver } from "./remote_peers.ts";
import { partDigest, type StatePart } from "./snapshot.ts";

interface Arriving {
  readonly epoch: number;
  readonly parts: Map<string, StatePart>;
  expected: number | undefined;
  readonly complete: PromiseWithResolvers<void>;
}

/** The state before a step, asked for in a membership epoch; in none by a run that goes on from a checkpoint. */
export interface StateKey {
  readonly step: number;
  readonly epoch?: number;
}

/** States by step and epoch: one that was asked for in an earlier epoch must not be taken for that of a later one. */
export class IncomingState {
  readonly #arriving = new Map<string, Arriving>();

  /**
   * Takes a part or the end.
   *
   * @throws {RangeError} when a part's numbers are not those that were sent.
   */
  receive(message: Extract<Message, { type: "state-part" | "state-end" }>): void {
    const state = this.#of(message);
    if (message.type === "state-end") state.expected = message.parts;
    else {
      const { part, sha256 } = message;
      if (sha256 !== undefined && partDigest(part) !== sha256) {
        throw new RangeError(
          `State before step ${message.step}: "${part.name}" arrived damaged; check this machine's memory`,
        );
      }
      state.parts.set(`${part.file}/${part.name}`, part);
    }
    if (state.parts.size === state.expected) state.complete.resolve();
  }

  /** The parts of the state once it has come whole, also when its epoch ends before the caller gets to them. */
  async arrived(key: StateKey, timeoutMs: number): Promise<StatePart[]> {
    const { complete, parts } = this.#of(key);
    try {
      await deadline(complete.promise, timeoutMs);
      this.#forget(key);
      return [...parts.values()];
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      const { expected } = this.#of(key);
      throw new Error(
        `Waiting for the state before step ${key.step} took longer than ${timeoutMs} ms: ${parts.size} of ${
          expected ?? "its"
        } parts came`,
      );
    }
  }

  /**
   * The parts of the state, which are forgotten.
   *
   * @throws {RangeError} when some are missing.
   */
  take(key: StateKey): StatePart[] {
    const { parts, expected } = this.#of(key);
    this.#arriving.clear();
    if (parts.size !== expected) {
      throw new RangeError(`State before step ${key.step} arrived with ${parts.size} of ${expected} tensors`);
    }
    return [...parts.values()];
  }

  /** Epoch `epoch` begins: waits of earlier ones end with {@linkcode EpochOver}, and what came for them is forgotten. */
  begin(epoch: number): void {
    for (const [name, arriving] of this.#arriving) {
      if (arriving.epoch >= epoch) continue;
      arriving.complete.reject(new EpochOver(`epoch ${epoch} begins`));
      this.#arriving.delete(name);
    }
  }

  /** What came for this state, and for those of earlier epochs. */
  #forget({ epoch = -1 }: StateKey): void {
    for (const [name, arriving] of this.#arriving) if (arriving.epoch <= epoch) this.#arriving.delete(name);
  }

  #of({ step, epoch = -1 }: StateKey): Arriving {
    const name = `${epoch}/${step}`;
    const known = this.#arriving.get(name);
    if (known !== undefined) return known;
    const made: Arriving = { epoch, parts: new Map(), expected: undefined, complete: Promise.withResolvers() };
    made.complete.promise.catch(() => {});
    this.#arriving.set(name, made);
    return made;
  }
}
