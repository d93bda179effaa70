/**
 * Keeps a link's connections from being idle: proxies and address translators drop what has carried nothing for a minute
 * or so, each way by itself, and often without a word. A connection for large messages may have nothing to carry between
 * two checkpoints, and no actor but the controller gets heartbeats. Empty text frames are sent; receivers pass them over.
 */

/** Time between two frames for each connection; both ends send them. A quarter of a minute suits limits from 30 s on. */
export const keepAliveMs = 15_000;

/** Sends an empty text frame over each of `sockets` that is open. */
export function sendEmpty(sockets: Sockets): void {
  for (const socket of sockets) if (socket?.readyState === WebSocket.OPEN) socket.send("");
}

/** A link's connections; the second one may not be there. */
export type Sockets = readonly (Pick<WebSocket, "readyState" | "send"> | undefined)[];

/** Begins with that for the open ones of `sockets`; what it returns ends it. */
export function keepAlive(sockets: () => Sockets, everyMs: number): () => void {
  const timer = setInterval(() => sendEmpty(sockets()), everyMs);
  // A process with nothing else to do may end.
  Deno.unrefTimer(timer);
  return () => clearInterval(timer);
}
