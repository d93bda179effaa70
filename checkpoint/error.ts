/** The one error of this room. */

/** A checkpoint that cannot be written, or one that is broken, foreign or missing. */
export class CheckpointError extends Error {
  override readonly name = "CheckpointError";
}
