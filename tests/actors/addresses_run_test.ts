/** A run whose actors speak IPv6 with one another. */
import { assert, assertEquals } from "@std/assert";
import { netPermission } from "../../actors/permissions.ts";
import { digestOf, run, withRuns } from "./runs.ts";

const hasIpv6 = () => {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
};

Deno.test({
  name: "a run of processes that listen on ::1 alone gives the same weights",
  ignore: !hasIpv6(),
  async fn() {
    await withRuns(async (place) => {
      const expected = digestOf(await run({ config: place.config({ steps: 3 }), singleProcess: true }));
      const urls: string[] = [];
      const config = place.config({ steps: 3, cluster: { trainers: 2, listen: "::1" } });
      const result = await run({ config, onListening: ({ url }) => urls.push(url) });
      assertEquals(digestOf(result), expected);
      assert(urls[0].startsWith("ws://[::1]:"), urls[0]);
    });
  },
});

Deno.test("the flag for the network names addresses of IPv6 in brackets, as Deno wants them", () => {
  assertEquals(netPermission([]), "--allow-net");
  assertEquals(netPermission(["127.0.0.1"]), "--allow-net=127.0.0.1");
  assertEquals(netPermission(["::1", "[fd00::2]"]), "--allow-net=[::1],[fd00::2]");
});
