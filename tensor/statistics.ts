/**
 * Batch statistics kept from a segment's first run (tensor/checkpoint.ts), so that its second normalises by the same
 * numbers without asking other replicas again and without moving running statistics. It knows keys and tables, no layers.
 *
 * A normalisation looks its key up. When found, it takes that table and those rows, exchanges nothing, and leaves running
 * statistics alone; the ops before it must still run the kernels of the first run, because other kernels give other bits.
 * When not found, it makes the table, takes it from its tape (`tape.disown`) and hands it over by `set`; the table is
 * then none of the tensors that its step saves.
 */
import type { Tensor } from "./tensor.ts";

/** What one batch normalisation used. */
export interface Statistics {
  /** Table "normaliser" `[4, C]` (kernels/batch_norm.ts). Owned by the {@linkcode SavedStatistics}. */
  readonly normaliser: Tensor;
  /** Rows that were normalised together, over all replicas of the group. */
  readonly groupRows: number;
}

/** Statistics by the key of their normalisation. */
export class SavedStatistics {
  readonly #byKey = new Map<string, Statistics>();

  /** What the first run used; `undefined` in the first run itself. */
  get(key: string): Statistics | undefined {
    return this.#byKey.get(key);
  }

  /**
   * Keeps what the first run used; the table is now this object's, or its segment's, to free.
   *
   * @throws {TypeError} When two normalisations of a segment have one key.
   */
  set(key: string, statistics: Statistics): void {
    if (this.#byKey.has(key)) {
      throw new TypeError(`Cannot keep batch statistics: a segment's keys must differ, "${key}" came twice`);
    }
    this.#byKey.set(key, statistics);
  }

  /** The tables kept. */
  tensors(): Tensor[] {
    return [...this.#byKey.values()].map(({ normaliser }) => normaliser);
  }
}
