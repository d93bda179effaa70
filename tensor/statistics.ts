/**
 * Batch statistics kept from a first forward pass, so that recomputing it normalises by the same numbers without asking
 * other replicas again and without moving running statistics. It knows keys and tables, no layers.
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
export interface SavedStatistics {
  /** What the first pass used; `undefined` in the first pass itself. */
  get(key: string): Statistics | undefined;
  /** Keeps what the first pass used; the table is now this object's to free. */
  set(key: string, statistics: Statistics): void;
}
