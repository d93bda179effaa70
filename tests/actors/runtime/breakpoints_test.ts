import { assertEquals } from "@std/assert";
import { StoppableNetwork } from "../../../actors/runtime/breakpoints.ts";
import type { Network } from "../../../actors/runtime/network.ts";
import type { Message } from "../../../wire/messages.ts";

/** A network that notes what is sent, and one in front of it that stops. */
function stoppable() {
  const seen: string[] = [];
  const inner: Network = {
    id: "trainer-0",
    send: (to, message) => void seen.push(`${message.type} to ${to}`),
    onMessage: undefined,
    onPeerDown: undefined,
    disconnect: (peer, reason) => void seen.push(`disconnect ${peer}: ${reason}`),
    close: () => Promise.resolve(),
  };
  const network = new StoppableNetwork(inner, () => seen.push("stands"));
  network.onMessage = (message, from) => seen.push(`${message.type} from ${from}`);
  network.onPeerDown = (peer) => seen.push(`${peer} down`);
  const take = () => seen.splice(0);
  return { inner, network, take };
}

const commit: Message = { type: "commit", step: 1, epoch: 0, learningRate: 0.1 };
const heartbeat: Message = { type: "heartbeat", id: "trainer-0", handled: 1 };

Deno.test("an actor stands still before the message that it is told, and all comes in order when it goes on", () => {
  const { inner, network, take } = stoppable();
  network.obey({ stop: { on: "receive", type: "commit", nth: 2 } });
  inner.onMessage?.(commit, "controller");
  network.send("controller", heartbeat);
  assertEquals(take(), ["commit from controller", "heartbeat to controller"]);
  inner.onMessage?.(commit, "controller");
  network.send("controller", heartbeat);
  inner.onPeerDown?.("sync-0", "reset");
  network.disconnect("sync-1", "it is gone");
  assertEquals(take(), ["stands"]);
  network.obey({ go: true });
  assertEquals(take(), [
    "commit from controller",
    "heartbeat to controller",
    "sync-0 down",
    "disconnect sync-1: it is gone",
  ]);
});

Deno.test("the message may pass first, be one of a key, or be the next of those that waited; a link may be cut", () => {
  const { inner, network, take } = stoppable();
  const sum = (key: string): Message => ({
    type: "contribute",
    key,
    epoch: 0,
    slots: 4,
    low: 0,
    high: 2,
    values: { dtype: "f32", shape: [1], bytes: new Uint8Array(4) },
  });
  network.obey({ stop: { on: "send", type: "contribute", key: "gradient/", after: true } });
  network.send("sync-0", sum("statistics/1"));
  network.send("sync-0", sum("gradient/1/0"));
  inner.onMessage?.(commit, "controller");
  assertEquals(take(), ["contribute to sync-0", "contribute to sync-0", "stands"]);
  network.obey({ stop: { on: "receive", type: "commit" }, cut: ["sync-0"], go: true });
  assertEquals(take(), ["disconnect sync-0: cut by a test", "stands"]);
  network.obey({ go: true });
  assertEquals(take(), ["commit from controller", "sync-0 down"]);
});
