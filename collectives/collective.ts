/**
 * What the maths needs from the other replicas, as interfaces: a sum in an order that never depends on who computes it.
 * A run fixes R logical replicas; every sum over replicas is the fixed binary tree of `tree.ts`, so the same bits come
 * out whichever trainer carries which replica.
 */

/**
 * One replica's view of a group of replicas that add vectors together: SyncBN's statistics over its group, gradients over
 * the whole world.
 */
export interface Collective {
  /** Number of replicas in the group. */
  readonly size: number;
  /**
   * The sum of `values` over the group, in the fixed tree order; every member calls it with the same `key` and length.
   * Rejects when a member is lost or the deadline passes.
   */
  allReduce(key: string, values: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>>;
}

/** World-wide assignment of samples to prototypes. */
export interface Assigner {
  /**
   * Codes of one replica, `[assignCrops, batch, prototypes]`, from the scores of all replicas.
   *
   * `scores` is `[assignCrops, rows, prototypes]`, rows = batch + the replica's queue; the batch comes first.
   */
  assign(request: AssignRequest): Promise<Float32Array<ArrayBuffer>>;
}

/** One replica's scores for {@linkcode Assigner.assign}. */
export interface AssignRequest {
  readonly step: number;
  readonly replica: number;
  readonly batch: number;
  readonly rows: number;
  readonly scores: Float32Array<ArrayBuffer>;
}
