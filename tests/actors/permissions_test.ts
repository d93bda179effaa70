import { assert, assertEquals } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { type HostGrants, permissionsOf } from "../../actors/permissions.ts";
import { spawnActor } from "../../actors/runtime/spawn.ts";

const entry = new URL("./verbs_entry.ts", import.meta.url);
const packages = /^file:\/\/(\/.*\/npm)\/[^/]+\/sharp\//.exec(import.meta.resolve("sharp"))?.[1] ?? "";

/** What each verb comes to in a process of `role`, with the flags and the environment that a host gives it. */
async function verbsOf(role: string, grants: HostGrants): Promise<Map<string, string>> {
  const lines: string[] = [];
  const actor = spawnActor({
    entry,
    permissions: permissionsOf(role, grants),
    onLogLine: (line) => lines.push(line),
    bootstrap: {
      id: role,
      role,
      controller: "controller",
      controllerUrl: "",
      token: "of this test",
      listen: "127.0.0.1",
      listenPort: 0,
      heartbeatMs: 1_000,
      options: { runFolder: grants.runFolder },
    },
  });
  const { code } = await deadline(actor.exited, 20_000);
  assertEquals(code, 0, lines.join("\n"));
  return new Map(lines.map((line) => JSON.parse(line) as [string, string]));
}

/** Verbs that a role cannot do without; all others are denied. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  sync: [],
  sinkhorn: [],
  trainer: [],
  checkpointer: [],
  // sharp looks up its settings; the environment is what the host gives, without its own.
  loader: ["read a variable", "read all variables"],
  // Decodes and computes: add-ons of two kinds, which look around.
  evaluator: ["read a system file", "read a variable", "read all variables", "load a library"],
  extractor: ["read a system file", "read a variable", "read all variables", "load a library"],
};

for (const [role, verbs] of Object.entries(allowed)) {
  Deno.test(`a ${role}'s process is denied every verb that it does not need`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "permissions-test-" });
    try {
      const grants: HostGrants = {
        addresses: ["127.0.0.1"],
        dataFolder: `${folder}/images`,
        runFolder: `${folder}/run`,
        codeFolder: new URL("../..", import.meta.url).pathname,
        packagesFolder: packages,
        dawn: false,
      };
      await Deno.mkdir(`${folder}/run`);
      await Deno.writeTextFile(`${folder}/run/join.secret`, "secret");
      const found = await verbsOf(role, grants);
      assert(found.size >= 17);
      const wrong = [...found].filter(([verb, outcome]) => verbs.includes(verb) === (outcome === "denied"));
      assertEquals(wrong, []);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("no role may read the run's secret, and only the checkpointer writes", () => {
  const base = { addresses: ["127.0.0.1"], dataFolder: "/images", runFolder: "/run", codeFolder: "/code" };
  for (const dawn of [false, true]) {
    for (const packagesFolder of [undefined, "/npm"]) {
      for (const role of Object.keys(allowed)) {
        const flags = permissionsOf(role, { ...base, dawn, packagesFolder });
        const reads = flags.some((flag) => flag === "--allow-read" || /^--allow-read=.*\/run\b/.test(flag));
        assertEquals(flags.includes("--deny-read=/run/join.secret"), reads, `${role}: ${flags.join(" ")}`);
        assertEquals(flags.some((flag) => flag.startsWith("--allow-write")), role === "checkpointer");
        assert(!flags.some((flag) => /^(-A|--allow-(all|run|import))/.test(flag)));
      }
    }
  }
});
