import { assertEquals } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { openSocketNetwork } from "../../../actors/runtime/network.ts";
import { startPulse } from "../../../actors/runtime/pulse.ts";
import { runPolicy } from "../../../actors/who_may_send.ts";

Deno.test("a pulse comes on a connection of its own, which is made anew when it breaks, and is no way to be sent to", {
  // The thread's socket ends after it.
  sanitizeOps: false,
  sanitizeResources: false,
}, async () => {
  const token = "of this test", policy = runPolicy;
  const { network, url, close } = openSocketNetwork({
    id: "controller",
    token,
    policy,
    listen: { hostname: "127.0.0.1", port: 0 },
  });
  const heard: string[] = [], lost: string[] = [];
  let more = () => {};
  network.onMessage = (message, from) => {
    heard.push(`${from} ${message.type}`);
    more();
  };
  network.onPeerDown = (peer) => lost.push(peer);
  const pulses = (count: number) =>
    deadline(
      new Promise<void>((resolve) => {
        more = () => heard.length >= count ? resolve() : undefined;
        more();
      }),
      20_000,
    );
  const end = startPulse({ id: "trainer-0", to: "controller", url: url ?? "", token, policy });
  await pulses(2);
  network.disconnect("trainer-0", "a cable is pulled");
  const before = heard.length;
  await pulses(before + 2);
  end();
  await close("the test has ended");
  assertEquals([new Set(heard), lost], [new Set(["trainer-0 pulse"]), []]);
});
