import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { TailPusher } from "../../wire/tail.ts";

Deno.test("what was sent is pushed soon and ever more rarely, over open sockets, until the link is over", async () => {
  let pushed = 0, closed = 0;
  const open = { readyState: WebSocket.OPEN, send: (data: unknown) => void (assertEquals(data, ""), pushed++) };
  const closing = { readyState: WebSocket.CLOSING, send: () => void closed++ };
  const tail = new TailPusher(() => [open, undefined, closing]);
  assertEquals(pushed, 0);
  tail.sent();
  while (pushed < 3) await delay(5);
  tail.end();
  const then = pushed;
  await delay(100);
  assert(pushed === then && closed === 0, `${pushed} pushes, ${closed} over a closing socket`);
});
