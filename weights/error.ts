/** The one error of this room. */

/** A weights file that is broken, foreign, dangerous or of another network; nothing of it was used. */
export class WeightsError extends Error {
  override readonly name = "WeightsError";
}
