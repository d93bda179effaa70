import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { codeDigest, programParts } from "../../actors/code_digest.ts";
import { drive } from "./driven_controller.ts";

/** Folders of this repository that no run is made of. */
const apart = ["bench", "docs", "examples", "tests", "tools", "types"];

Deno.test("the digest of a program covers every room, and changes with any of its modules and with its packages", async () => {
  const root = new URL("../../", import.meta.url);
  const rooms = [...Deno.readDirSync(root)].filter(({ name, isDirectory }) =>
    isDirectory && !name.startsWith(".") && !apart.includes(name) &&
    [...Deno.readDirSync(new URL(`${name}/`, root))].some((entry) => entry.name.endsWith(".ts"))
  );
  for (const { name } of rooms) assert(programParts.includes(`${name}/`), `${name}/ is not in the digest`);
  assertMatch(codeDigest() ?? "", /^[0-9a-f]{64}$/);

  const folder = await Deno.makeTempDir({ prefix: "code-test-" });
  try {
    for (const part of programParts) {
      if (part.endsWith("/")) await Deno.mkdir(`${folder}/${part}`);
      else await Deno.writeTextFile(`${folder}/${part}`, part);
    }
    await Deno.mkdir(`${folder}/kernels/tile`);
    await Deno.writeTextFile(`${folder}/kernels/tile/a.ts`, "one\ntwo\n");
    const digest = () => codeDigest(new URL(`file://${folder}/`));
    const first = digest();
    await Deno.writeTextFile(`${folder}/experiment.ts`, "mine");
    await Deno.writeTextFile(`${folder}/kernels/notes.txt`, "mine");
    await Deno.writeTextFile(`${folder}/kernels/tile/a.ts`, "one\r\ntwo\r\n");
    assertEquals(digest(), first, "what runs are not made of, and line ends, do not count");
    const changes = [["kernels/tile/a.ts", "one\nthree\n"], ["deno.lock", "newer"], ["wire/b.ts", ""]];
    const digests = [];
    for (const [path, text] of changes) {
      await Deno.writeTextFile(`${folder}/${path}`, text);
      digests.push(digest());
    }
    assertEquals(new Set([first, ...digests]).size, 4);
    assertNotEquals(digests[2], first);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  assertEquals(codeDigest(new URL("https://example.org/seer/")), undefined, "code from elsewhere is of one version");
});

Deno.test("a host that runs other code than the controller is told so and sent away, and the run goes on", () => {
  const run = drive(2, ["host-0"], { code: "a".repeat(64) });
  run.step(0);
  run.sent();
  run.say("host-b", { type: "hello", id: "host-b", role: "host", url: null, pid: 77 });
  run.say("host-b", { type: "host-ready", adapters: [], code: "b".repeat(64) });
  assertEquals(run.sent(), ["stop host-b"]);
  const event = run.events.at(-1);
  assert(event?.kind === "refused");
  assertMatch(event.reason, /host-b runs other code than this run: bring it to the same version/);
  run.say("self", { type: "peer-down", peer: "host-b", reason: "it ended" });
  assertEquals(run.timers().filter((timer) => timer.startsWith("lost")), [], "that is no loss");
  run.step(1);
  assertEquals(run.kinds().slice(-2), ["commit", "step"]);
  run.say("host-c", { type: "host-ready", adapters: [], code: "a".repeat(64) });
  assertEquals(run.kinds().at(-1), "joining");
});
