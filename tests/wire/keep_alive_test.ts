/** Connections that nobody uses for a while, through a proxy that ends such ones. */
import { assertEquals, assertRejects } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { delay } from "@std/async/delay";
import { FaultProxy } from "../../tools/fault_proxy.ts";
import type { Link } from "../../wire/link.ts";
import type { Message } from "../../wire/messages.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";
import { toWire } from "../../wire/tensor.ts";

const token = "of this test", idleMs = 2_000;
const large: Message = { type: "weights-part", name: "large", tensor: toWire(new Float32Array(2 ** 18)) };

/** Resolves with the names of the next messages that come, as many as told. */
function next(link: Link, count: number): Promise<string[]> {
  const got: string[] = [];
  const all = deadline(
    new Promise<string[]>((resolve, reject) => {
      link.onMessage = ({ type }) => got.push(type) === count && resolve(got);
      link.onClose = (reason) => reject(new Error(reason));
    }),
    15_000,
  );
  // Where the link has ended before, sending tells so first.
  all.catch(() => {});
  return all;
}

/** Uses both connections of a link, leaves them alone for three times as long as the proxy bears, uses them again. */
async function useTwice(keepAliveMs: { left: number; right: number }): Promise<void> {
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "left", token, keepAliveMs: keepAliveMs.left }, accepted.resolve);
  await using proxy = new FaultProxy(listener.port);
  proxy.idleMs = idleMs;
  try {
    const url = `ws://127.0.0.1:${proxy.port}/`;
    const right = await connectSocket(url, { id: "right", peer: "left", token, keepAliveMs: keepAliveMs.right });
    const left = await deadline(accepted.promise, 15_000);
    for (let turn = 0; turn < 2; turn++) {
      const come = [next(left, 2), next(right, 2)];
      for (const link of [left, right]) {
        link.send(large);
        link.send({ type: "heartbeat", id: "right", handled: turn });
      }
      for (const types of await Promise.all(come)) assertEquals(types.sort(), ["heartbeat", "weights-part"]);
      if (turn === 0) await delay(3 * idleMs);
    }
    right.close("done");
    await deadline(left.ended, 15_000);
  } finally {
    await listener.close();
  }
}

Deno.test("both connections of a link outlast a proxy that ends idle ones", async () => {
  await useTwice({ left: 100, right: 100 });
});

Deno.test("a link of which one end leaves its connections alone is ended by such a proxy, one way or the other", async () => {
  for (const [left, right] of [[100, 60_000], [60_000, 100]]) {
    await assertRejects(() => useTwice({ left, right }), Error, "lost");
  }
});
