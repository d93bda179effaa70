/** Limits of the system that processes of a run reach: who is ended for it, and what becomes of the run. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { RunEvent, RunFailure } from "../../actors/events.ts";
import { ControlGroup } from "./control_groups.ts";
import { digestOf, run, withRuns } from "./runs.ts";

const settings = { steps: 8, checkpoint: { everySteps: 4, keep: 2 } };

type Pids = ReadonlyMap<string, number>;

/** What is lost, and the host beside the controller too. */
function lossOf(event: RunEvent): RunFailure[] {
  const isLoss = (event.kind === "regrouping" || event.kind === "restarting" || event.kind === "host-lost") &&
    event.failure !== null;
  return isLoss ? [event.failure] : [];
}

/**
 * Runs with a group of that kind: `blow` is struck once, after step 1, and `onLoss` called with each loss. The losses, once
 * the weights are those of a run in peace.
 */
async function strickenRun(
  kind: "memory" | "pids",
  { blow, onLoss = () => Promise.resolve() }: {
    blow(group: ControlGroup, pids: Pids): Promise<void>;
    onLoss?(group: ControlGroup, failure: RunFailure): Promise<void>;
  },
): Promise<RunFailure[]> {
  const group = await ControlGroup.make(kind);
  assert(typeof group !== "string", `${group}`);
  const losses: RunFailure[] = [], deeds: Promise<void>[] = [], wrong: unknown[] = [];
  const act = (deed: Promise<void>) => deeds.push(deed.catch((error) => void wrong.push(error)));
  try {
    await withRuns(async (place) => {
      const expected = digestOf(await run({ config: place.config(settings), singleProcess: true }));
      const pids = new Map<string, number>();
      const result = await run({
        config: place.config({ ...settings, cluster: { trainers: 2, restarts: 5 } }),
        onEvent(event) {
          if (event.kind === "started") pids.set(event.actor, event.pid);
          if (event.kind === "step" && event.record.step === 1 && deeds.length === 0) act(blow(group, pids));
          for (const failure of lossOf(event)) {
            losses.push(failure);
            act(onLoss(group, failure));
          }
        },
      });
      await Promise.all(deeds);
      assertEquals(wrong, []);
      assertEquals(digestOf(result), expected);
    });
  } finally {
    await group.remove();
  }
  return losses;
}

/** Whether such groups are to be had, told where they are not. */
async function available(kind: "memory" | "pids"): Promise<boolean> {
  const group = Deno.build.os === "linux" ? await ControlGroup.make(kind) : "this is not Linux";
  if (typeof group !== "string") await group.remove();
  else console.log(`Not tested: limits on ${kind} by the system: ${group}`);
  return typeof group !== "string";
}

Deno.test({
  name:
    "a trainer that the system ends because its memory is used up is replaced, and the run ends with the same weights",
  ignore: !await available("memory"),
  async fn() {
    const losses = await strickenRun("memory", {
      async blow(group, pids) {
        await group.take(pids.get("trainer-1"));
        await group.limit(2 ** 20);
      },
    });
    assertEquals(losses.map(({ actor }) => actor), ["trainer-1"]);
    assertMatch(losses[0].error, /killed \(exit code 137, .* out of memory\)|connection lost/);
  },
});

Deno.test({
  name: "a host that may start no more processes for a while goes on, or another takes its place: the same weights",
  ignore: !await available("pids"),
  async fn() {
    const losses = await strickenRun("pids", {
      async blow(group, pids) {
        await group.take(pids.get("host-0"));
        await group.limit(await group.threads());
        const loader = pids.get("loader-0");
        assert(loader !== undefined);
        // Without it no step is taken.
        Deno.kill(loader, "SIGKILL");
      },
      async onLoss(group, { actor, error }) {
        if (actor === "host-0" || error.includes("could not be started")) await group.limit(10_000);
      },
    });
    assert(losses.every(({ actor }) => actor === "loader-0" || actor === "host-0"), JSON.stringify(losses));
    const refused = losses.filter(({ error }) => /^its process could not be started: .* unavailable/.test(error));
    // Where Deno itself wants a thread, the host ends.
    assert(refused.length > 0 || losses.some(({ actor }) => actor === "host-0"), JSON.stringify(losses));
  },
});
