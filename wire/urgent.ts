/** Which messages may overtake others on a link. It knows their names and nothing else. */
import type { Message } from "./messages.ts";

/**
 * Types that do not wait behind what was sent before them: signs of life and orders to end, which nothing that comes
 * earlier can make wrong. All other messages of a link arrive in the order in which they were sent.
 */
export const urgentTypes: ReadonlySet<string> = new Set<Message["type"]>(["heartbeat", "pulse", "stop", "halt"]);

/** Largest message that is urgent; a longer one waits for its turn. */
export const urgentBytesMax = 65_536;
