/** The one error of this room. It knows nothing of who sent what. */

/** Bytes, a message or a connection that breaks the rules of the wire. */
export class WireError extends Error {
  override readonly name = "WireError";
}
