import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { joinAsHost } from "../../actors/host_process.ts";
import type { RunEvent } from "../../actors/events.ts";
import { digestOf, gpuEnvironment, run, withRuns } from "./runs.ts";

Deno.test("the final weights are the same bits in one process, on 1, 2 and 4 trainers, and on two hosts", async () => {
  await withRuns(async (place) => {
    const alone = await run({ config: place.config({ cluster: { trainers: 2 } }), singleProcess: true });
    const expected = digestOf(alone);
    assertEquals(alone.records.length, 6);
    for (const trainers of [1, 4]) {
      const result = await run({ config: place.config({ cluster: { trainers, syncShards: trainers } }) });
      assertEquals(digestOf(result), expected, `${trainers} trainers`);
      assertEquals(result.records.map(({ loss }) => loss), alone.records.map(({ loss }) => loss));
    }
    const config = place.config({ cluster: { trainers: 2, syncShards: 2 } });
    let joined: Promise<{ error?: Error }> | undefined;
    const two = await run({
      config,
      hosts: 2,
      onListening({ url, token }) {
        joined = joinAsHost("host-b", {
          controllerUrl: url,
          token,
          listen: "127.0.0.1",
          gpuEnvironment: gpuEnvironment(),
          adapters: [],
          grants: {
            addresses: ["127.0.0.1"],
            dataFolder: "",
            codeFolder: new URL("../..", import.meta.url).pathname,
            dawn: false,
          },
        }, () => {});
      },
    });
    assertEquals(digestOf(two), expected, "two hosts");
    const places = two.events.flatMap((event) => event.kind === "starting" ? event.actors : []);
    const hostOf = Object.fromEntries(places.map(({ id, host }) => [id, host]));
    assertEquals(
      [hostOf["trainer-0"], hostOf["trainer-1"], hostOf["sync-1"], hostOf.checkpointer],
      ["host-0", "host-b", "host-b", "host-0"],
    );
    assertEquals((await joined)?.error, undefined);
  });
});

Deno.test("an image that cannot be read is replaced and reported once, and the weights are the same on 2 trainers", async () => {
  await withRuns(async (place) => {
    await Deno.writeTextFile(`${place.images}/image-003.png`, "no image");
    const digests = new Set<string>();
    for (const trainers of [1, 2]) {
      const result = await run({ config: place.config({ cluster: { trainers } }) });
      digests.add(digestOf(result));
      const replaced = result.events.flatMap((event) => event.kind === "images-replaced" ? event.images : []);
      assertEquals(replaced.map(({ file }) => file), ["image-003.png"]);
      assert(replaced[0].replacement !== replaced[0].file);
    }
    assertEquals(digests.size, 1);
  });
});

Deno.test("a port that is in use is one clear error", async () => {
  const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  try {
    await withRuns(async (place) => {
      const { port } = taken.addr;
      const error: unknown = await run({ config: place.config({ cluster: { port } }) }).then(() => undefined, (e) => e);
      assert(error instanceof Error);
      assertStringIncludes(error.message, String(port));
      assertStringIncludes(error.message, "in use");
    });
  } finally {
    taken.close();
  }
});

Deno.test("a host with a wrong token is refused, and the run goes on without it", async () => {
  await withRuns(async (place) => {
    let refused: Promise<string> | undefined;
    const joinedHosts: string[] = [];
    const result = await run({
      config: place.config({ cluster: { trainers: 1 } }),
      onEvent(event: RunEvent) {
        if (event.kind === "host-joined") joinedHosts.push(event.host);
      },
      onListening({ url }) {
        const options = { controllerUrl: url, token: "wrong", listen: "127.0.0.1", gpuEnvironment: {}, adapters: [] };
        const grants = { addresses: ["127.0.0.1"], dataFolder: "", codeFolder: "/", dawn: false };
        refused = joinAsHost("host-x", { ...options, grants }, () => {}).then(
          ({ reason, error }) => error?.message ?? reason,
          (error) => error.message,
        );
      },
    });
    digestOf(result);
    assertEquals(joinedHosts, ["host-0"]);
    assertStringIncludes(await refused ?? "", "the token was refused");
  });
});
