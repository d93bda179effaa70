/** A listener for tests: the actor `left`, which waits 200 ms for a greeting. */
import type { Link } from "../../wire/link.ts";
import { listen, type Listener } from "../../wire/socket_link.ts";

/** What the actor `right` shows it. */
export const token = "right-token";

/** Calls `test` with a listener and the links that it gets. */
export async function withListener(test: (listener: Listener, links: Link[]) => Promise<void>): Promise<void> {
  const links: Link[] = [];
  const listener = listen({ id: "left", token, greetingTimeoutMs: 200 }, (link) => links.push(link));
  try {
    await test(listener, links);
  } finally {
    await listener.close();
  }
}
