/** Recovery of real processes: whoever is killed or frozen, the run ends with the weights of one that nothing happened to. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { program } from "../cli/program.ts";
import { alive, digestOf, gpuEnvironment, run, withRuns } from "./runs.ts";

Deno.test("whichever actor is killed, the run ends with the weights of a run that nothing happened to", async () => {
  await withRuns(async (place) => {
    const settings = { steps: 6, checkpoint: { everySteps: 2, keep: 2 } };
    const expected = digestOf(await run({ config: place.config(settings), singleProcess: true }));
    const victims = ["trainer-1", "sync-0", "loader-0", "sinkhorn", "checkpointer"];
    const pids = new Map<string, number>();
    const steps = new Set<number>();
    const result = await run({
      config: place.config({ ...settings, steps: 6, cluster: { trainers: 2, restarts: 3 } }),
      onEvent(event) {
        if (event.kind === "started") pids.set(event.actor, event.pid);
        if (event.kind !== "step" || steps.has(event.record.step)) return;
        steps.add(event.record.step);
        const pid = pids.get(victims[event.record.step]);
        if (pid !== undefined) Deno.kill(pid, "SIGKILL");
      },
    });
    assertEquals(digestOf(result), expected);
    const lost = result.events.flatMap((event) =>
      event.kind === "regrouping" && event.failure !== null ? [event.failure.actor] : []
    );
    assertEquals(lost, victims);
    assertEquals(result.events.filter(({ kind }) => kind === "restarting"), [], "the others keep their state");
  });
});

Deno.test("three of four trainers are killed at once in a run without a checkpoint, and no committed step is lost", async () => {
  await withRuns(async (place) => {
    const settings = { steps: 5, checkpoint: { everySteps: 0, keep: 2 } };
    const expected = digestOf(await run({ config: place.config(settings), singleProcess: true }));
    const pids = new Map<string, number>();
    let killed = false;
    const result = await run({
      config: place.config({ ...settings, cluster: { trainers: 4, restarts: 3 } }),
      onEvent(event) {
        if (event.kind === "started") pids.set(event.actor, event.pid);
        if (event.kind !== "step" || event.record.step !== 1 || killed) return;
        killed = true;
        for (const id of ["trainer-0", "trainer-2", "trainer-3"]) Deno.kill(pids.get(id) ?? 0, "SIGKILL");
      },
    });
    assertEquals(digestOf(result), expected);
    assertEquals(result.events.filter(({ kind }) => kind === "restarting" || kind === "resumed"), []);
    const steps = result.events.flatMap((event) => event.kind === "step" ? [event.record.step] : []);
    assertEquals(steps, [0, 1, 2, 3, 4]);
  });
});

Deno.test("a host joins a run under way and is killed later, and the run ends with the same weights", async () => {
  await withRuns(async (place) => {
    // Enough steps for the host to come, whose start takes longer than the run's own.
    const settings = { steps: 16, checkpoint: { everySteps: 4, keep: 2 } };
    const expected = digestOf(await run({ config: place.config(settings) }));
    let host: Deno.ChildProcess | undefined;
    let moved = false, killed = false;
    const result = await run({
      config: place.config({ ...settings, cluster: { trainers: 1, restarts: 3 } }),
      onListening({ url, token }) {
        host = program(["host", "--join", url], { ...gpuEnvironment(), SEER_TOKEN: token }).spawn();
      },
      onEvent(event) {
        if (event.kind === "regrouping" && event.joined.length > 0) moved = true;
        if (event.kind !== "step" || !moved || killed) return;
        killed = true;
        host?.kill("SIGKILL");
      },
    });
    await Promise.all([host?.stdout.cancel(), host?.stderr.cancel(), host?.status]);
    assertEquals(digestOf(result), expected);
    const changes = result.events.flatMap((event) => event.kind === "regrouping" ? [event.trainers.length] : []);
    assertEquals(changes.slice(0, 2), [2, 1], "trainers of each epoch");
    assertEquals(result.events.filter(({ kind }) => kind === "restarting"), [], "the others keep their state");
  });
});

Deno.test("the controller's own host is killed and later frozen: its actors go on, and none is left at the end", async () => {
  await withRuns(async (place) => {
    const settings = { steps: 8, checkpoint: { everySteps: 2, keep: 2 } };
    const expected = digestOf(await run({ config: place.config(settings), singleProcess: true }));
    let pid = 0, trainer = 0;
    const pids: number[] = [], signals: Deno.Signal[] = ["SIGKILL", "SIGSTOP"];
    const result = await run({
      config: place.config({ ...settings, cluster: { trainers: 2, stepTimeoutMs: 6_000, restarts: 3 } }),
      onEvent(event) {
        if (event.kind === "started") pids.push(event.pid);
        if (event.kind === "started" && event.actor === "host-0") pid = event.pid;
        if (event.kind === "started" && event.actor === "trainer-0") trainer = event.pid;
        if (event.kind !== "step" || event.record.step !== (signals.length === 2 ? 3 : 5)) return;
        const signal = signals.shift();
        if (signal !== undefined) Deno.kill(pid, signal);
        // One that its host cannot start anew before another host is there.
        if (signal === "SIGSTOP") Deno.kill(trainer, "SIGKILL");
      },
    });
    assertEquals(digestOf(result), expected);
    const kinds = result.events.map(({ kind }) => kind);
    assertEquals([kinds.includes("host-lost"), kinds.includes("restarting")], [true, false]);
    const starts = result.events.flatMap((event) => event.kind === "started" ? [event.actor] : []);
    assertEquals(starts.filter((id) => id === "sync-0"), ["sync-0"], "the same process all along");
    for (const pid of pids) assert(!await alive(pid), `process ${pid} is left`);
  });
});

Deno.test("two processes that take all of both cores make nobody look frozen", async () => {
  await withRuns(async (place) => {
    const busy = [1, 2].map(() =>
      new Deno.Command(Deno.execPath(), { args: ["eval", "while (true);"], stdout: "null", stderr: "null" }).spawn()
    );
    try {
      const config = place.config({ steps: 12, cluster: { trainers: 2, restarts: 3 } });
      const result = await run({ config });
      digestOf(result);
      assertEquals(result.events.filter(({ kind }) => kind === "restarting" || kind === "regrouping"), []);
    } finally {
      for (const process of busy) process.kill("SIGKILL");
      await Promise.all(busy.map((process) => process.status));
    }
  });
});

Deno.test("a trainer that is frozen is killed, and the run ends with the same weights", async () => {
  await withRuns(async (place) => {
    const expected = digestOf(await run({ config: place.config({ steps: 4 }), singleProcess: true }));
    let pid = 0, frozen = false;
    const result = await run({
      config: place.config({ steps: 4, cluster: { trainers: 2, restarts: 1 } }),
      onEvent(event) {
        if (event.kind === "started" && event.actor === "trainer-1") pid = event.pid;
        if (event.kind !== "step" || event.record.step !== 1 || frozen) return;
        frozen = true;
        Deno.kill(pid, "SIGSTOP");
      },
    });
    assertEquals(digestOf(result), expected);
    const lost = result.events.flatMap((event) =>
      event.kind === "regrouping" && event.failure !== null ? [event.failure] : []
    );
    assertEquals(lost.map(({ actor }) => actor), ["trainer-1"]);
    assertMatch(lost[0].error, /^no pulse for/);
  });
});
