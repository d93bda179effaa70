/**
 * Vectors of the slots of a group, one after the other in their order, whatever arrives first. They may differ in length.
 */
import type { SlotRange } from "./tree.ts";

/** Takes the vectors of ranges of slots, in any order. */
export class JoinAccumulator {
  readonly #parts = new Map<number, { readonly high: number; readonly values: Float32Array }>();
  #covered = 0;

  /** @param slots Number of slots in all. */
  constructor(private readonly slots: number) {
    if (!Number.isInteger(slots) || slots < 1) throw new RangeError(`a group needs at least 1 slot, got ${slots}`);
  }

  /**
   * Adds the vectors of slots `range`, one after the other. Returns those of all slots when it completes them.
   *
   * @throws {RangeError} when the range is empty, outside the slots, or overlaps an earlier one; nothing is changed then.
   */
  add({ low, high }: SlotRange, values: Float32Array): Float32Array<ArrayBuffer> | undefined {
    if (!Number.isInteger(low) || !Number.isInteger(high) || low < 0 || high > this.slots || low >= high) {
      throw new RangeError(`slots [${low}, ${high}) must be a range inside [0, ${this.slots})`);
    }
    for (const [otherLow, other] of this.#parts) {
      if (otherLow < high && low < other.high) {
        throw new RangeError(`slots [${low}, ${high}) were given already, in [${otherLow}, ${other.high})`);
      }
    }
    this.#parts.set(low, { high, values });
    this.#covered += high - low;
    if (this.#covered < this.slots) return undefined;
    const inOrder = [...this.#parts].sort(([a], [b]) => a - b).map(([, part]) => part.values);
    return joined(inOrder);
  }
}

/** One vector after the other. */
export function joined(pieces: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const whole = new Float32Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
