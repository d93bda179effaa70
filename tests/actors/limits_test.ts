/** Limits of the system that processes of a run reach: who is ended for it, and what becomes of the run. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { RunEvent } from "../../actors/events.ts";
import { ControlGroup } from "./control_groups.ts";
import { digestOf, run, type RunPlace, withRuns } from "./runs.ts";

/** Whether such groups are to be had, told where they are not. */
async function available(kind: "memory" | "pids"): Promise<boolean> {
  const group = Deno.build.os === "linux" ? await ControlGroup.make(kind) : "this is not Linux";
  if (typeof group !== "string") await group.remove();
  else console.log(`Not tested: limits on ${kind} by the system: ${group}`);
  return typeof group !== "string";
}

const settings = { steps: 8, checkpoint: { everySteps: 4, keep: 2 } };

/** A run during which `blow` is called once, after step 1, with the processes by actor. */
async function struck(place: RunPlace, blow: (pids: ReadonlyMap<string, number>) => Promise<void>) {
  const pids = new Map<string, number>();
  let struck: Promise<void> | undefined;
  const result = await run({
    config: place.config({ ...settings, cluster: { trainers: 2, restarts: 3 } }),
    onEvent(event) {
      if (event.kind === "started") pids.set(event.actor, event.pid);
      if (event.kind === "step" && event.record.step === 1) struck ??= blow(pids);
    },
  });
  await struck;
  return result;
}

const losses = (events: readonly RunEvent[]) =>
  events.flatMap((event) => event.kind === "regrouping" && event.failure !== null ? [event.failure] : []);

Deno.test({
  name:
    "a trainer that the system ends because its memory is used up is replaced, and the run ends with the same weights",
  ignore: !await available("memory"),
  async fn() {
    const group = await ControlGroup.make("memory");
    assert(typeof group !== "string");
    try {
      await withRuns(async (place) => {
        const expected = digestOf(await run({ config: place.config(settings), singleProcess: true }));
        const { events, ...result } = await struck(place, async (pids) => {
          await group.take(pids.get("trainer-1") ?? 0);
          await group.limit(2 ** 20);
        });
        assertEquals(digestOf({ events, ...result }), expected);
        assertEquals(losses(events).map(({ actor }) => actor), ["trainer-1"]);
        assertMatch(losses(events)[0].error, /killed \(exit code 137, .* out of memory\)|connection lost/);
        assertEquals(events.filter(({ kind }) => kind === "restarting"), []);
      });
    } finally {
      await group.remove();
    }
  },
});

Deno.test({
  name: "a host that may start no more processes does not end the run: the same weights",
  ignore: !await available("pids"),
  async fn() {
    const group = await ControlGroup.make("pids");
    assert(typeof group !== "string");
    try {
      await withRuns(async (place) => {
        const expected = digestOf(await run({ config: place.config(settings), singleProcess: true }));
        const result = await struck(place, async (pids) => {
          await group.take(pids.get("host-0") ?? 0);
          await group.limit(await group.count());
          Deno.kill(pids.get("trainer-1") ?? 0, "SIGKILL");
          setTimeout(() => group.limit(10_000), 1_500);
        });
        assertEquals(digestOf(result), expected);
        assertEquals(losses(result.events)[0].actor, "trainer-1");
        // It tells so, unless Deno wants a thread too and the host ends, which another replaces then.
        const told = result.events.flatMap((event) => {
          if (event.kind === "newcomer-lost") return [event.error];
          return event.kind === "host-lost" ? [event.failure.error] : [];
        });
        assertMatch(told[0] ?? "", /could not be started: .*temporarily unavailable|its process|connection lost/);
      });
    } finally {
      await group.remove();
    }
  },
});
