import { assert, assertEquals, assertMatch } from "@std/assert";
import { alive, digestOf, run, type RunResult, withRuns } from "./runs.ts";

/** Kills the process of `victim` after the second step; the run and the processes that it started. */
async function runWithKill(
  place: Parameters<Parameters<typeof withRuns>[0]>[0],
  victim: string,
): Promise<RunResult & { pids: number[] }> {
  const pids = new Map<string, number>();
  const result = await run({
    config: place.config({ steps: 500, cluster: { trainers: 2 } }, "killed"),
    onEvent(event) {
      if (event.kind === "started") pids.set(event.actor, event.pid);
      const pid = pids.get(victim);
      if (event.kind === "step" && event.record.step === 2 && pid !== undefined) Deno.kill(pid, "SIGKILL");
    },
  });
  return { ...result, pids: [...pids.values()] };
}

for (const victim of ["trainer-1", "sync-0", "loader-0", "host-0"]) {
  Deno.test(`when the process of ${victim} is killed, the run fails naming it, and no process is left`, async () => {
    await withRuns(async (place) => {
      const { outcome, records, pids } = await runWithKill(place, victim);
      assert(outcome.outcome === "failed", outcome.outcome);
      assertEquals([outcome.failure.actor, outcome.failure.host], [victim, "host-0"]);
      assertMatch(outcome.failure.error, /exit code 137|connection lost/);
      assert(records.length < 100, `${records.length} steps were taken after the loss`);
      // Actors of a killed host end by themselves, when they find that nobody holds their stdin.
      const waits = victim === "host-0" ? 50 : 0;
      for (const pid of pids) {
        for (let wait = 0; wait < waits && await alive(pid); wait++) await new Promise((go) => setTimeout(go, 100));
        assert(!await alive(pid), `process ${pid} is left`);
      }
    });
  });
}

Deno.test("a trainer that is frozen ends the run by name and is killed", async () => {
  await withRuns(async (place) => {
    let pid = 0;
    const { outcome } = await run({
      config: place.config({ steps: 500, cluster: { trainers: 2 } }),
      onEvent(event) {
        if (event.kind === "started" && event.actor === "trainer-1") pid = event.pid;
        if (event.kind === "step" && event.record.step === 2) Deno.kill(pid, "SIGSTOP");
      },
    });
    assert(outcome.outcome === "failed", outcome.outcome);
    assertEquals(outcome.failure.actor, "trainer-1");
    assertMatch(outcome.failure.error, /no pulse for/);
    assert(!await alive(pid), "the frozen process is left");
  });
});

Deno.test("a folder without images fails the run with the loader's own words and its last lines", async () => {
  await withRuns(async (place) => {
    for await (const { name } of Deno.readDir(place.images)) await Deno.remove(`${place.images}/${name}`);
    const { outcome } = await run({ config: place.config() });
    assert(outcome.outcome === "failed", outcome.outcome);
    assertEquals([outcome.failure.actor, outcome.failure.host], ["loader-0", "host-0"]);
    assertMatch(outcome.failure.error, /image/);
    assert(outcome.failure.lines.length > 0);
  });
});

Deno.test("a checkpoint of another recipe is refused on resume, with the remedy", async () => {
  await withRuns(async (place) => {
    digestOf(await run({ config: place.config({ steps: 3 }, "one"), singleProcess: true }));
    const { outcome } = await run({
      config: place.config({ steps: 3, seed: 1 }, "one"),
      resume: {},
      singleProcess: true,
    });
    assert(outcome.outcome === "failed", outcome.outcome);
    assertEquals(outcome.failure.actor, "checkpointer");
    assertMatch(outcome.failure.error, /another configuration; resume with the options of its run\.json/);
  });
});
